/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing over addresses, which no input chooses. */
#include "check/node_set.h"

#include <stdlib.h>

#include "base/mem.h"

enum { FIRST_SLOTS = 256 };

static size_t place_of(const struct uz_node *node, size_t n_slots)
{
    uint64_t hash = (uint64_t)(uintptr_t)node * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(hash >> 20) & (n_slots - 1);
}

/* The slot that holds the node, or the free one where it goes. */
static struct uz_node_slot *find(struct uz_node_slot *slots, size_t n_slots,
                                 const struct uz_node *node)
{
    size_t at = place_of(node, n_slots);
    while (slots[at].node && slots[at].node != node)
        at = (at + 1) & (n_slots - 1);
    return &slots[at];
}

static int grow(struct uz_node_set *set, struct uz_error *err)
{
    size_t n_slots = set->n_slots ? 2 * set->n_slots : FIRST_SLOTS;
    struct uz_node_slot *slots;
    UZ_TRY(uz_alloc(&slots, n_slots, sizeof *slots, err));
    for (size_t i = 0; i < set->n_slots; i++)
        if (set->slots[i].node)
            *find(slots, n_slots, set->slots[i].node) = set->slots[i];
    free(set->slots);
    set->slots = slots;
    set->n_slots = n_slots;
    return UZ_OK;
}

int uz_node_set_add(struct uz_node_set *set, const struct uz_node *node, uint64_t *number,
                    bool *present, struct uz_error *err)
{
    if (2 * (set->n + 1) > set->n_slots)
        UZ_TRY(grow(set, err));
    struct uz_node_slot *slot = find(set->slots, set->n_slots, node);
    *present = slot->node != NULL;
    if (*present) {
        *number = slot->number;
        return UZ_OK;
    }
    slot->node = node;
    slot->number = *number;
    set->n++;
    return UZ_OK;
}

void uz_node_set_free(struct uz_node_set *set)
{
    free(set->slots);
    *set = (struct uz_node_set){0};
}
