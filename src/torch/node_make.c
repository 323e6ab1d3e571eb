/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes in an arena. */
#include "torch/node_make.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "torch/file.h"
#include "torch/storage_class.h"

int uz_maker_init(struct uz_maker *maker, const struct uz_limits *limits, struct uz_error *err)
{
    *maker = (struct uz_maker){.arena = uz_arena_new(limits->max_pickle_arena)};
    return maker->arena ? UZ_OK : uz_fail_nomem(err, sizeof *maker);
}

void uz_maker_free(struct uz_maker *maker)
{
    uz_arena_free(maker->arena);
    free(maker->globals);
    *maker = (struct uz_maker){0};
}

int uz_maker_check(const struct uz_maker *maker, struct uz_error *err)
{
    if (maker->status == UZ_NOMEM)
        return uz_fail_nomem(err, sizeof(struct uz_node));
    if (maker->status < 0)
        return uz_fail(err, maker->status,
                       "the values of one file take more memory than max_pickle_arena allows");
    return UZ_OK;
}

/* What stands where a node could not be made; never written, since the check fails. */
static const struct uz_node failed = {.kind = UZ_NODE_NONE};

/* NULL on failure. */
static void *take(struct uz_maker *maker, size_t n, size_t size)
{
    void *memory = NULL;
    if (maker->status < 0)
        return NULL;
    maker->status = uz_arena_alloc(maker->arena, n, size, &memory, NULL);
    if (maker->status < 0)
        return NULL;
    memset(memory, 0, n * size);
    return memory;
}

static struct uz_node *make(struct uz_maker *maker, enum uz_node_kind kind)
{
    struct uz_node *node = take(maker, 1, sizeof *node);
    if (node)
        node->kind = kind;
    return node;
}

static const struct uz_node *made(const struct uz_node *node)
{
    return node ? node : &failed;
}

const struct uz_node *uz_make_none(struct uz_maker *maker)
{
    return made(make(maker, UZ_NODE_NONE));
}

const struct uz_node *uz_make_bool(struct uz_maker *maker, bool value)
{
    struct uz_node *node = make(maker, UZ_NODE_BOOL);
    if (node)
        node->u.boolean = value;
    return made(node);
}

const struct uz_node *uz_make_int(struct uz_maker *maker, int64_t value)
{
    struct uz_node *node = make(maker, UZ_NODE_INT);
    if (node)
        node->u.integer = value;
    return made(node);
}

const struct uz_node *uz_make_real(struct uz_maker *maker, double value)
{
    struct uz_node *node = make(maker, UZ_NODE_FLOAT);
    if (node)
        node->u.real = value;
    return made(node);
}

static bool copy_text(struct uz_maker *maker, struct uz_text *to, const char *text, size_t nbytes)
{
    const char *copy;
    if (maker->status == UZ_OK)
        maker->status = uz_arena_strndup(maker->arena, text, nbytes, &copy, NULL);
    if (maker->status < 0)
        return false;
    *to = (struct uz_text){copy, nbytes};
    return true;
}

const struct uz_node *uz_make_strn(struct uz_maker *maker, const char *text, size_t nbytes)
{
    struct uz_node *node = make(maker, UZ_NODE_STR);
    if (!node || !copy_text(maker, &node->u.text, text, nbytes))
        return &failed;
    return node;
}

const struct uz_node *uz_make_str(struct uz_maker *maker, const char *text)
{
    return uz_make_strn(maker, text, strlen(text));
}

/* A pickle names each class once and refers to it afterwards, if it is one node. */
const struct uz_node *uz_make_global(struct uz_maker *maker, const char *module, const char *name)
{
    for (size_t i = 0; i < maker->n_globals; i++)
        if (uz_node_is_global(maker->globals[i], module, name))
            return maker->globals[i];
    struct uz_node *node = make(maker, UZ_NODE_GLOBAL);
    if (!node || !copy_text(maker, &node->u.global.module, module, strlen(module)) ||
        !copy_text(maker, &node->u.global.name, name, strlen(name)))
        return &failed;
    maker->status = uz_reserve(&maker->globals, &maker->cap_globals, (uint64_t)maker->n_globals + 1,
                               sizeof(struct uz_node *), NULL);
    if (maker->status < 0)
        return &failed;
    maker->globals[maker->n_globals++] = node;
    return node;
}

/* ---- Sequences ---- */

const struct uz_node *uz_make_tuple(struct uz_maker *maker, size_t n,
                                    const struct uz_node *const *items)
{
    struct uz_node *node = make(maker, UZ_NODE_TUPLE);
    for (size_t i = 0; i < n && node; i++)
        uz_make_append(maker, node, items[i]);
    return made(node);
}

struct uz_node *uz_make_list(struct uz_maker *maker)
{
    return make(maker, UZ_NODE_LIST);
}

void uz_make_append(struct uz_maker *maker, struct uz_node *list, const struct uz_node *item)
{
    if (maker->status < 0)
        return;
    struct uz_seq *seq = &list->u.seq;
    if (seq->n == seq->cap) {
        size_t cap = seq->cap ? 2 * seq->cap : 4;
        const struct uz_node **items = take(maker, cap, sizeof(struct uz_node *));
        if (!items)
            return;
        if (seq->n)
            memcpy(items, seq->items, seq->n * sizeof(struct uz_node *));
        seq->items = items;
        seq->cap = cap;
    }
    seq->items[seq->n++] = item;
}

/* ---- Objects and dictionaries ---- */

static struct uz_node *make_object(struct uz_maker *maker, enum uz_make how,
                                   const struct uz_node *callable, const struct uz_node *args)
{
    struct uz_node *node = make(maker, UZ_NODE_OBJECT);
    struct uz_object *object = take(maker, 1, sizeof *object);
    if (!node || !object)
        return NULL;
    *object = (struct uz_object){.callable = callable, .args = args, .make = how};
    node->u.object = object;
    return node;
}

const struct uz_node *uz_make_reduced(struct uz_maker *maker, const struct uz_node *callable,
                                      const struct uz_node *args)
{
    return made(make_object(maker, UZ_MAKE_REDUCE, callable, args));
}

const struct uz_node *uz_make_new(struct uz_maker *maker, const struct uz_node *class_node,
                                  const struct uz_node *state)
{
    struct uz_node *node =
        make_object(maker, UZ_MAKE_NEWOBJ, class_node, uz_make_tuple(maker, 0, NULL));
    if (node)
        node->u.object->state = state;
    return made(node);
}

struct uz_node *uz_make_dict(struct uz_maker *maker)
{
    return make(maker, UZ_NODE_DICT);
}

struct uz_node *uz_make_ordered_dict(struct uz_maker *maker)
{
    const struct uz_node *class_node = uz_make_global(maker, "collections", "OrderedDict");
    return make_object(maker, UZ_MAKE_REDUCE, class_node, uz_make_tuple(maker, 0, NULL));
}

static struct uz_dict *pairs_of(struct uz_node *dict)
{
    return dict->kind == UZ_NODE_DICT ? &dict->u.dict : &dict->u.object->dict;
}

void uz_make_put(struct uz_maker *maker, struct uz_node *node, const struct uz_node *key,
                 const struct uz_node *value)
{
    if (maker->status < 0)
        return;
    struct uz_dict *dict = pairs_of(node);
    if (dict->n == dict->cap) {
        size_t cap = dict->cap ? 2 * dict->cap : 8;
        struct uz_pair *pairs = take(maker, cap, sizeof *pairs);
        if (!pairs)
            return;
        if (dict->n)
            memcpy(pairs, dict->pairs, dict->n * sizeof *pairs);
        dict->pairs = pairs;
        dict->cap = cap;
    }
    dict->pairs[dict->n++] = (struct uz_pair){key, value};
}

void uz_make_set(struct uz_maker *maker, struct uz_node *node, const char *key,
                 const struct uz_node *value)
{
    if (maker->status < 0)
        return;
    struct uz_dict *dict = pairs_of(node);
    bool found = false;
    for (size_t i = 0; i < dict->n; i++)
        if (uz_node_is_str(dict->pairs[i].key, key)) {
            dict->pairs[i].value = value;
            found = true;
        }
    if (!found)
        uz_make_put(maker, node, uz_make_str(maker, key), value);
}

void uz_make_drop(struct uz_maker *maker, struct uz_node *node, const char *key)
{
    if (maker->status < 0)
        return;
    struct uz_dict *dict = pairs_of(node);
    size_t n = 0;
    for (size_t i = 0; i < dict->n; i++)
        if (!uz_node_is_str(dict->pairs[i].key, key))
            dict->pairs[n++] = dict->pairs[i];
    dict->n = n;
}

struct uz_node *uz_make_copy(struct uz_maker *maker, const struct uz_node *dict)
{
    const struct uz_dict *pairs = uz_node_dict(dict);
    struct uz_node *copy = dict->kind == UZ_NODE_DICT
                               ? make(maker, UZ_NODE_DICT)
                               : make_object(maker, dict->u.object->make, dict->u.object->callable,
                                             dict->u.object->args);
    if (copy && copy->kind == UZ_NODE_OBJECT)
        copy->u.object->state = dict->u.object->state;
    for (size_t i = 0; i < pairs->n && copy; i++)
        uz_make_put(maker, copy, pairs->pairs[i].key, pairs->pairs[i].value);
    return copy;
}

/* ---- What PyTorch writes ---- */

static const struct uz_node *make_sizes(struct uz_maker *maker, unsigned ndim,
                                        const uint64_t *sizes)
{
    const struct uz_node *items[UZ_MAX_NDIM];
    for (unsigned i = 0; i < ndim; i++)
        items[i] = uz_make_int(maker, (int64_t)sizes[i]);
    return uz_make_tuple(maker, ndim, items);
}

const struct uz_node *uz_make_size(struct uz_maker *maker, unsigned ndim, const uint64_t *shape)
{
    const struct uz_node *sizes = make_sizes(maker, ndim, shape);
    return uz_make_reduced(maker, uz_make_global(maker, "torch", "Size"),
                           uz_make_tuple(maker, 1, &sizes));
}

const struct uz_node *uz_make_persid(struct uz_maker *maker, const struct uz_node *id)
{
    struct uz_node *node = make(maker, UZ_NODE_PERSID);
    if (node)
        node->u.persid = id;
    return made(node);
}

const struct uz_node *uz_make_storage(struct uz_maker *maker, enum uz_dtype dtype, uint64_t key,
                                      uint64_t numel)
{
    char text[24];
    const char *class_name = uz_storage_class(dtype);
    if (!class_name)
        return NULL;
    (void)snprintf(text, sizeof text, "%" PRIu64, key);
    const struct uz_node *const id[] = {
        uz_make_str(maker, "storage"),      uz_make_global(maker, "torch", class_name),
        uz_make_str(maker, text),           uz_make_str(maker, "cpu"),
        uz_make_int(maker, (int64_t)numel),
    };
    return uz_make_persid(maker, uz_make_tuple(maker, sizeof id / sizeof id[0], id));
}

const struct uz_node *uz_make_tensor(struct uz_maker *maker, const struct uz_node *storage,
                                     uint64_t first, unsigned ndim, const uint64_t *shape)
{
    uint64_t strides[UZ_MAX_NDIM], stride = 1;
    for (unsigned i = ndim; i-- > 0;) {
        strides[i] = stride;
        stride *= shape[i] ? shape[i] : 1;
    }
    const struct uz_node *hooks = uz_make_ordered_dict(maker);
    const struct uz_node *const args[] = {
        storage,
        uz_make_int(maker, (int64_t)first),
        make_sizes(maker, ndim, shape),
        make_sizes(maker, ndim, strides),
        uz_make_bool(maker, false),
        made(hooks),
    };
    return uz_make_reduced(maker, uz_make_global(maker, "torch._utils", "_rebuild_tensor_v2"),
                           uz_make_tuple(maker, sizeof args / sizeof args[0], args));
}
