/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers given to nodes, found by the nodes' addresses. */
#ifndef UZ_TORCH_NODE_MEMO_H
#define UZ_TORCH_NODE_MEMO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "torch/node.h"

struct uz_node_entry {
    const struct uz_node *node; /* NULL: free */
    uint64_t number;
};

/* Start with all zero. */
struct uz_node_memo {
    struct uz_node_entry *entries; /* open addressing; cap is 0 or a power of two */
    size_t n, cap;
};

/* True and the number if the node has one. */
bool uz_node_memo_get(const struct uz_node_memo *memo, const struct uz_node *node,
                      uint64_t *number);

/* Gives a number to a node that has none. */
int uz_node_memo_put(struct uz_node_memo *memo, const struct uz_node *node, uint64_t number,
                     struct uz_error *err);

void uz_node_memo_free(struct uz_node_memo *memo);

#endif
