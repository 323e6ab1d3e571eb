/* SPDX-License-Identifier: Apache-2.0 */
/* Joins the ranks' partitions: gives the parameters their pieces. */
#ifndef UZ_ZERO_JOIN_H
#define UZ_ZERO_JOIN_H

#include "layout/model.h"
#include "zero/frozen.h"
#include "zero/optim_shard.h"
#include "zero/params.h"

/* The shards of all data-parallel ranks; shard r was read from file optim_files[r] of the model. */
struct uz_ranks {
    uint64_t world;
    const char *state; /* the optimizer state to join beside the weights, "all", or NULL */
    const struct uz_optim_shard *shards;
    const uint32_t *optim_files;
    /* ZeRO-3: frozen slices of rank r in frozen_slices[r], from file model_files[r] */
    struct uz_flat_view *const *frozen_slices;
    const uint32_t *model_files;
};

/*
 * The view of a state that rank 0 has in group (ZeRO-3: sub-group) number `group`, on rank `rank`.
 * UZ_MISMATCH if that rank lacks it or stores it in another dtype.
 */
int uz_ranks_state(const struct uz_ranks *ranks, const struct uz_model *model, uint64_t rank,
                   size_t group, const struct uz_optim_state *state,
                   const struct uz_flat_view **view, struct uz_error *err);

/* ZeRO 1 and 2: each group is one flat buffer, cut into equal partitions. */
int uz_join_stage12(struct uz_model *model, const struct uz_params *params,
                    const struct uz_ranks *ranks, struct uz_error *err);

/* ZeRO 3: each parameter is split on its own. */
int uz_join_stage3(struct uz_model *model, const struct uz_params *params,
                   const struct uz_ranks *ranks, struct uz_error *err);

/* ZeRO 3: the frozen parameters. */
int uz_join_frozen(struct uz_model *model, const struct uz_frozen *frozen,
                   const struct uz_ranks *ranks, struct uz_error *err);

#endif
