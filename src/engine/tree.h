/* SPDX-License-Identifier: Apache-2.0 */
/* A whole folder that is made beside its name and gets it when it is complete. */
#ifndef UZ_ENGINE_TREE_H
#define UZ_ENGINE_TREE_H

#include <stdint.h>

#include "base/error.h"
#include "engine/stage.h"
#include "out/target.h"

struct uz_tree {
    char *staging;     /* the folder, until it is committed: OUT.unzero-partial.PID */
    char *out;         /* what it will be called, without slashes at its end */
    char *parent;      /* the folder that `out` is to be in */
    enum uz_sync sync; /* UZ_SYNC_FULL after uz_tree_open */
};

/* malloc'ed folder that `out` is to be in; NULL without memory. */
char *uz_tree_parent(const char *out);

/* UZ_ARG if `out` exists and is not an empty folder, or cannot be made; touches nothing. */
int uz_tree_check(const char *out, struct uz_error *err);

/* UZ_IO with both numbers if the file system that `out` is to be on has no room for so much. */
int uz_tree_check_room(const char *out, uint64_t nbytes, struct uz_error *err);

/*
 * Checks `out` (copied) and makes the staging folder. Free with uz_tree_close, after failures too.
 */
int uz_tree_open(struct uz_tree *tree, const char *out, struct uz_error *err);

/*
 * Creates the files of `out` with their sizes, and the folders that their names name ("a/b.pt").
 * *paths, one for each file, are freed with uz_tree_paths_free.
 */
int uz_tree_make(struct uz_tree *tree, const struct uz_out *out, char ***paths,
                 struct uz_error *err);
void uz_tree_paths_free(char **paths, size_t n);

/*
 * Makes everything durable, as tree->sync tells, and gives the staging folder its name in one step.
 */
int uz_tree_commit(struct uz_tree *tree, struct uz_error *err);

/* Makes names in the folder that `out` is in durable, if tree->sync is UZ_SYNC_FULL. */
int uz_tree_sync_parent(const struct uz_tree *tree, struct uz_error *err);

/* Removes what was not committed. */
void uz_tree_close(struct uz_tree *tree);

#endif
