/* SPDX-License-Identifier: Apache-2.0 */
/* Replaces old files by staged ones so that a failure on the way can be undone. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/order.h"
#include "engine/stage_impl.h"

/* What old files are called while they wait in the staging folder. */
#define REPLACED ".replaced"

/* ---- Names of files that are there ---- */

void uz_names_free(struct uz_names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->items[i]);
    free(names->items);
    *names = (struct uz_names){0};
}

static int add_name(struct uz_names *names, const char *name, size_t nbytes, struct uz_error *err)
{
    char **slot;
    UZ_TRY(UZ_APPEND(names->items, names->n, names->cap, &slot, err));
    *slot = strndup(name, nbytes);
    return *slot ? UZ_OK : uz_fail_nomem(err, nbytes);
}

static void sort_names(struct uz_names *names)
{
    if (names->n > 1)
        qsort(names->items, names->n, sizeof *names->items, uz_compare_texts);
}

/* Calls fn for every name of a folder; one that is not there is empty. */
static int each_entry(const char *path,
                      int (*fn)(void *cookie, DIR *dir, const char *name, struct uz_error *err),
                      void *cookie, struct uz_error *err)
{
    DIR *dir = opendir(path);
    int rc = UZ_OK;
    if (!dir)
        return errno == ENOENT ? UZ_OK : uz_fail_errno(err, errno, path, "cannot be listed");
    while (rc == UZ_OK) {
        errno = 0; /* the only way to tell a failure from the end */
        const struct dirent *entry = readdir(dir);
        if (!entry && errno != 0)
            rc = uz_fail_errno(err, errno, path, "cannot be listed to its end");
        if (!entry)
            break;
        rc = fn(cookie, dir, entry->d_name, err);
    }
    closedir(dir);
    return rc;
}

int uz_stage_outputs(struct uz_map **outputs, const struct uz_out *out, struct uz_error *err)
{
    struct uz_map *map = uz_map_new();
    int rc = map ? UZ_OK : uz_fail_nomem(err, sizeof(void *));
    for (size_t i = 0; i < out->n_files && rc == UZ_OK; i++)
        rc = uz_map_add(map, out->files[i].name, strlen(out->files[i].name), i, NULL, err);
    if (rc < 0)
        uz_map_free(map);
    else
        *outputs = map;
    return rc;
}

struct existing {
    struct uz_names *names;
    const struct uz_stage_options *options;
    const struct uz_map *outputs;
};

static int refuse_kind(const char *dir, const char *name, mode_t mode, struct uz_error *err)
{
    char *path = uz_path_join(dir, name);
    if (!path)
        return uz_fail_nomem(err, strlen(name));
    int rc = uz_fail_at(err, UZ_ARG, path, UZ_NO_OFFSET,
                        "is %s where a file of the output goes; move it away",
                        S_ISDIR(mode) ? "a folder" : "no regular file");
    free(path);
    return rc;
}

static int add_existing(void *cookie, DIR *dir, const char *name, struct uz_error *err)
{
    const struct existing *existing = cookie;
    const struct uz_stage_options *options = existing->options;
    bool is_output = uz_map_get(existing->outputs, name, strlen(name), NULL);
    struct stat st;
    if (!is_output && !(options->family && options->family(name)))
        return UZ_OK;
    if (fstatat(dirfd(dir), name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT
                   ? UZ_OK
                   : uz_fail_errno(err, errno, options->dir, "%s cannot be examined", name);
    if (S_ISDIR(st.st_mode) && !is_output)
        return UZ_OK;
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
        return refuse_kind(options->dir, name, st.st_mode, err);
    return add_name(existing->names, name, strlen(name), err);
}

int uz_stage_existing(struct uz_names *names, const struct uz_stage_options *options,
                      const struct uz_map *outputs, struct uz_error *err)
{
    struct existing existing = {.names = names, .options = options, .outputs = outputs};
    UZ_TRY(each_entry(options->dir, add_existing, &existing, err));
    sort_names(names);
    return UZ_OK;
}

/* ---- Moving old files aside and back ---- */

/* Renames DIR/name to STAGING/name.replaced, or back. */
static int move_old(const struct uz_stage *stage, const char *name, bool back, struct uz_error *err)
{
    char *final = uz_path_join(stage->options->dir, name), *aside = NULL;
    int rc = UZ_OK;
    if (!final || asprintf(&aside, "%s/%s" REPLACED, stage->staging, name) < 0) {
        free(final);
        return uz_fail_nomem(err, strlen(name));
    }
    if (rename(back ? aside : final, back ? final : aside) < 0)
        rc = uz_fail_errno(err, errno, final,
                           back ? "the old file cannot be put back" : "cannot be moved aside");
    free(final);
    free(aside);
    return rc;
}

struct leftovers {
    const struct uz_stage *stage;
    struct uz_names replaced; /* without the suffix */
    bool unfinished;          /* a file that never got its name is there too */
};

static int add_leftover(void *cookie, DIR *dir, const char *name, struct uz_error *err)
{
    struct leftovers *left = cookie;
    const struct uz_stage_options *options = left->stage->options;
    struct stat st;
    size_t n = strlen(name), n_end = strlen(REPLACED);
    if (fstatat(dirfd(dir), name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return uz_fail_errno(err, errno, left->stage->staging, "%s cannot be examined", name);
    if (S_ISDIR(st.st_mode))
        return UZ_OK;
    if (n <= n_end || strcmp(name + n - n_end, REPLACED) != 0) {
        left->unfinished = true;
        return UZ_OK;
    }
    UZ_TRY(add_name(&left->replaced, name, n - n_end, err));
    char *last = left->replaced.items[left->replaced.n - 1];
    if (uz_map_get(left->stage->outputs, last, n - n_end, NULL) ||
        (options->family && options->family(last)))
        return UZ_OK;
    left->replaced.n--; /* a commit never moved this one */
    free(last);
    return UZ_OK;
}

/*
 * A commit had come to its end if all new files left the staging folder and some are there: then
 * the old ones are waste, and one that was not replaced (a stale shard) must not come back. If it
 * had not, old files win over new ones of the same name: a mixture would pass for a model.
 */
static int put_back(const struct uz_stage *stage, const struct leftovers *left,
                    struct uz_error *err)
{
    struct uz_names existing = {0};
    int rc = UZ_OK;
    if (!left->unfinished) {
        rc = uz_stage_existing(&existing, stage->options, stage->outputs, err);
        bool finished = existing.n > 0;
        uz_names_free(&existing);
        if (rc < 0 || finished)
            return rc;
    }
    for (size_t i = 0; i < left->replaced.n && rc == UZ_OK; i++)
        rc = move_old(stage, left->replaced.items[i], true, err);
    return rc;
}

int uz_stage_recover(const struct uz_stage *stage, struct uz_error *err)
{
    struct leftovers left = {.stage = stage};
    int rc = each_entry(stage->staging, add_leftover, &left, err);
    sort_names(&left.replaced);
    if (rc == UZ_OK && left.replaced.n > 0)
        rc = put_back(stage, &left, err);
    uz_names_free(&left.replaced);
    return rc;
}

/* ---- Commit ---- */

static int sync_path(const char *path, bool data_only, struct uz_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return uz_fail_errno(err, errno, path, "cannot be opened");
    int failed = data_only ? fdatasync(fd) : fsync(fd);
    int rc = failed ? uz_fail_errno(err, errno, path, "cannot be made durable") : UZ_OK;
    close(fd);
    return rc;
}

/* The names of the files, and that of the output folder if it is new. */
static int sync_names(const struct uz_stage *stage, struct uz_error *err)
{
    if (stage->options->sync != UZ_SYNC_FULL)
        return UZ_OK;
    UZ_TRY(sync_path(stage->options->dir, false, err));
    if (!stage->made_dir)
        return UZ_OK;
    char *parent = uz_path_join(stage->options->dir, "..");
    int rc = parent ? sync_path(parent, false, err) : uz_fail_nomem(err, 0);
    free(parent);
    return rc;
}

static int rename_file(const struct uz_stage *stage, size_t i, struct uz_error *err)
{
    if (rename(stage->paths[i], stage->finals[i]) < 0)
        return uz_fail_errno(err, errno, stage->finals[i], "cannot be given its name");
    return UZ_OK;
}

/* How far an exchange of old files for new ones has come. */
struct swap {
    struct uz_stage *stage;
    struct uz_names old;
    size_t n_moved; /* old files that wait in the staging folder, from the last on */
    size_t n_named; /* new files that have their names, from the first on */
};

/* The index goes first and comes last, so it never tells of files that are not there. */
static int swap_files(struct swap *swap, struct uz_error *err)
{
    const struct uz_stage *stage = swap->stage;
    for (; swap->n_moved < swap->old.n; swap->n_moved++)
        UZ_TRY(move_old(stage, swap->old.items[swap->old.n - 1 - swap->n_moved], false, err));
    for (; swap->n_named < stage->out->n_files; swap->n_named++)
        UZ_TRY(rename_file(stage, swap->n_named, err));
    return sync_names(stage, err);
}

/* Makes sure that the next run sees that this commit did not come to its end. */
static void mark_unfinished(const struct uz_stage *stage)
{
    int fd = open(stage->paths[0], O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0)
        close(fd);
}

/* Undoes swap_files from its last step to its first; `failure` is why. */
static int roll_back(struct swap *swap, int failure, struct uz_error *err)
{
    struct uz_stage *stage = swap->stage;
    bool undone = true;
    for (size_t i = swap->n_named; i-- > 0;)
        if (rename(stage->finals[i], stage->paths[i]) < 0 && unlink(stage->finals[i]) < 0)
            undone = errno == ENOENT && undone;
    for (size_t i = swap->old.n - swap->n_moved; i < swap->old.n; i++)
        undone = move_old(stage, swap->old.items[i], true, NULL) == UZ_OK && undone;
    if (undone)
        return failure;
    mark_unfinished(stage);
    stage->may_empty = false;
    return uz_context(err, failure,
                      "the old files could not all be put back; they are kept in %s as "
                      "*" REPLACED ", the next run with the same output puts them back",
                      stage->staging);
}

/* One file takes the place of one: a single rename does that, and there is nothing to undo. */
static int replace_one(struct uz_stage *stage, struct uz_error *err)
{
    UZ_TRY(rename_file(stage, 0, err));
    stage->committed = true;
    return sync_names(stage, err);
}

static int give_names(struct swap *swap, struct uz_error *err)
{
    struct uz_stage *stage = swap->stage;
    const struct uz_out *out = stage->out;
    UZ_TRY(uz_stage_existing(&swap->old, stage->options, stage->outputs, err));
    if (swap->old.n > 0 && !stage->options->force)
        return uz_fail_at(err, UZ_ARG, stage->options->dir, UZ_NO_OFFSET,
                          "%s was put there in the meantime; --force replaces it",
                          swap->old.items[0]);
    if (out->n_files == 1 && swap->old.n == 1 && !strcmp(swap->old.items[0], out->files[0].name))
        return replace_one(stage, err);
    int rc = swap_files(swap, err);
    if (rc < 0)
        return roll_back(swap, rc, err);
    stage->committed = true;
    return UZ_OK;
}

int uz_stage_commit(struct uz_stage *stage, struct uz_error *err)
{
    enum uz_sync sync = stage->options->sync;
    struct swap swap = {.stage = stage};
    if (sync != UZ_SYNC_NONE)
        for (size_t i = 0; i < stage->out->n_files; i++)
            UZ_TRY(sync_path(stage->paths[i], sync == UZ_SYNC_DATA, err));
    int rc = give_names(&swap, err);
    uz_names_free(&swap.old);
    return rc;
}
