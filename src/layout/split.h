/* SPDX-License-Identifier: Apache-2.0 */
/* How numbers of elements are divided among ranks. */
#ifndef UZ_LAYOUT_SPLIT_H
#define UZ_LAYOUT_SPLIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* n divided by d, rounded up; d > 0. */
static inline uint64_t uz_ceil_div(uint64_t n, uint64_t d)
{
    return n / d + (n % d != 0);
}

/*
 * ZeRO-3 splits each parameter on its own: every rank has ceil(numel / world) elements, of which
 * the last ranks' are partly or all padding. Gives the elements of the parameter that `rank` holds:
 * [*start, *start + *n_real); *n_real is 0 for a rank that holds padding alone.
 */
static inline void uz_ceil_split(uint64_t numel, uint64_t world, uint64_t rank, uint64_t *start,
                                 uint64_t *n_real)
{
    uint64_t part = uz_ceil_div(numel, world);
    uint64_t lo = part && rank > numel / part ? numel : rank * part;
    *start = lo;
    *n_real = numel - lo < part ? numel - lo : part;
}

/*
 * How the dp ranks are dealt out to expert-parallel ranks: every expert is held by dp / ep of them,
 * which cut its parameters into as many partitions. DeepSpeed (utils/groups.py) puts ranks e,
 * e + ep, e + 2 * ep, ... into expert-parallel rank e, or with use_data_before_expert_parallelism
 * blocks of dp / ep that follow one another. `ep` divides `dp`.
 */
struct uz_expert_ranks {
    uint64_t dp, ep;
    bool data_first;
};

/* The expert-parallel rank of a rank, and which of its partitions the rank holds. */
void uz_expert_place(const struct uz_expert_ranks *ranks, uint64_t rank, uint64_t *ep_rank,
                     uint64_t *part);

/*
 * DeepSpeed's round robin (zero_optimization.round_robin_gradients) puts parameter i of a group of
 * n into bucket i % dp and joins the buckets. Gives for each place in that joined order the index i
 * of the parameter: module_index[place] = i. `module_index` holds n numbers.
 */
void uz_round_robin_order(uint64_t n, uint64_t dp, uint64_t *module_index);

#endif
