/* SPDX-License-Identifier: Apache-2.0 */
/* Making values: nodes for a pickle that is to be written. */
#ifndef UZ_TORCH_NODE_MAKE_H
#define UZ_TORCH_NODE_MAKE_H

#include <unzero/dtype.h>
#include <unzero/limits.h>

#include "base/error.h"
#include "base/mem.h"
#include "torch/node.h"

/*
 * Makes nodes that live as long as it does. Its calls have no result but the node: without memory
 * they give None, and uz_maker_check says so at the end. Nodes of a file may stand among those that
 * are made, as long as the file is open.
 */
struct uz_maker {
    struct uz_arena *arena;
    const struct uz_node **globals; /* those made so far: one node for each */
    size_t n_globals, cap_globals;
    int status; /* of the first failure */
};

/* Free with uz_maker_free, after failures too. */
int uz_maker_init(struct uz_maker *maker, const struct uz_limits *limits, struct uz_error *err);
void uz_maker_free(struct uz_maker *maker);

/* UZ_NOMEM or UZ_LIMIT if a node could not be made. */
int uz_maker_check(const struct uz_maker *maker, struct uz_error *err);

const struct uz_node *uz_make_none(struct uz_maker *maker);
const struct uz_node *uz_make_bool(struct uz_maker *maker, bool value);
const struct uz_node *uz_make_int(struct uz_maker *maker, int64_t value);
const struct uz_node *uz_make_real(struct uz_maker *maker, double value);

/* The texts are copied. */
const struct uz_node *uz_make_str(struct uz_maker *maker, const char *text);
const struct uz_node *uz_make_strn(struct uz_maker *maker, const char *text, size_t nbytes);
const struct uz_node *uz_make_global(struct uz_maker *maker, const char *module, const char *name);

const struct uz_node *uz_make_tuple(struct uz_maker *maker, size_t n,
                                    const struct uz_node *const *items);

/* Containers that grow. */
struct uz_node *uz_make_list(struct uz_maker *maker);
struct uz_node *uz_make_dict(struct uz_maker *maker);
struct uz_node *uz_make_ordered_dict(struct uz_maker *maker);

void uz_make_append(struct uz_maker *maker, struct uz_node *list, const struct uz_node *item);

/* Adds a pair, also if the key is there. */
void uz_make_put(struct uz_maker *maker, struct uz_node *dict, const struct uz_node *key,
                 const struct uz_node *value);

/* Replaces the value of a STR key, or adds the pair. */
void uz_make_set(struct uz_maker *maker, struct uz_node *dict, const char *key,
                 const struct uz_node *value);

/* Takes the pairs with a STR key away. */
void uz_make_drop(struct uz_maker *maker, struct uz_node *dict, const char *key);

/* A dictionary of the same kind with the same pairs; `dict` is one (uz_node_dict). */
struct uz_node *uz_make_copy(struct uz_maker *maker, const struct uz_node *dict);

/* An object that calling `callable` with `args` (a tuple) makes, or creates and gives a state. */
const struct uz_node *uz_make_reduced(struct uz_maker *maker, const struct uz_node *callable,
                                      const struct uz_node *args);
const struct uz_node *uz_make_new(struct uz_maker *maker, const struct uz_node *class_node,
                                  const struct uz_node *state);

/* torch.Size of these sizes. */
const struct uz_node *uz_make_size(struct uz_maker *maker, unsigned ndim, const uint64_t *shape);

/* A persistent id that is a tuple. Nodes that are made have no opcode (0), which tells them apart.
 */
const struct uz_node *uz_make_persid(struct uz_maker *maker, const struct uz_node *id);

/*
 * The persistent id of a storage of numel elements; NULL if PyTorch has no class for the dtype.
 */
const struct uz_node *uz_make_storage(struct uz_maker *maker, enum uz_dtype dtype, uint64_t key,
                                      uint64_t numel);

/* A contiguous tensor from element `first` of a storage on, as torch.save writes it. */
const struct uz_node *uz_make_tensor(struct uz_maker *maker, const struct uz_node *storage,
                                     uint64_t first, unsigned ndim, const uint64_t *shape);

#endif
