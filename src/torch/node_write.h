/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a value graph back as a pickle. */
#ifndef UZ_TORCH_NODE_WRITE_H
#define UZ_TORCH_NODE_WRITE_H

#include <unzero/limits.h>

#include "base/bytes.h"
#include "torch/node.h"

/*
 * What is written in a node's place: another node, or itself. Asked for every reference; must
 * always answer the same for the same node. The answer is not asked about again.
 */
typedef const struct uz_node *(*uz_node_replace_fn)(void *cookie, const struct uz_node *node);

struct uz_node_write_options {
    const struct uz_limits *limits; /* bounds the pickle's bytes and its nesting: UZ_LIMIT */
    uz_node_replace_fn replace;     /* NULL: nothing is replaced */
    void *cookie;
};

/*
 * Adds to `to` a pickle that makes the graph below `root`: with the same sharing, cycles included,
 * and objects made by the opcodes that made them. From the graph of a pickle that CPython wrote in
 * protocol 2, as torch.save does, come the same bytes. The protocol is 2, or the lowest that has
 * what the graph's nodes need (bytes: 3, sets: 4, bytearrays: 5): whether it is below 3 decides
 * how names of classes are understood, so it must stay on its side.
 *
 * Numbers, None and persistent ids are written at each reference: what they stand for has no
 * identity, or one that the id gives. Memory: 16 to 32 bytes for each node with an identity.
 */
int uz_pickle_write_node(struct uz_bytes *to, const struct uz_node *root,
                         const struct uz_node_write_options *options, struct uz_error *err);

#endif
