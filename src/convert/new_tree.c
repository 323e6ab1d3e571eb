/* SPDX-License-Identifier: Apache-2.0 */
/* Stages a whole folder beside its final name. */
#include "convert/new_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clone.h"
#include "base/dir.h"
#include "base/file.h"
#include "base/mem.h"
#include "torch/content.h"

enum { BLOCK_NBYTES = 1 << 20 };

/* ---- The folder ---- */

static int make_dir(const char *path, struct uz_error *err)
{
    if (mkdir(path, 0777) < 0)
        return uz_fail_errno(err, errno, path, "cannot be made");
    return UZ_OK;
}

#define LATEST           "latest"
#define LATEST_UNIVERSAL "latest_universal"

static int write_latest(const char *dir, const char *name, const char *tag, struct uz_error *err)
{
    char *path = uz_path_join(dir, name);
    if (!path)
        return uz_fail_nomem(err, strlen(dir));
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    int rc = fd < 0 ? uz_fail_errno(err, errno, path, "cannot be made")
                    : uz_pwrite_all(fd, tag, strlen(tag), 0, path, err);
    if (fd >= 0 && close(fd) < 0 && rc == UZ_OK)
        rc = uz_fail_errno(err, errno, path, "cannot be written");
    free(path);
    return rc;
}

int uz_new_tree_open(struct uz_new_tree *tree, const char *out, const char *tag, bool universal,
                     struct uz_error *err)
{
    *tree = (struct uz_new_tree){0};
    UZ_TRY(uz_tree_open(&tree->tree, out, err));
    tree->tag_dir = uz_path_join(tree->tree.staging, tag);
    if (!tree->tag_dir)
        return uz_fail_nomem(err, strlen(tag));
    UZ_TRY(make_dir(tree->tag_dir, err));
    return write_latest(tree->tree.staging, universal ? LATEST_UNIVERSAL : LATEST, tag, err);
}

/* ---- Files ---- */

/* Told before the first byte, not when the disk is full. What shares blocks needs no room. */
static int check_room(struct uz_new_tree *tree, bool changes, struct uz_error *err)
{
    bool *checked = changes ? &tree->room_checked : &tree->all_room_checked;
    uint64_t need = changes ? tree->changed_nbytes : tree->all_nbytes;
    if (*checked)
        return UZ_OK;
    *checked = true;
    return uz_tree_check_room(tree->tree.out, need, err);
}

static int copy_content(const struct uz_new_tree *tree, struct uz_content *content, int fd,
                        const char *to, struct uz_error *err)
{
    unsigned char *block;
    int rc = UZ_OK;
    UZ_TRY(uz_alloc(&block, BLOCK_NBYTES, 1, err));
    size_t n = BLOCK_NBYTES;
    for (uint64_t done = 0; n == BLOCK_NBYTES && rc == UZ_OK; done += n) {
        rc = uz_content_read_some(content, block, BLOCK_NBYTES, done, &n, err);
        if (rc == UZ_OK)
            rc = uz_pwrite_all(fd, block, n, done, to, err);
        if (rc == UZ_OK && tree->tick && tree->tick(tree->tick_cookie, n))
            rc = uz_fail(err, UZ_CANCELLED, "cancelled");
    }
    free(block);
    return rc;
}

/* What was compressed whole becomes a plain file: it will be changed in place. */
static int unpack(const struct uz_new_tree *tree, const char *from, const char *to,
                  struct uz_error *err)
{
    struct uz_content *content;
    UZ_TRY(uz_content_open(&content, from, err));
    int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    int rc = fd < 0 ? uz_fail_errno(err, errno, to, "cannot be made")
                    : copy_content(tree, content, fd, to, err);
    if (fd >= 0 && close(fd) < 0 && rc == UZ_OK)
        rc = uz_fail_errno(err, errno, to, "cannot be written");
    uz_content_close(content);
    return rc;
}

static int add_changed(struct uz_new_tree *tree, const char *from, char *to, struct uz_error *err)
{
    enum uz_clone_how how = UZ_CLONE_COPY;
    bool packed = uz_has_suffix(to, ".zst");
    tree->n_changed++;
    if (!packed)
        UZ_TRY(uz_clone_share(from, to, false, &how, err));
    if (how == UZ_CLONE_REFLINK)
        return UZ_OK;
    UZ_TRY(check_room(tree, true, err));
    if (!packed)
        return uz_clone_copy(from, to, tree->tick, tree->tick_cookie, err);
    to[strlen(to) - strlen(".zst")] = '\0';
    return unpack(tree, from, to, err);
}

static int add_file(struct uz_new_tree *tree, const char *from, char *to, bool changed,
                    struct uz_error *err)
{
    enum uz_clone_how how = UZ_CLONE_COPY;
    if (access(to, F_OK) == 0)
        return UZ_OK; /* another folder had it first */
    if (changed)
        return add_changed(tree, from, to, err);
    UZ_TRY(uz_clone_share(from, to, true, &how, err));
    if (how == UZ_CLONE_COPY) {
        UZ_TRY(check_room(tree, false, err));
        UZ_TRY(uz_clone_copy(from, to, tree->tick, tree->tick_cookie, err));
    }
    tree->n_reflinked += how == UZ_CLONE_REFLINK;
    tree->n_linked += how == UZ_CLONE_LINK;
    tree->n_copied += how == UZ_CLONE_COPY;
    return UZ_OK;
}

int uz_new_tree_share(struct uz_new_tree *tree, const char *from, char *to, struct uz_error *err)
{
    return add_file(tree, from, to, false, err);
}

static int add_entry(struct uz_new_tree *tree, const FTSENT *entry, const char *from,
                     uz_is_changed_fn is_changed, const void *cookie, struct uz_error *err)
{
    const char *inner = entry->fts_path + strlen(from);
    char *to;
    if (entry->fts_info == FTS_DP || entry->fts_level == FTS_ROOTLEVEL)
        return UZ_OK;
    if (entry->fts_info == FTS_ERR || entry->fts_info == FTS_DNR || entry->fts_info == FTS_NS)
        return uz_fail_errno(err, entry->fts_errno, entry->fts_path, "cannot be read");
    if (entry->fts_info == FTS_DC)
        return uz_fail_at(err, UZ_CORRUPT, entry->fts_path, UZ_NO_OFFSET,
                          "is a link to a folder that it lies in");
    while (*inner == '/')
        inner++;
    to = uz_path_join(tree->tag_dir, inner);
    if (!to)
        return uz_fail_nomem(err, strlen(inner));
    int rc = UZ_OK;
    if (entry->fts_info == FTS_D)
        rc = access(to, F_OK) == 0 ? UZ_OK : make_dir(to, err);
    else if (entry->fts_info == FTS_F)
        rc = add_file(tree, entry->fts_path, to, is_changed(cookie, entry->fts_path), err);
    free(to); /* links that lead nowhere, pipes and devices stay behind */
    return rc;
}

int uz_new_tree_add(struct uz_new_tree *tree, const char *from, uz_is_changed_fn is_changed,
                    const void *cookie, struct uz_error *err)
{
    char *root = strdup(from);
    char *const roots[] = {root, NULL};
    if (!root)
        return uz_fail_nomem(err, strlen(from));
    FTS *walk = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL);
    int rc = walk ? UZ_OK : uz_fail_errno(err, errno, from, "cannot be listed");
    while (rc == UZ_OK) {
        errno = 0;
        const FTSENT *entry = fts_read(walk);
        if (!entry) {
            rc = errno ? uz_fail_errno(err, errno, from, "cannot be listed") : UZ_OK;
            break;
        }
        rc = add_entry(tree, entry, root, is_changed, cookie, err);
    }
    if (walk)
        fts_close(walk);
    free(root);
    return rc;
}

struct root_listing {
    struct uz_new_tree *tree;
    const char *root;
};

static int add_root_file(void *cookie, const char *name, struct uz_error *err)
{
    const struct root_listing *listing = cookie;
    struct uz_new_tree *tree = listing->tree;
    const char *root = listing->root;
    struct stat st;
    if (!strcmp(name, LATEST) || !strcmp(name, LATEST_UNIVERSAL))
        return UZ_OK; /* the other one would name a folder that is not in the new root */
    char *from = uz_path_join(root, name), *to = uz_path_join(tree->tree.staging, name);
    int rc = from && to ? UZ_OK : uz_fail_nomem(err, strlen(name));
    if (rc == UZ_OK && stat(from, &st) == 0 && S_ISREG(st.st_mode))
        rc = add_file(tree, from, to, false, err);
    free(from);
    free(to);
    return rc;
}

int uz_new_tree_add_root(struct uz_new_tree *tree, const char *root, struct uz_error *err)
{
    struct root_listing listing = {tree, root};
    return uz_each_entry(root, add_root_file, &listing, err);
}

/* ---- The end ---- */

int uz_new_tree_commit(struct uz_new_tree *tree, struct uz_error *err)
{
    return uz_tree_commit(&tree->tree, err);
}

void uz_new_tree_close(struct uz_new_tree *tree)
{
    uz_tree_close(&tree->tree);
    free(tree->tag_dir);
    *tree = (struct uz_new_tree){0};
}
