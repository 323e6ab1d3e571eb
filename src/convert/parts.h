/* SPDX-License-Identifier: Apache-2.0 */
/* A run in several parts, of which one is in memory at a time. */
#ifndef UZ_CONVERT_PARTS_H
#define UZ_CONVERT_PARTS_H

#include <unzero/consolidate.h>

#include "engine/engine.h"
#include "engine/tree.h"

/* How far the whole is: all zero but the callback (may be NULL) and the total. */
struct uz_parts {
    uz_progress_fn progress;
    void *cookie;
    uint64_t nbytes_done, nbytes_total;
};

/* Fails where uz_parts_run would before it writes: pieces that lie outside their storages. */
int uz_parts_check(const struct uz_model *model, const struct uz_out *out, struct uz_error *err);

/*
 * Makes the files of `out` in the tree and fills them from the model. The progress of the options
 * is not looked at: that of `parts` is told of the whole.
 */
int uz_parts_run(struct uz_parts *parts, struct uz_tree *tree, const struct uz_model *model,
                 const struct uz_out *out, const struct uz_engine_options *engine,
                 struct uz_error *err);

#endif
