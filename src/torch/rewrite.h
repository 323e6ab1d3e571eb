/* SPDX-License-Identifier: Apache-2.0 */
/* A value of a PyTorch file, to be saved again: its pickle, and which storages it needs. */
#ifndef UZ_TORCH_REWRITE_H
#define UZ_TORCH_REWRITE_H

#include "base/bytes.h"
#include "base/map.h"
#include "torch/file.h"
#include "torch/node_make.h"
#include "torch/node_write.h"

struct uz_rewritten_storage {
    const char *key; /* as the new pickle names it, which is as the file does */
    struct uz_storage_ref ref;
};

/* All zero to begin with; free with uz_rewrite_free, after failures too. */
struct uz_rewrite {
    struct uz_bytes pickle;
    struct uz_rewritten_storage *storages; /* in the order in which the pickle names them */
    size_t n, cap;
    struct uz_map *keys; /* of the storages */
};

/*
 * Makes the pickle of `root`: a node of the file, or one that was made and holds nodes of it. The
 * maker holds what is made on the way, and must outlive the result. `replace` and `cookie` of the
 * options are the caller's. A storage that was made has no elements.
 * Storages of files before PyTorch 0.4 that are views of others are UZ_UNSUPPORTED.
 */
int uz_torch_rewrite(struct uz_rewrite *rewrite, struct uz_torch_file *file,
                     const struct uz_node *root, struct uz_maker *maker,
                     const struct uz_node_write_options *options, struct uz_error *err);

void uz_rewrite_free(struct uz_rewrite *rewrite);

#endif
