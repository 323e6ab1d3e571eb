/* SPDX-License-Identifier: Apache-2.0 */
/* Divides tensors among files of a limited size. */
#ifndef UZ_OUT_SHARDS_H
#define UZ_OUT_SHARDS_H

#include "out/items.h"

/*
 * Gives each item the number of its shard (from 0) and the number of shards: greedy in the order of
 * the items; an item larger than max_nbytes gets a shard of its own, numbered before the one that
 * is open; an item that shares another's data goes with it, and all items without elements go with
 * the first of them (as huggingface_hub.split_torch_state_dict_into_shards does, for which these
 * share their storage). max_nbytes 0: one shard.
 * `shard_of` has room for items->n numbers.
 */
void uz_split_shards(const struct uz_items *items, uint64_t max_nbytes, uint32_t *shard_of,
                     uint32_t *n_shards);

#endif
