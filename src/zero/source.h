/* SPDX-License-Identifier: Apache-2.0 */
/* From views of PyTorch files to places and pieces of the model. */
#ifndef UZ_ZERO_SOURCE_H
#define UZ_ZERO_SOURCE_H

#include "layout/model.h"
#include "torch/file.h"
#include "zero/optim_shard.h"

static inline bool uz_view_is_of(const struct uz_view *view, const struct uz_tensor *tensor)
{
    return uz_same_shape(view->ndim, view->shape, tensor->ndim, tensor->shape);
}

/* Adds a storage of file number `file` to the model's places. */
int uz_source_add_place(struct uz_model *model, uint32_t file, const struct uz_storage *storage,
                        uint32_t *place, struct uz_error *err);

/*
 * The same for a flat tensor of a rank: `what` tells all of the partition but where its elements
 * are.
 */
int uz_source_add_partition(struct uz_model *model, uint32_t file, const struct uz_flat_view *view,
                            struct uz_partition what, uint32_t *place, struct uz_error *err);

/* The piece that a whole stored tensor is of `tensor`; its storage becomes a place. */
int uz_source_whole(struct uz_model *model, uint32_t file, const struct uz_view *view,
                    uint32_t tensor, struct uz_piece *piece, struct uz_error *err);

#endif
