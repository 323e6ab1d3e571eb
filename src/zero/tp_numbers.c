/* SPDX-License-Identifier: Apache-2.0 */
/* Lists and numbers in a universal_checkpoint_info. */
#include "zero/tp_rules_impl.h"

const struct uz_seq *uz_tp_list(const struct uz_node *node)
{
    if (!uz_node_is_object(node, "torch", "Size"))
        return uz_node_list(node);
    const struct uz_seq *args = uz_node_list(node->u.object->args);
    return args && args->n == 1 ? uz_node_list(args->items[0]) : NULL;
}

int uz_tp_numbers(struct uz_tp_rules *rules, const struct uz_node *node, const char *what,
                  const uint64_t **numbers, size_t *n, struct uz_error *err)
{
    const struct uz_seq *list = uz_tp_list(node);
    uint64_t *made;
    if (!list)
        return uz_fail(err, UZ_CORRUPT, "%s is no list of numbers", what);
    UZ_TRY(uz_arena_alloc(rules->arena, (uint64_t)list->n + 1, sizeof *made, &made, err));
    for (size_t i = 0; i < list->n; i++)
        if (!uz_node_u64(list->items[i], &made[i]) || made[i] > INT64_MAX)
            return uz_fail(err, UZ_CORRUPT, "%s holds something that is no proper number", what);
    *numbers = made;
    *n = list->n;
    return UZ_OK;
}
