/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters of a checkpoint by optimizer group, in the order of the flat buffers. */
#ifndef UZ_ZERO_PARAMS_H
#define UZ_ZERO_PARAMS_H

#include <stddef.h>
#include <stdint.h>

#include "layout/model.h"
#include "layout/split.h"
#include "torch/file.h"
#include "zero/experts.h"

/*
 * The table that `param_shapes` of a model-states file gives: the only authority on the order of
 * parameters in a flat group. Group g has the parameters [group_first[g], group_first[g + 1]) and
 * the tensors [group_tensor[g], group_tensor[g + 1]) of the model, which are the first that are
 * added.
 *
 * A plain parameter is one tensor. Experts' parameters stand in the list once, but every
 * expert-parallel rank has its own under the same name (struct uz_experts):
 *   - native MoE: parameter p is tensor tensors[p] + e on expert-parallel rank e;
 *   - AutoEP: parameter p is a stack of experts (stacks[p]), and all ranks' stacks are one tensor.
 */
struct uz_params {
    size_t n_groups;
    size_t *group_first;                 /* n_groups + 1 entries */
    uint32_t *group_tensor;              /* n_groups + 1 entries */
    struct uz_expert_ranks *group_ranks; /* of each group; ep is 1 if it has no experts */
    bool *group_has_experts;
    uint64_t *numels;   /* of every parameter, on one rank */
    const char **names; /* as the files have them */
    uint32_t *tensors;
    const struct uz_expert_layer **stacks; /* NULL: no stack */
    const char *const *group_names; /* of each group on rank 0, if there are experts; or NULL */
    size_t n, cap_numels, cap_names, cap_tensors, cap_stacks;
};

static inline size_t uz_params_in_group(const struct uz_params *params, size_t group)
{
    return params->group_first[group + 1] - params->group_first[group];
}

/* What the parameters are read from. */
struct uz_params_source {
    const struct uz_torch_file *file;   /* model states */
    const struct uz_node *param_shapes; /* a list of {name: shape}, one per group */
    const struct uz_experts *experts;
    uint64_t world; /* data-parallel ranks */
};

/*
 * Reads `param_shapes` and adds its parameters to the empty model. The dtype of the tensors is set
 * later, when the partitions are known.
 */
int uz_params_read(struct uz_params *params, struct uz_model *model,
                   const struct uz_params_source *source, struct uz_error *err);

/* Partitions that a group is cut into. */
static inline uint64_t uz_params_n_parts(const struct uz_params *params, size_t group)
{
    return params->group_ranks[group].dp / params->group_ranks[group].ep;
}

/*
 * Adds the piece of parameter number `param` that a rank of expert-parallel rank ep_rank stores;
 * `piece` counts elements as that rank does and lacks the tensor. The piece goes to the parameter's
 * tensor, or to the one of a state whose tensors for the parameter's group begin at first_tensor
 * (group_tensor[g] for the weights).
 */
int uz_params_add_piece(const struct uz_params *params, struct uz_model *model, size_t group,
                        size_t param, uint64_t ep_rank, uint32_t first_tensor,
                        const struct uz_piece *piece, struct uz_error *err);

void uz_params_free(struct uz_params *params);

#endif
