/* SPDX-License-Identifier: Apache-2.0 */
/* Greedy splitting. */
#include "out/shards.h"

/* The open shard gets its number when it is closed; until then its items are marked. */
#define OPEN_SHARD UINT32_MAX

static void close_shard(uint32_t *shard_of, size_t first, size_t end, uint32_t number)
{
    for (size_t i = first; i < end; i++)
        if (shard_of[i] == OPEN_SHARD)
            shard_of[i] = number;
}

/* The item whose shard this one goes to, and its own index if it is placed itself. */
static size_t leader_of(const struct uz_items *items, size_t i, size_t *first_empty)
{
    if (items->items[i].holder != i)
        return items->items[i].holder;
    if (items->items[i].nbytes > 0)
        return i;
    if (*first_empty == SIZE_MAX)
        *first_empty = i;
    return *first_empty;
}

/* The items that follow others, whose shards are known now. */
static void place_followers(const struct uz_items *items, uint32_t *shard_of)
{
    size_t first_empty = SIZE_MAX;
    for (size_t i = 0; i < items->n; i++)
        shard_of[i] = shard_of[leader_of(items, i, &first_empty)];
}

void uz_split_shards(const struct uz_items *items, uint64_t max_nbytes, uint32_t *shard_of,
                     uint32_t *n_shards)
{
    uint64_t open_nbytes = 0;
    size_t first_open = 0, n_open = 0, first_empty = SIZE_MAX;
    *n_shards = 0;
    for (size_t i = 0; i < items->n; i++) {
        uint64_t nbytes = items->items[i].nbytes;
        shard_of[i] = 0;
        if (leader_of(items, i, &first_empty) != i)
            continue;
        if (max_nbytes && nbytes > max_nbytes) {
            shard_of[i] = (*n_shards)++;
            continue;
        }
        if (max_nbytes && n_open > 0 && open_nbytes + nbytes > max_nbytes) {
            close_shard(shard_of, first_open, i, (*n_shards)++);
            open_nbytes = 0;
            first_open = i;
            n_open = 0;
        }
        shard_of[i] = OPEN_SHARD;
        open_nbytes += nbytes;
        n_open++;
    }
    if (n_open > 0)
        close_shard(shard_of, first_open, items->n, (*n_shards)++);
    place_followers(items, shard_of);
}
