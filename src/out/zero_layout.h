/* SPDX-License-Identifier: Apache-2.0 */
/* ZeRO shards for a world: which parameter's elements lie where on which rank. */
#ifndef UZ_OUT_ZERO_LAYOUT_H
#define UZ_OUT_ZERO_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <unzero/linkage.h>

#include "base/error.h"

/* What of a configuration decides the layout. */
struct uz_zero_settings {
    int stage;               /* 1, 2, 3 */
    uint64_t world;          /* data-parallel ranks */
    bool bf16_optimizer;     /* BF16_Optimizer writes the shards: stage 1 */
    bool round_robin;        /* stages 1, 2 */
    bool align;              /* parameter_alignment: each begins at a multiple of 16 bytes */
    uint64_t sub_group_size; /* elements of a rank; stage 3 */
};

/* A parameter that the optimizer trains; it has elements. */
struct uz_zero_param {
    const char *name;
    uint32_t tensor; /* of the source's model */
    uint64_t numel;
    unsigned ndim;
    const uint64_t *shape;
    size_t lp_size; /* bytes of an element of its low-precision copy */
};

/* Parameters [first, first + n) are an optimizer group, in the module's order. */
struct uz_zero_group {
    size_t first, n;
};

/*
 * What has one flat partition on each rank: an optimizer group, or under stage 3 a sub-group.
 * Entry i of `params`, `offsets` and `paddings` is the i-th parameter of the buffer.
 */
struct uz_flat_group {
    size_t group; /* the optimizer group */
    size_t n;
    size_t *params;      /* numbers of the parameters */
    uint64_t *offsets;   /* in the whole buffer; stage 3: in each rank's part of it */
    uint64_t *paddings;  /* elements of padding behind each; all 0 under stage 3 */
    uint64_t total;      /* of the buffer without the padding at its end; 0 under stage 3 */
    uint64_t part_numel; /* of each rank's partition, padding included */
};

struct uz_zero_layout {
    struct uz_zero_settings settings;
    const struct uz_zero_param *params; /* borrowed, as are the groups */
    const struct uz_zero_group *groups;
    size_t n_groups;
    struct uz_flat_group *flats;
    size_t n_flats, cap_flats;
};

/*
 * Lays the groups out as DeepSpeed 0.19.8 does: runtime/zero/stage_1_and_2.py (round robin,
 * alignment, partitions of a multiple of two elements), bf16_optimizer.py, stage3.py
 * (_create_fp16_sub_groups). Free with uz_zero_layout_free, after failures too.
 */
int uz_zero_layout_make(struct uz_zero_layout *layout, const struct uz_zero_settings *settings,
                        const struct uz_zero_param *params, const struct uz_zero_group *groups,
                        size_t n_groups, struct uz_error *err);
void uz_zero_layout_free(struct uz_zero_layout *layout);

/* What rank `rank` has of the i-th parameter of a flat group; false: nothing. */
bool uz_zero_fragment(const struct uz_zero_layout *layout, const struct uz_flat_group *flat,
                      size_t i, uint64_t rank, struct uz_hp_fragment *fragment);

/*
 * Of a rank's partition of a flat group of stages 1 and 2: elements that
 * single_partition_of_fp32_groups shows, and padding that group_paddings records.
 */
struct uz_zero_books {
    uint64_t numel, padding;
};
struct uz_zero_books uz_zero_books(const struct uz_zero_layout *layout,
                                   const struct uz_flat_group *flat, uint64_t rank);

/* Elements of a rank's partition that are padding, wherever they lie. */
uint64_t uz_zero_padding(const struct uz_zero_layout *layout, const struct uz_flat_group *flat,
                         uint64_t rank);

#endif
