/* SPDX-License-Identifier: Apache-2.0 */
/* A folder in memory and on the disk, which is damaged, verified and restored. */
#ifndef UZ_TESTS_VERIFY_TREE_H
#define UZ_TESTS_VERIFY_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "damage.h"
#include "scratch.h"

enum { TREE_MAX_FILES = 64 };

/* What the folder is; harms are for some of them. */
enum tree_kind {
    TREE_SAFETENSORS = 1, /* sharded, with an index */
    TREE_TORCH = 2,       /* the same of PyTorch files */
    TREE_UNIVERSAL = 4,   /* ZeRO 2 */
    TREE_UNIVERSAL3 = 8,
};

struct tree_file {
    char name[256]; /* path from the folder */
    uint8_t *data;
    size_t nbytes;
};

struct tree {
    enum tree_kind kind;
    char root[PATH_NBYTES];
    struct tree_file files[TREE_MAX_FILES]; /* by name */
    size_t n_files;
    char blamed[256]; /* end of the path that a finding must be about; "" if any will do */
};

/* Takes the files of a folder, with all in it. */
bool tree_open(struct tree *tree, const char *from, const char *root);
void tree_close(struct tree *tree);
void tree_restore(struct tree *tree);

/* The file whose path ends so; NULL if there is none. */
struct tree_file *tree_find(struct tree *tree, const char *end);

/* A way to damage a folder. */
struct tree_harm {
    const char *what; /* in the words of docs/verify.md */
    unsigned kinds;   /* enum tree_kind */
    const char *quick, *data;
    bool (*apply)(struct tree *tree); /* false: it could not be done */
};

extern const struct tree_harm tree_harms[];
extern const size_t n_tree_harms;

#endif
