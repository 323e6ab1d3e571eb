/* SPDX-License-Identifier: Apache-2.0 */
/* ZeRO 1 and 2: a flat group while it is joined, shared by join_stage12.c and join_muon.c. */
#ifndef UZ_ZERO_JOIN_FLAT_H
#define UZ_ZERO_JOIN_FLAT_H

#include "zero/join.h"

/* One group while it is joined: one flat buffer, or with experts one of each expert-parallel rank.
 */
struct uz_flat_group {
    size_t index;
    size_t first_param;
    struct uz_expert_ranks split;
    uint64_t n_parts; /* partitions that a buffer is cut into */
    uint64_t n_params;
    const uint64_t *numels;
    uint64_t *offsets;  /* of the parameters in the flat buffer */
    uint64_t total;     /* elements of the flat buffer without the padding at its end */
    uint64_t part_size; /* elements of every partition, padding included */
};

/* Index of the first parameter that ends after element `start` of the flat buffer. */
uint64_t uz_first_param_after(const struct uz_flat_group *group, uint64_t start);

/* Elements of all parameters that the partition which begins at `start` touches. */
uint64_t uz_numel_touched(const struct uz_flat_group *group, uint64_t start);

/*
 * Muon's momenta may be kept whole: a rank has those of all parameters that its partition touches,
 * one after another (deepspeed/runtime/zero/stage_1_and_2.py, _muon_momentum_buffer). *whole tells
 * it by the sizes on all ranks; with the optimizer on the CPU they are cut as the partitions are.
 * `state` is rank 0's. UZ_MISMATCH if a rank's has another size.
 */
int uz_muon_is_whole(const struct uz_flat_group *group, const struct uz_model *model,
                     const struct uz_ranks *ranks, const struct uz_optim_state *state, bool *whole,
                     struct uz_error *err);

/*
 * Joins a state that is kept whole into the tensors from first_tensor on. Each element comes from
 * the rank whose partition has its parameter's; the copies on other ranks become layers.
 */
int uz_muon_join(const struct uz_flat_group *group, struct uz_model *model,
                 const struct uz_params *params, const struct uz_ranks *ranks,
                 const struct uz_optim_state *state, uint32_t first_tensor, struct uz_error *err);

#endif
