/* SPDX-License-Identifier: Apache-2.0 */
/* Joins the local tensors of model-parallel ranks into logical tensors. */
#ifndef UZ_ZERO_GRID_JOIN_H
#define UZ_ZERO_GRID_JOIN_H

#include "layout/model.h"
#include "zero/grid.h"

/*
 * `slices` are the finished models of all model-parallel ranks, in their order. Fills the empty
 * model, which is not finished yet.
 */
int uz_grid_join(struct uz_model *model, const struct uz_grid *grid,
                 const struct uz_model *const *slices, struct uz_error *err);

#endif
