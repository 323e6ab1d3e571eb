/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flat group: where its parameters begin, how long its partitions are and what is padding. The
 * mapping of parameters to partitions itself is public: unzero/linkage.h.
 */
#ifndef UZ_LAYOUT_LINKAGE_H
#define UZ_LAYOUT_LINKAGE_H

#include <stdint.h>

#include <unzero/linkage.h>

#include "base/error.h"

/*
 * The mapping of a parameter to `fragment` of the linkage's flat partition, which has it: the last
 * step of uz_get_hp_fragment_mapping, for whoever has the addresses.
 */
int uz_hp_mapping_of(const struct uz_linkage *linkage, const struct uz_lp_param *param,
                     const struct uz_hp_fragment *fragment, struct uz_hp_mapping **mapping,
                     struct uz_error *err);

/*
 * Offsets of n parameters in their flat group: one after another, each followed by its alignment
 * padding (`paddings` may be NULL for none, `offsets` if only the sum is wanted). Gives the sum of
 * all in *total; UZ_CORRUPT when it does not fit 64 bits.
 */
int uz_flat_group_offsets(uint64_t n, const uint64_t *numels, const uint64_t *paddings,
                          uint64_t *offsets, uint64_t *total, struct uz_error *err);

/*
 * Elements at the end of partition `rank` (of `part_size` each) that lie past the flat group's
 * `total` elements: padding.
 */
uint64_t uz_partition_padding(uint64_t total, uint64_t part_size, uint64_t rank);

/*
 * How DeepSpeed keeps the books of padding: elements that a rank stores, and padding it records.
 * Up to 0.16.3 (stage_1_and_2.py, _get_groups_without_padding) all padding is booked on the last
 * rank, whose partition is the Python slice [:part_size - padding]; others are stored whole. From
 * 0.16.4 on each rank books and cuts off its own. The two differ where the padding exceeds one
 * partition.
 */
struct uz_partition_books {
    uint64_t numel, padding;
};

struct uz_partition_books uz_books_of_each_rank(uint64_t total, uint64_t part_size, uint64_t rank);
struct uz_partition_books uz_books_of_last_rank(uint64_t total, uint64_t part_size, uint64_t world,
                                                uint64_t rank);

/* BF16_Optimizer stores every partition whole and books all padding on the last rank. */
struct uz_partition_books uz_books_of_bf16_optimizer(uint64_t total, uint64_t part_size,
                                                     uint64_t world, uint64_t rank);

/* DeepSpeed's rule for the size of partitions: the flat buffer is a multiple of 2 * world. */
uint64_t uz_partition_size(uint64_t total, uint64_t world);

#endif
