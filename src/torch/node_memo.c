/* SPDX-License-Identifier: Apache-2.0 */
/* A hash table with linear probing, at most half full. */
#include "torch/node_memo.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"

/* The entry of the node, or the free one where it belongs. */
static struct uz_node_entry *find(struct uz_node_entry *entries, size_t cap,
                                  const struct uz_node *node)
{
    size_t at = (size_t)uz_hash_u64(0, (uint64_t)(uintptr_t)node) & (cap - 1);
    while (entries[at].node && entries[at].node != node)
        at = (at + 1) & (cap - 1);
    return &entries[at];
}

bool uz_node_memo_get(const struct uz_node_memo *memo, const struct uz_node *node, uint64_t *number)
{
    const struct uz_node_entry *entry = memo->cap ? find(memo->entries, memo->cap, node) : NULL;
    if (!entry || !entry->node)
        return false;
    *number = entry->number;
    return true;
}

static int grow(struct uz_node_memo *memo, struct uz_error *err)
{
    struct uz_node_entry *entries;
    size_t cap = memo->cap ? 2 * memo->cap : 64;
    UZ_TRY(uz_alloc(&entries, cap, sizeof *entries, err));
    for (size_t i = 0; i < memo->cap; i++)
        if (memo->entries[i].node)
            *find(entries, cap, memo->entries[i].node) = memo->entries[i];
    free(memo->entries);
    memo->entries = entries;
    memo->cap = cap;
    return UZ_OK;
}

int uz_node_memo_put(struct uz_node_memo *memo, const struct uz_node *node, uint64_t number,
                     struct uz_error *err)
{
    if (2 * (memo->n + 1) > memo->cap)
        UZ_TRY(grow(memo, err));
    *find(memo->entries, memo->cap, node) = (struct uz_node_entry){node, number};
    memo->n++;
    return UZ_OK;
}

void uz_node_memo_free(struct uz_node_memo *memo)
{
    free(memo->entries);
    *memo = (struct uz_node_memo){0};
}
