/* SPDX-License-Identifier: Apache-2.0 */
/* Goes through a whole value graph. */
#ifndef UZ_TORCH_WALK_H
#define UZ_TORCH_WALK_H

#include "torch/file.h"

/* One tensor of the graph; `key` is the dictionary key or list place it was found under first. */
typedef int (*uz_tensor_fn)(void *cookie, const struct uz_node *tensor, const char *key,
                            struct uz_error *err);

/*
 * Calls `fn` for every node of the file that stands where a tensor can, each once, in the order of
 * the graph, and stops at the first negative status. Shared values are entered once.
 */
int uz_torch_each_tensor(const struct uz_torch_file *file, uz_tensor_fn fn, void *cookie,
                         struct uz_error *err);

/* The same for the nodes at and below `node`. */
int uz_torch_each_tensor_in(const struct uz_node *node, uz_tensor_fn fn, void *cookie,
                            struct uz_error *err);

#endif
