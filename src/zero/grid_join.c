/* SPDX-License-Identifier: Apache-2.0 */
/* Joins the local tensors of model-parallel ranks into logical tensors. */
#include "zero/grid_join.h"

int uz_grid_join(struct uz_model *model, const struct uz_grid *grid,
                 const struct uz_model *const *slices, struct uz_error *err)
{
    (void)model;
    return uz_fail_at(err, UZ_UNSUPPORTED, slices[0]->files[0], UZ_NO_OFFSET,
                      "tensor or pipeline parallelism is not supported yet: there are %u pipeline "
                      "stages (pp) and %u tensor ranks (tp)",
                      grid->pp, grid->tp);
}
