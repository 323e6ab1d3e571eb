/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters of a checkpoint by optimizer group, in the order of the flat buffers. */
#ifndef UZ_ZERO_PARAMS_H
#define UZ_ZERO_PARAMS_H

#include <stddef.h>
#include <stdint.h>

#include "layout/model.h"
#include "torch/file.h"

/*
 * The table that `param_shapes` of a model-states file gives: the only authority on the order of
 * parameters in a flat group. Parameter p of group g is tensor group_first[g] + p of the model
 * (parameters are the first tensors that are added).
 */
struct uz_params {
    size_t n_groups;
    size_t *group_first; /* n_groups + 1 entries */
    uint64_t *numels;    /* of every parameter */
};

static inline size_t uz_params_in_group(const struct uz_params *params, size_t group)
{
    return params->group_first[group + 1] - params->group_first[group];
}

/*
 * Reads `param_shapes` (a list of {name: shape}, one per group) and adds its parameters to the
 * empty model. The dtype of the tensors is set later, when the partitions are known.
 */
int uz_params_read(struct uz_params *params, struct uz_model *model,
                   const struct uz_torch_file *file, const struct uz_node *param_shapes,
                   struct uz_error *err);

void uz_params_free(struct uz_params *params);

#endif
