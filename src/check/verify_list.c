/* SPDX-License-Identifier: Apache-2.0 */
/* The folder, its files, and `latest`. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "check/verify_run.h"
#include "zero/shard_name.h"

enum { MAX_TAG_NBYTES = 4096 };

static bool is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* ---- Listing ---- */

typedef int (*entry_fn)(struct uz_verify_run *run, const char *dir, const char *name,
                        struct uz_error *err);

static int each_entry(struct uz_verify_run *run, const char *path, entry_fn fn,
                      struct uz_error *err)
{
    DIR *dir = opendir(path);
    int rc = UZ_OK;
    if (!dir)
        return uz_fail_errno(err, errno, path, "cannot be listed");
    while (rc == UZ_OK) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry && errno)
            rc = uz_fail_errno(err, errno, path, "cannot be listed");
        if (!entry)
            break;
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            rc = fn(run, path, entry->d_name, err);
    }
    closedir(dir);
    return rc;
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), n_end = strlen(end);
    return n >= n_end && !strcmp(name + n - n_end, end);
}

/* What interrupted saves and conversions leave behind. */
static bool is_leftover(const char *name)
{
    return !strcmp(name, ".unzero-partial") || !strncmp(name, "tmp-checkpoint-", 15) ||
           ends_with(name, ".tmp") || ends_with(name, ".partial") || ends_with(name, ".incomplete");
}

static int find_leftover(struct uz_verify_run *run, const char *dir, const char *name,
                         struct uz_error *err)
{
    if (!is_leftover(name))
        return UZ_OK;
    struct uz_where where = UZ_NOWHERE;
    char *path = uz_path_join(dir, name);
    where.file = path;
    int rc = path ? uz_find(&run->findings, UZ_FIND_LEFTOVER, &where, err,
                            "is what an interrupted run leaves behind")
                  : uz_fail_nomem(err, strlen(name));
    free(path);
    return rc;
}

static int add_record(struct uz_verify_run *run, const char *dir, const char *name,
                      struct uz_error *err)
{
    struct uz_shard_file shard = {0};
    struct uz_record *record;
    struct stat st;
    UZ_TRY(find_leftover(run, dir, name, err));
    if (!uz_parse_shard_name(name, &shard))
        return UZ_OK;
    if (run->n_records >= run->options->input.limits.max_shards)
        return uz_fail_at(err, UZ_LIMIT, dir, UZ_NO_OFFSET, "holds more than %llu shards",
                          (unsigned long long)run->options->input.limits.max_shards);
    UZ_TRY(UZ_APPEND(run->records, run->n_records, run->cap_records, &record, err));
    record->shard = shard;
    record->shard.name = strdup(name);
    record->path = uz_path_join(dir, name);
    if (!record->shard.name || !record->path)
        return uz_fail_nomem(err, strlen(name));
    if (stat(record->path, &st) == 0 && st.st_size > 0)
        record->nbytes = (uint64_t)st.st_size;
    return UZ_OK;
}

/* ---- Which folder ---- */

/* A folder in the checkpoint's root that holds shards. */
struct candidates {
    char *first;
    size_t n;
};

static bool holds_shards(const char *path)
{
    struct uz_shard_file shard;
    DIR *dir = opendir(path);
    bool found = false;
    for (const struct dirent *entry; dir && !found && (entry = readdir(dir));)
        found = uz_parse_shard_name(entry->d_name, &shard);
    if (dir)
        closedir(dir);
    return found;
}

/* Folders with shards in `root`, for a root whose `latest` does not tell. */
static int find_candidates(const char *root, struct candidates *found, struct uz_error *err)
{
    DIR *dir = opendir(root);
    if (!dir)
        return uz_fail_errno(err, errno, root, "cannot be listed");
    for (const struct dirent *entry; (entry = readdir(dir));) {
        char *path = uz_path_join(root, entry->d_name);
        if (path && strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") && is_dir(path) &&
            holds_shards(path)) {
            found->n++;
            if (!found->first) {
                found->first = path;
                continue;
            }
        }
        free(path);
    }
    closedir(dir);
    return UZ_OK;
}

/* Takes the only tag folder that there is, if there is just one. */
static int guess_dir(struct uz_verify_run *run, const char *root, struct candidates *found,
                     struct uz_error *err)
{
    UZ_TRY(find_candidates(root, found, err));
    if (found->n == 1) {
        run->dir = found->first;
        found->first = NULL;
    }
    return UZ_OK;
}

static int bad_latest(struct uz_verify_run *run, enum uz_find what, const char *root,
                      const char *latest, const char *message, struct uz_error *err)
{
    struct uz_where where = UZ_NOWHERE;
    struct candidates found = {0};
    where.file = latest;
    int rc = guess_dir(run, root, &found, err);
    if (rc == UZ_OK && what == UZ_FIND_LATEST_MISSING && found.n == 0)
        rc = uz_fail_at(err, UZ_FORMAT, root, UZ_NO_OFFSET,
                        "Unable to find 'latest' file at %s, and the folder holds no ZeRO shards",
                        latest);
    if (rc == UZ_OK)
        rc = uz_find(&run->findings, what, &where, err, "%s", message);
    free(found.first);
    return rc;
}

/* The text of `latest` without white space around it, in place. */
static char *strip(char *text)
{
    char *begin = text + strspn(text, " \t\r\n");
    size_t n = strlen(begin);
    while (n > 0 && strchr(" \t\r\n", begin[n - 1]))
        n--;
    begin[n] = '\0';
    return begin;
}

static int follow_latest(struct uz_verify_run *run, const char *root, const char *latest,
                         struct uz_error *err)
{
    char *text = NULL;
    size_t nbytes = 0;
    struct uz_error why = {0};
    if (uz_read_file(latest, MAX_TAG_NBYTES, &text, &nbytes, &why) < 0)
        return bad_latest(run, UZ_FIND_LATEST_INVALID, root, latest, why.message, err);
    bool is_text = !memchr(text, '\0', nbytes);
    const char *tag = strip(text);
    int rc;
    if (!is_text) {
        rc = bad_latest(run, UZ_FIND_LATEST_INVALID, root, latest, "is not a line of text", err);
    } else if (!*tag) {
        rc = bad_latest(run, UZ_FIND_LATEST_INVALID, root, latest, "is empty", err);
    } else if (strchr(tag, '/') || !strcmp(tag, ".") || !strcmp(tag, "..")) {
        rc = bad_latest(run, UZ_FIND_LATEST_INVALID, root, latest,
                        "does not hold the name of a folder", err);
    } else {
        run->dir = uz_path_join(root, tag);
        rc = run->dir ? UZ_OK : uz_fail_nomem(err, nbytes);
        if (rc == UZ_OK && !is_dir(run->dir)) {
            free(run->dir);
            run->dir = NULL;
            rc = bad_latest(run, UZ_FIND_LATEST_DANGLING, root, latest,
                            "names a folder that is not there", err);
        }
    }
    free(text);
    return rc;
}

/* Sets run->dir, or leaves it NULL after a finding that says why. */
static int find_dir(struct uz_verify_run *run, const char *path, const char *latest,
                    struct uz_error *err)
{
    struct stat st;
    const char *tag = run->options->input.tag;
    if (stat(path, &st) < 0)
        return uz_fail_errno(err, errno, path, "no checkpoint there");
    if (!S_ISDIR(st.st_mode))
        return uz_fail_at(err, UZ_FORMAT, path, UZ_NO_OFFSET,
                          "is not a folder; give the checkpoint folder");
    if (tag) {
        run->dir = uz_path_join(path, tag);
        if (run->dir && !is_dir(run->dir))
            return uz_fail_at(err, UZ_FORMAT, path, UZ_NO_OFFSET,
                              "holds no folder '%s', which --tag names", tag);
        return run->dir ? UZ_OK : uz_fail_nomem(err, strlen(path));
    }
    if (lstat(latest, &st) == 0)
        return follow_latest(run, path, latest, err);
    if (!holds_shards(path))
        return bad_latest(run, UZ_FIND_LATEST_MISSING, path, latest,
                          "is not there: nothing tells which save is the last one", err);
    run->dir = strdup(path);
    return run->dir ? UZ_OK : uz_fail_nomem(err, strlen(path));
}

/* ---- The list of records ---- */

static int compare_records(const void *a, const void *b)
{
    const struct uz_shard_file *x = &((const struct uz_record *)a)->shard;
    const struct uz_shard_file *y = &((const struct uz_record *)b)->shard;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    if (x->mp != y->mp)
        return x->mp < y->mp ? -1 : 1;
    if (x->dp != y->dp)
        return x->dp < y->dp ? -1 : 1;
    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    return strcmp(((const struct uz_record *)a)->path, ((const struct uz_record *)b)->path);
}

static int find_duplicates(struct uz_verify_run *run, struct uz_error *err)
{
    for (size_t i = 1; i < run->n_records; i++) {
        const struct uz_shard_file *x = &run->records[i - 1].shard;
        const struct uz_shard_file *y = &run->records[i].shard;
        if (x->kind != y->kind || x->mp != y->mp || x->dp != y->dp || x->layer != y->layer)
            continue;
        run->records[i].is_copy = true;
        if (x->kind == UZ_SHARD_MODEL && !strcmp(x->name, y->name))
            continue; /* every node writes them on node-local storage */
        struct uz_where where = uz_record_where(&run->records[i]);
        UZ_TRY(uz_find(&run->findings, UZ_FIND_DUPLICATE_SHARD, &where, err,
                       "and %s are shards of the same rank", run->records[i - 1].path));
    }
    return UZ_OK;
}

static int add_input_dir(struct uz_verify_run *run, const char *path, struct uz_error *err)
{
    char *tagged = uz_path_join(path, run->tag);
    if (!tagged)
        return uz_fail_nomem(err, strlen(path));
    int rc = each_entry(run, is_dir(tagged) ? tagged : path, add_record, err);
    free(tagged);
    return rc;
}

static int set_tag(struct uz_verify_run *run, struct uz_error *err)
{
    char *real = realpath(run->dir, NULL);
    run->tag = strdup(uz_path_name(real ? real : run->dir));
    free(real);
    return run->tag ? UZ_OK : uz_fail_nomem(err, strlen(run->dir));
}

static int list(struct uz_verify_run *run, const char *path, const char *latest,
                struct uz_error *err)
{
    UZ_TRY(find_dir(run, path, latest, err));
    if (!run->dir)
        return UZ_OK;
    UZ_TRY(set_tag(run, err));
    if (strcmp(run->dir, path))
        UZ_TRY(each_entry(run, path, find_leftover, err));
    UZ_TRY(each_entry(run, run->dir, add_record, err));
    for (size_t i = 0; i < run->options->input.n_input_dirs; i++)
        UZ_TRY(add_input_dir(run, run->options->input.input_dirs[i], err));
    if (run->n_records == 0) {
        struct uz_where where = UZ_NOWHERE;
        where.file = run->dir;
        return uz_find(&run->findings, UZ_FIND_MISSING_SHARD, &where, err,
                       "holds no ZeRO shards (*_model_states.pt, *_optim_states.pt)");
    }
    qsort(run->records, run->n_records, sizeof *run->records, compare_records);
    return find_duplicates(run, err);
}

int uz_verify_list(struct uz_verify_run *run, const char *path, struct uz_error *err)
{
    char *latest = uz_path_join(path, "latest");
    if (!latest)
        return uz_fail_nomem(err, strlen(path));
    int rc = list(run, path, latest, err);
    free(latest);
    return rc;
}
