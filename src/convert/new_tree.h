/* SPDX-License-Identifier: Apache-2.0 */
/* A new checkpoint folder made out of an old one: most files shared, some copied to be changed. */
#ifndef UZ_CONVERT_NEW_TREE_H
#define UZ_CONVERT_NEW_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include <unzero/consolidate.h>

#include "base/clone.h"
#include "base/error.h"
#include "engine/tree.h"

/* True for a file that will be changed and so must be the new checkpoint's own. */
typedef bool (*uz_is_changed_fn)(const void *cookie, const char *path);

struct uz_new_tree {
    struct uz_tree tree;   /* its staging folder has latest and the tag folder */
    char *tag_dir;         /* in it */
    uz_clone_tick_fn tick; /* called for each block that is copied; set after opening; NULL: none */
    void *tick_cookie;
    /*
     * Bytes that are looked for on the file system before the first file is copied: those of all
     * files that change, and of all files at all where others cannot be shared. Set after opening.
     */
    uint64_t changed_nbytes, all_nbytes;
    bool room_checked, all_room_checked;
    uint64_t n_changed, n_reflinked, n_linked, n_copied;
};

/*
 * Makes the staging folder with `latest` (universal: `latest_universal`) and the folder of `tag`.
 * Free with uz_new_tree_close, after failures too.
 */
int uz_new_tree_open(struct uz_new_tree *tree, const char *out, const char *tag, bool universal,
                     struct uz_error *err);

/*
 * Brings everything in folder `from` (sub-folders, too) into the tag folder, but names that are
 * there already: as files of its own those that is_changed tells of, decompressed and without .zst
 * if they were compressed whole; shared with the old ones the others. UZ_IO with both numbers if
 * the file system has no room for what must be copied.
 */
int uz_new_tree_add(struct uz_new_tree *tree, const char *from, uz_is_changed_fn is_changed,
                    const void *cookie, struct uz_error *err);

/* Brings one file to path `to` in the new tree, shared; what is there already stays. */
int uz_new_tree_share(struct uz_new_tree *tree, const char *from, char *to, struct uz_error *err);

/*
 * Brings the files that stand beside the tag folder in the checkpoint's root (a trainer's state,
 * scripts), but `latest` and `latest_universal`, into the new root.
 */
int uz_new_tree_add_root(struct uz_new_tree *tree, const char *root, struct uz_error *err);

/* Makes everything durable and gives the staging folder the name `out`. */
int uz_new_tree_commit(struct uz_new_tree *tree, struct uz_error *err);

/* Removes what was not committed. */
void uz_new_tree_close(struct uz_new_tree *tree);

#endif
