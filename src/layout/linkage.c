/* SPDX-License-Identifier: Apache-2.0 */
/* Overlaps of parameters with partitions. */
#include "layout/linkage.h"

#include "base/mem.h"
#include "layout/split.h"

bool uz_hp_fragment(uint64_t offset, uint64_t numel, uint64_t part_start, uint64_t part_size,
                    struct uz_hp_fragment *fragment)
{
    uint64_t param_end = offset + numel;
    uint64_t part_end = part_start + part_size;
    uint64_t lo = offset > part_start ? offset : part_start;
    uint64_t hi = param_end < part_end ? param_end : part_end;
    if (lo >= hi)
        return false;
    fragment->lp = (struct uz_fragment_address){.start = lo - offset, .numel = hi - lo};
    fragment->hp = (struct uz_fragment_address){.start = lo - part_start, .numel = hi - lo};
    return true;
}

int uz_flat_group_offsets(uint64_t n, const uint64_t *numels, const uint64_t *paddings,
                          uint64_t *offsets, uint64_t *total, struct uz_error *err)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (offsets)
            offsets[i] = sum;
        if (!uz_add_u64(sum, numels[i], &sum) ||
            (paddings && !uz_add_u64(sum, paddings[i], &sum)) || sum > INT64_MAX)
            return uz_fail(err, UZ_CORRUPT,
                           "the parameters of a group have more elements than 63 bits can count");
    }
    *total = sum;
    return UZ_OK;
}

uint64_t uz_partition_padding(uint64_t total, uint64_t part_size, uint64_t rank)
{
    uint64_t end = (rank + 1) * part_size;
    if (end <= total)
        return 0;
    return end - total < part_size ? end - total : part_size;
}

struct uz_partition_books uz_books_of_each_rank(uint64_t total, uint64_t part_size, uint64_t rank)
{
    uint64_t padding = uz_partition_padding(total, part_size, rank);
    return (struct uz_partition_books){.numel = part_size - padding, .padding = padding};
}

struct uz_partition_books uz_books_of_last_rank(uint64_t total, uint64_t part_size, uint64_t world,
                                                uint64_t rank)
{
    if (rank + 1 < world)
        return (struct uz_partition_books){.numel = part_size};
    uint64_t padding = part_size * world - total;
    uint64_t cut = padding; /* a slice that ends at a negative index counts from the end again */
    if (padding > part_size)
        cut = padding - part_size < part_size ? padding - part_size : part_size;
    return (struct uz_partition_books){.numel = part_size - cut, .padding = padding};
}

struct uz_partition_books uz_books_of_bf16_optimizer(uint64_t total, uint64_t part_size,
                                                     uint64_t world, uint64_t rank)
{
    uint64_t padding = rank + 1 < world ? 0 : part_size * world - total;
    return (struct uz_partition_books){.numel = part_size, .padding = padding};
}

uint64_t uz_partition_size(uint64_t total, uint64_t world)
{
    return uz_ceil_div(total, 2 * world) * 2;
}
