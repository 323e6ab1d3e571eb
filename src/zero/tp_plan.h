/* SPDX-License-Identifier: Apache-2.0 */
/* Where the elements of tensor ranks' shards go in the tensor they are joined to. */
#ifndef UZ_ZERO_TP_PLAN_H
#define UZ_ZERO_TP_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout/placement.h"
#include "zero/tp_rules.h"

/* What a tensor rank holds of a tensor. */
struct uz_tp_shard {
    bool is_there;
    unsigned ndim;
    const uint64_t *shape;
    uint64_t numel;
};

enum uz_tp_role {
    UZ_TP_PART,  /* the elements that are taken */
    UZ_TP_COPY,  /* elements that another rank holds, too: to be compared */
    UZ_TP_ADDEND /* other values of all elements: to be averaged */
};

struct uz_tp_part {
    uint32_t rank;
    enum uz_tp_role role;
    uint32_t owner; /* COPY: a rank whose part it is a copy of */
    struct uz_placement placement;
};

/* A joined tensor. */
struct uz_tp_plan {
    unsigned ndim;
    uint64_t shape[UZ_MAX_BLOCK_DIMS];
    uint64_t numel;
    bool is_scaled;           /* elements of weights are divided; moments cannot be had */
    struct uz_tp_part *parts; /* in the order of ranks */
    size_t n_parts, cap_parts;
};

/*
 * Joins the shards of n_ranks ranks by a rule. UZ_MISMATCH, UZ_CORRUPT or UZ_UNSUPPORTED names the
 * tensor and what does not fit: shapes, a rank without a shard, widths, a 0-dim tensor that nothing
 * declares to be replicated. What placements need is put into the arena. Free with
 * uz_tp_plan_free, after failures too.
 */
int uz_tp_plan_make(struct uz_tp_plan *plan, const char *name, const struct uz_tp_rules *rules,
                    const struct uz_tp_rule *rule, const struct uz_tp_shard *shards,
                    uint32_t n_ranks, struct uz_arena *arena, struct uz_error *err);

void uz_tp_plan_free(struct uz_tp_plan *plan);

#endif
