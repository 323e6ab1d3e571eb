/* SPDX-License-Identifier: Apache-2.0 */
/* The folder, its files, and `latest`. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/file.h"
#include "check/verify_run.h"
#include "check/verify_universal.h"
#include "zero/shard_name.h"

enum { MAX_TAG_NBYTES = 4096 };

/* ---- Listing ---- */

/* A folder whose names are gone through. */
struct listing {
    struct uz_verify_run *run;
    const char *dir;
};

static int each_entry(struct uz_verify_run *run, const char *dir, uz_entry_fn fn,
                      struct uz_error *err)
{
    struct listing listing = {run, dir};
    return uz_each_entry(dir, fn, &listing, err);
}

/* What interrupted saves and conversions leave behind. */
static bool is_leftover(const char *name)
{
    return !strcmp(name, ".unzero-partial") || !strncmp(name, "tmp-checkpoint-", 15) ||
           uz_ends_with(name, ".tmp") || uz_ends_with(name, ".partial") ||
           uz_ends_with(name, ".incomplete");
}

static int find_leftover(void *cookie, const char *name, struct uz_error *err)
{
    const struct listing *listing = cookie;
    if (!is_leftover(name))
        return UZ_OK;
    struct uz_where where = UZ_NOWHERE;
    char *path = uz_path_join(listing->dir, name);
    where.file = path;
    int rc = path ? uz_find(&listing->run->findings, UZ_FIND_LEFTOVER, &where, err,
                            "is what an interrupted run leaves behind")
                  : uz_fail_nomem(err, strlen(name));
    free(path);
    return rc;
}

int uz_verify_find_leftovers(struct uz_verify_run *run, const char *dir, struct uz_error *err)
{
    return each_entry(run, dir, find_leftover, err);
}

/* A record without content; the path is taken over, also when this fails. */
static int new_record(struct uz_verify_run *run, char *path, struct uz_record **out,
                      struct uz_error *err)
{
    struct uz_record *record;
    struct stat st;
    uint64_t most = run->options->input.limits.max_shards;
    int rc = path ? UZ_OK : uz_fail_nomem(err, 0);
    if (rc == UZ_OK && run->n_records >= most)
        rc = uz_fail_at(err, UZ_LIMIT, run->dir, UZ_NO_OFFSET, "holds more than %llu files",
                        (unsigned long long)most);
    if (rc == UZ_OK)
        rc = uz_reserve(&run->records, &run->cap_records, (uint64_t)run->n_records + 1,
                        sizeof *run->records, err);
    if (rc < 0) {
        free(path);
        return rc;
    }
    record = &run->records[run->n_records++];
    *record = (struct uz_record){.path = path, .shard.name = strdup(uz_path_name(path))};
    if (stat(path, &st) == 0 && st.st_size > 0)
        record->nbytes = (uint64_t)st.st_size;
    *out = record;
    return record->shard.name ? UZ_OK : uz_fail_nomem(err, strlen(path));
}

int uz_verify_add_loose(struct uz_verify_run *run, const char *path, struct uz_record **record,
                        struct uz_error *err)
{
    UZ_TRY(new_record(run, strdup(path), record, err));
    (*record)->is_loose = true;
    return UZ_OK;
}

static int add_record(void *cookie, const char *name, struct uz_error *err)
{
    const struct listing *listing = cookie;
    struct uz_shard_file shard = {0};
    struct uz_record *record;
    UZ_TRY(find_leftover(cookie, name, err));
    if (!uz_parse_shard_name(name, &shard))
        return UZ_OK;
    UZ_TRY(new_record(listing->run, uz_path_join(listing->dir, name), &record, err));
    shard.name = record->shard.name;
    record->shard = shard;
    return UZ_OK;
}

/* ---- Which folder ---- */

/* Folders with shards in a root whose `latest` does not tell which one counts. */
struct candidates {
    const char *root;
    char *first;
    size_t n;
};

enum { FOUND_SHARD = 1 };

static int find_shard(void *cookie, const char *name, struct uz_error *err)
{
    struct uz_shard_file shard;
    (void)cookie;
    (void)err;
    return uz_parse_shard_name(name, &shard) ? FOUND_SHARD : UZ_OK;
}

static bool holds_shards(const char *path)
{
    return uz_each_entry(path, find_shard, NULL, NULL) == FOUND_SHARD;
}

static int add_candidate(void *cookie, const char *name, struct uz_error *err)
{
    struct candidates *found = cookie;
    char *path = uz_path_join(found->root, name);
    if (!path)
        return uz_fail_nomem(err, strlen(name));
    if (uz_is_dir(path) && holds_shards(path) && found->n++ == 0)
        found->first = path;
    else
        free(path);
    return UZ_OK;
}

/* Takes the only tag folder that there is, if there is just one. */
static int guess_dir(struct uz_verify_run *run, struct candidates *found, struct uz_error *err)
{
    UZ_TRY(uz_each_entry(found->root, add_candidate, found, err));
    if (found->n == 1) {
        run->dir = found->first;
        found->first = NULL;
    }
    return UZ_OK;
}

/* Whether the tag folder has the one that universal checkpoints keep parameters in. */
static bool has_zero(const struct uz_verify_run *run)
{
    char *zero = run->dir ? uz_path_join(run->dir, "zero") : NULL;
    bool there = zero && uz_is_dir(zero);
    free(zero);
    return there;
}

static int bad_latest(struct uz_verify_run *run, enum uz_find what, const char *root,
                      const char *latest, const char *message, struct uz_error *err)
{
    struct uz_where where = UZ_NOWHERE;
    struct candidates found = {.root = root};
    int rc = guess_dir(run, &found, err);
    char *universal = has_zero(run) ? uz_path_join(root, "latest_universal") : NULL;
    where.file = universal ? universal : latest;
    if (rc == UZ_OK && what == UZ_FIND_LATEST_MISSING && found.n == 0)
        rc = uz_fail_at(err, UZ_FORMAT, root, UZ_NO_OFFSET,
                        "Unable to find 'latest' file at %s, and the folder holds no ZeRO shards",
                        latest);
    if (rc == UZ_OK)
        rc = uz_find(&run->findings, what, &where, err, "%s", message);
    free(universal);
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
        if (rc == UZ_OK && !uz_is_dir(run->dir)) {
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
        if (run->dir && !uz_is_dir(run->dir))
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
    const struct uz_record *x = a, *y = b;
    if (x->is_loose != y->is_loose)
        return x->is_loose - y->is_loose;
    int order = uz_compare_cells(&x->shard, &y->shard);
    return order ? order : strcmp(x->path, y->path);
}

static int find_duplicates(struct uz_verify_run *run, struct uz_error *err)
{
    for (size_t i = 1; i < run->n_records; i++) {
        const struct uz_shard_file *x = &run->records[i - 1].shard;
        const struct uz_shard_file *y = &run->records[i].shard;
        if (run->records[i].is_loose || uz_compare_cells(x, y) != 0)
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
    int rc = each_entry(run, uz_is_dir(tagged) ? tagged : path, add_record, err);
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

/* A universal checkpoint: parameters stand in zero/, and no rank has an optimizer shard. */
static bool is_universal(const struct uz_verify_run *run)
{
    for (size_t i = 0; i < run->n_records; i++)
        if (run->records[i].shard.kind == UZ_SHARD_OPTIM)
            return false;
    return has_zero(run);
}

static int list(struct uz_verify_run *run, const char *path, const char *latest,
                struct uz_error *err)
{
    UZ_TRY(find_dir(run, path, latest, err));
    if (!run->dir)
        return UZ_OK;
    UZ_TRY(set_tag(run, err));
    if (strcmp(run->dir, path))
        UZ_TRY(uz_verify_find_leftovers(run, path, err));
    UZ_TRY(each_entry(run, run->dir, add_record, err));
    for (size_t i = 0; i < run->options->input.n_input_dirs; i++)
        UZ_TRY(add_input_dir(run, run->options->input.input_dirs[i], err));
    run->kind = is_universal(run) ? UZ_INPUT_UNIVERSAL : UZ_INPUT_ZERO;
    if (run->n_records == 0) {
        struct uz_where where = UZ_NOWHERE;
        where.file = run->dir;
        UZ_TRY(uz_find(&run->findings, UZ_FIND_MISSING_SHARD, &where, err,
                       run->kind == UZ_INPUT_UNIVERSAL
                           ? "holds no *_model_states.pt, which tell names and shapes"
                           : "holds no ZeRO shards (*_model_states.pt, *_optim_states.pt)"));
    }
    if (run->kind == UZ_INPUT_UNIVERSAL)
        UZ_TRY(uz_verify_list_universal(run, err));
    if (run->n_records > 1)
        qsort(run->records, run->n_records, sizeof *run->records, compare_records);
    return find_duplicates(run, err);
}

int uz_verify_list(struct uz_verify_run *run, const char *path, struct uz_error *err)
{
    char *latest =
        uz_path_join(path, run->kind == UZ_INPUT_UNIVERSAL ? "latest_universal" : "latest");
    if (!latest)
        return uz_fail_nomem(err, strlen(path));
    int rc = list(run, path, latest, err);
    free(latest);
    return rc;
}
