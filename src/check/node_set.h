/* SPDX-License-Identifier: Apache-2.0 */
/* A set of nodes of a value graph, each with a number: which were seen, and when. */
#ifndef UZ_CHECK_NODE_SET_H
#define UZ_CHECK_NODE_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "torch/node.h"

/* All zero: empty. Fields are private. */
struct uz_node_set {
    struct uz_node_slot {
        const struct uz_node *node;
        uint64_t number;
    } * slots;
    size_t n, n_slots;
};

/* Adds a node with a number; if it is there already, *present and the number it has. */
int uz_node_set_add(struct uz_node_set *set, const struct uz_node *node, uint64_t *number,
                    bool *present, struct uz_error *err);

void uz_node_set_free(struct uz_node_set *set);

#endif
