/* SPDX-License-Identifier: Apache-2.0 */
/* Stages a whole folder beside its final name. */
#include "engine/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/file.h"
#include "base/mem.h"

/* ---- Names ---- */

/* Bytes of a path without the slashes at its end. */
static size_t trimmed(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n;
}

char *uz_tree_parent(const char *out)
{
    size_t n = trimmed(out);
    while (n > 0 && out[n - 1] != '/')
        n--;
    while (n > 1 && out[n - 1] == '/')
        n--;
    return n ? strndup(out, n) : strdup(".");
}

static int is_entry(void *cookie, const char *name, struct uz_error *err)
{
    (void)cookie;
    (void)name;
    (void)err;
    return 1; /* the first one ends the walk */
}

static int check_name(const char *out, struct uz_error *err)
{
    struct stat st;
    if (lstat(out, &st) < 0)
        return UZ_OK;
    if (!S_ISDIR(st.st_mode))
        return uz_fail_at(err, UZ_ARG, out, UZ_NO_OFFSET, "exists; give the name of a new folder");
    int rc = uz_each_entry(out, is_entry, NULL, err);
    if (rc > 0)
        return uz_fail_at(err, UZ_ARG, out, UZ_NO_OFFSET,
                          "exists and is not empty; give the name of a new folder");
    return rc;
}

int uz_tree_check(const char *out, struct uz_error *err)
{
    UZ_TRY(check_name(out, err));
    char *parent = uz_tree_parent(out);
    if (!parent)
        return uz_fail_nomem(err, strlen(out));
    int rc = UZ_OK;
    if (access(parent, W_OK | X_OK) < 0)
        rc = uz_fail_errno(err, errno, parent, "no folder can be made there");
    free(parent);
    return rc;
}

int uz_tree_check_room(const char *out, uint64_t nbytes, struct uz_error *err)
{
    struct uz_out_file file = {.nbytes = nbytes};
    const struct uz_out files = {.files = &file, .n_files = 1};
    const struct uz_stage_options options = {.dir = out};
    return uz_stage_check_room(&options, &files, err);
}

/* A name beside `out` that nobody else has. */
static int name_staging(struct uz_tree *tree, struct uz_error *err)
{
    if (asprintf(&tree->staging, "%s.unzero-partial.%ld", tree->out, (long)getpid()) < 0) {
        tree->staging = NULL;
        return uz_fail_nomem(err, strlen(tree->out));
    }
    return UZ_OK;
}

int uz_tree_open(struct uz_tree *tree, const char *out, struct uz_error *err)
{
    *tree = (struct uz_tree){.sync = UZ_SYNC_FULL};
    UZ_TRY(uz_tree_check(out, err));
    tree->out = strndup(out, trimmed(out));
    tree->parent = uz_tree_parent(out);
    if (!tree->out || !tree->parent)
        return uz_fail_nomem(err, strlen(out));
    UZ_TRY(name_staging(tree, err));
    if (mkdir(tree->staging, 0777) == 0)
        return UZ_OK;
    int rc = uz_fail_errno(err, errno, tree->staging, "cannot be made");
    free(tree->staging); /* somebody else's */
    tree->staging = NULL;
    return rc;
}

/* ---- Files ---- */

/* Makes the folders above the last part of a path, from byte `from` of it on. */
static int make_dirs(char *path, size_t from, struct uz_error *err)
{
    int rc = UZ_OK;
    for (char *slash = strchr(path + from, '/'); slash && rc == UZ_OK;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0777) < 0 && errno != EEXIST)
            rc = uz_fail_errno(err, errno, path, "cannot be made");
        *slash = '/';
    }
    return rc;
}

/* True if two paths lie in one folder. */
static bool same_dir(const char *a, const char *b)
{
    size_t n = (size_t)(uz_path_name(a) - a);
    return n == (size_t)(uz_path_name(b) - b) && !memcmp(a, b, n);
}

static int make_files(struct uz_tree *tree, const struct uz_out *out, char **paths,
                      struct uz_error *err)
{
    for (size_t i = 0; i < out->n_files; i++) {
        paths[i] = uz_path_join(tree->staging, out->files[i].name);
        if (!paths[i])
            return uz_fail_nomem(err, strlen(out->files[i].name));
        if (i == 0 || !same_dir(paths[i - 1], paths[i]))
            UZ_TRY(make_dirs(paths[i], strlen(tree->staging) + 1, err));
        UZ_TRY(uz_create_file(paths[i], out->files[i].nbytes, err));
    }
    return UZ_OK;
}

int uz_tree_make(struct uz_tree *tree, const struct uz_out *out, char ***paths,
                 struct uz_error *err)
{
    UZ_TRY(uz_alloc(paths, out->n_files, sizeof **paths, err));
    int rc = make_files(tree, out, *paths, err);
    if (rc < 0) {
        uz_tree_paths_free(*paths, out->n_files);
        *paths = NULL;
    }
    return rc;
}

void uz_tree_paths_free(char **paths, size_t n)
{
    for (size_t i = 0; paths && i < n; i++)
        free(paths[i]);
    free(paths);
}

/* ---- The end ---- */

/*
 * All of the file system at once: a tree may have ten thousands of files, and each fsync would wait
 * for the disk.
 */
static int sync_all(const char *dir, struct uz_error *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return uz_fail_errno(err, errno, dir, "cannot be opened");
    int rc = syncfs(fd) < 0 ? uz_fail_errno(err, errno, dir, "cannot be made durable") : UZ_OK;
    close(fd);
    return rc;
}

static int sync_dir(const char *dir, struct uz_error *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return uz_fail_errno(err, errno, dir, "cannot be opened");
    int rc = fsync(fd) < 0 ? uz_fail_errno(err, errno, dir, "cannot be made durable") : UZ_OK;
    close(fd);
    return rc;
}

int uz_tree_sync_parent(const struct uz_tree *tree, struct uz_error *err)
{
    return tree->sync == UZ_SYNC_FULL ? sync_dir(tree->parent, err) : UZ_OK;
}

/* A rename onto a folder succeeds only if that is empty, so nothing is ever replaced. */
int uz_tree_commit(struct uz_tree *tree, struct uz_error *err)
{
    if (tree->sync != UZ_SYNC_NONE)
        UZ_TRY(sync_all(tree->staging, err));
    if (rename(tree->staging, tree->out) < 0)
        return uz_fail_errno(err, errno, tree->out, "the new folder cannot get its name");
    free(tree->staging);
    tree->staging = NULL;
    return uz_tree_sync_parent(tree, err);
}

/* What cannot be removed stays; there is nobody to tell. */
static void remove_all(const char *dir)
{
    char *root = strdup(dir);
    char *const roots[] = {root, NULL};
    FTS *walk = root ? fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL) : NULL;
    for (const FTSENT *entry; walk && (entry = fts_read(walk)) != NULL;)
        if (entry->fts_info != FTS_D)
            (void)remove(entry->fts_accpath);
    if (walk)
        fts_close(walk);
    free(root);
}

void uz_tree_close(struct uz_tree *tree)
{
    if (tree->staging)
        remove_all(tree->staging);
    free(tree->staging);
    free(tree->out);
    free(tree->parent);
    *tree = (struct uz_tree){0};
}
