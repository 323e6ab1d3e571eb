/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lp -> hp mapping: which part of a low-precision parameter lies where in a rank's partition of
 * the flat high-precision group (DeepSpeed: deepspeed/utils/mixed_precision_linkage.py and
 * tensor_fragment.py).
 */
#ifndef UZ_LAYOUT_LINKAGE_H
#define UZ_LAYOUT_LINKAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* A run of elements: the address of a fragment in a parameter or in a partition. */
struct uz_fragment_address {
    uint64_t start;
    uint64_t numel;
};

/* The overlap of one parameter with one partition; both addresses have the same numel. */
struct uz_hp_fragment {
    struct uz_fragment_address lp; /* inside the parameter */
    struct uz_fragment_address hp; /* inside the partition */
};

/*
 * The parameter occupies [offset, offset + numel) of the flat group, the partition
 * [part_start, part_start + part_size). True and the fragment if they share an element. A
 * zero-element parameter is never mapped. All sums must fit 64 bits (uz_flat_group_offsets checks).
 */
bool uz_hp_fragment(uint64_t offset, uint64_t numel, uint64_t part_start, uint64_t part_size,
                    struct uz_hp_fragment *fragment);

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
