/* SPDX-License-Identifier: Apache-2.0 */
/* A depth-first walk on a stack of its own; what was seen is remembered by address. */
#include "torch/walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { KEY_NBYTES = 256, FIRST_SLOTS = 1024 };

/* A value that is still to be looked at, and what it stands under. */
struct todo {
    const struct uz_node *node;
    const struct uz_node *key; /* STR or INT, or NULL */
    const char *parent;        /* a word, where there is no key */
};

/* Addresses in an open hash table, at most half full. */
struct seen {
    const struct uz_node **slots;
    size_t n, n_slots;
};

struct walk {
    struct todo *stack;
    size_t n, cap;
    struct seen seen;
};

static size_t slot_of(const struct seen *seen, const struct uz_node *node)
{
    uint64_t hash = (uint64_t)(uintptr_t)node * UINT64_C(0x9e3779b97f4a7c15);
    size_t slot = (size_t)(hash >> 20) & (seen->n_slots - 1);
    while (seen->slots[slot] && seen->slots[slot] != node)
        slot = (slot + 1) & (seen->n_slots - 1);
    return slot;
}

static int grow(struct seen *seen, struct uz_error *err)
{
    struct seen larger = {.n = seen->n, .n_slots = seen->n_slots ? 2 * seen->n_slots : FIRST_SLOTS};
    UZ_TRY(uz_alloc(&larger.slots, larger.n_slots, sizeof *larger.slots, err));
    for (size_t i = 0; i < seen->n_slots; i++)
        if (seen->slots[i])
            larger.slots[slot_of(&larger, seen->slots[i])] = seen->slots[i];
    free(seen->slots);
    *seen = larger;
    return UZ_OK;
}

/* *is_new: the node was not there yet. */
static int add_seen(struct seen *seen, const struct uz_node *node, bool *is_new,
                    struct uz_error *err)
{
    if (2 * (seen->n + 1) > seen->n_slots)
        UZ_TRY(grow(seen, err));
    size_t slot = slot_of(seen, node);
    *is_new = seen->slots[slot] == NULL;
    seen->slots[slot] = node;
    seen->n += *is_new;
    return UZ_OK;
}

static int push(struct walk *walk, const struct uz_node *node, const struct uz_node *key,
                const char *parent, struct uz_error *err)
{
    if (!node)
        return UZ_OK;
    UZ_TRY(uz_reserve(&walk->stack, &walk->cap, (uint64_t)walk->n + 1, sizeof *walk->stack, err));
    walk->stack[walk->n++] = (struct todo){node, key, parent};
    return UZ_OK;
}

static int push_seq(struct walk *walk, const struct uz_seq *seq, const struct todo *above,
                    struct uz_error *err)
{
    for (size_t i = seq->n; i-- > 0;)
        UZ_TRY(push(walk, seq->items[i], above->key, above->parent, err));
    return UZ_OK;
}

static int push_dict(struct walk *walk, const struct uz_dict *dict, const struct todo *above,
                     struct uz_error *err)
{
    for (size_t i = dict->n; i-- > 0;) {
        const struct uz_node *key = dict->pairs[i].key;
        bool plain = key->kind == UZ_NODE_STR;
        UZ_TRY(push(walk, dict->pairs[i].value, plain ? key : above->key, above->parent, err));
    }
    return UZ_OK;
}

static int push_object(struct walk *walk, const struct uz_object *object, const struct todo *above,
                       struct uz_error *err)
{
    UZ_TRY(push_seq(walk, &object->list, above, err));
    UZ_TRY(push_dict(walk, &object->dict, above, err));
    UZ_TRY(push(walk, object->state, above->key, above->parent, err));
    UZ_TRY(push(walk, object->kwargs, above->key, above->parent, err));
    return push(walk, object->args, above->key, above->parent, err);
}

static int enter(struct walk *walk, const struct todo *at, struct uz_error *err)
{
    const struct uz_node *node = at->node;
    switch (node->kind) {
    case UZ_NODE_TUPLE:
    case UZ_NODE_LIST:
    case UZ_NODE_SET:
    case UZ_NODE_FROZENSET:
        return push_seq(walk, &node->u.seq, at, err);
    case UZ_NODE_DICT:
        return push_dict(walk, &node->u.dict, at, err);
    case UZ_NODE_OBJECT:
        return push_object(walk, node->u.object, at, err);
    default:
        return UZ_OK;
    }
}

static bool holds_others(const struct uz_node *node)
{
    return node->kind >= UZ_NODE_TUPLE && node->kind <= UZ_NODE_DICT;
}

static int visit(struct walk *walk, const struct todo *at, uz_tensor_fn fn, void *cookie,
                 struct uz_error *err)
{
    bool is_new;
    if (!holds_others(at->node) && at->node->kind != UZ_NODE_OBJECT)
        return UZ_OK;
    UZ_TRY(add_seen(&walk->seen, at->node, &is_new, err));
    if (!is_new)
        return UZ_OK;
    if (!uz_torch_is_tensor(at->node))
        return enter(walk, at, err);
    char key[KEY_NBYTES];
    if (at->key)
        uz_printable(key, sizeof key, at->key->u.text.data, at->key->u.text.nbytes);
    return fn(cookie, at->node, at->key ? key : at->parent, err);
}

int uz_torch_each_tensor_in(const struct uz_node *node, uz_tensor_fn fn, void *cookie,
                            struct uz_error *err)
{
    struct walk walk = {0};
    int rc = push(&walk, node, NULL, "the saved value", err);
    while (rc == UZ_OK && walk.n > 0) {
        struct todo at = walk.stack[--walk.n];
        rc = visit(&walk, &at, fn, cookie, err);
    }
    free(walk.stack);
    free(walk.seen.slots);
    return rc;
}

int uz_torch_each_tensor(const struct uz_torch_file *file, uz_tensor_fn fn, void *cookie,
                         struct uz_error *err)
{
    return uz_torch_each_tensor_in(uz_torch_root(file), fn, cookie, err);
}
