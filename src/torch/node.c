/* SPDX-License-Identifier: Apache-2.0 */
/* Look-ups in a pickle's value graph. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "torch/node.h"

enum { MAX_SMALL_DICT = 1024 };

static bool text_is(const struct uz_text *text, const char *terminated)
{
    size_t nbytes = strlen(terminated);
    return text->nbytes == nbytes && memcmp(text->data, terminated, nbytes) == 0;
}

bool uz_node_is_none(const struct uz_node *node)
{
    return node && node->kind == UZ_NODE_NONE;
}

bool uz_node_is_str(const struct uz_node *node, const char *text)
{
    return node && node->kind == UZ_NODE_STR && text_is(&node->u.text, text);
}

bool uz_node_is_global(const struct uz_node *node, const char *module, const char *name)
{
    return node && node->kind == UZ_NODE_GLOBAL && text_is(&node->u.global.name, name) &&
           text_is(&node->u.global.module, module);
}

const struct uz_node *uz_node_class(const struct uz_node *node)
{
    if (!node || node->kind != UZ_NODE_OBJECT)
        return NULL;
    const struct uz_node *callable = node->u.object->callable;
    return callable && callable->kind == UZ_NODE_GLOBAL ? callable : NULL;
}

bool uz_node_is_object(const struct uz_node *node, const char *module, const char *name)
{
    return uz_node_is_global(uz_node_class(node), module, name);
}

const struct uz_dict *uz_node_dict(const struct uz_node *node)
{
    if (!node)
        return NULL;
    if (node->kind == UZ_NODE_DICT)
        return &node->u.dict;
    if (uz_node_is_object(node, "collections", "OrderedDict") ||
        uz_node_is_object(node, "collections", "defaultdict"))
        return &node->u.object->dict;
    return NULL;
}

const struct uz_seq *uz_node_list(const struct uz_node *node)
{
    if (!node || (node->kind != UZ_NODE_LIST && node->kind != UZ_NODE_TUPLE))
        return NULL;
    return &node->u.seq;
}

const struct uz_seq *uz_node_seq(const struct uz_node *node)
{
    if (node && (node->kind == UZ_NODE_SET || node->kind == UZ_NODE_FROZENSET))
        return &node->u.seq;
    return uz_node_list(node);
}

const struct uz_node *uz_node_get(const struct uz_node *dict, const char *key)
{
    const struct uz_dict *pairs = uz_node_dict(dict);
    /* From the end: of a key that was set twice, Python keeps the last value. */
    for (size_t i = pairs ? pairs->n : 0; i > 0; i--)
        if (uz_node_is_str(pairs->pairs[i - 1].key, key))
            return pairs->pairs[i - 1].value;
    return NULL;
}

const struct uz_node *uz_node_get_int(const struct uz_node *dict, int64_t key)
{
    const struct uz_dict *pairs = uz_node_dict(dict);
    for (size_t i = pairs ? pairs->n : 0; i > 0; i--) {
        const struct uz_node *node = pairs->pairs[i - 1].key;
        if (node->kind == UZ_NODE_INT && node->u.integer == key)
            return pairs->pairs[i - 1].value;
    }
    return NULL;
}

const struct uz_node *uz_node_get_small(const struct uz_node *dict, const char *key)
{
    const struct uz_dict *pairs = uz_node_dict(dict);
    return pairs && pairs->n <= MAX_SMALL_DICT ? uz_node_get(dict, key) : NULL;
}

bool uz_node_int(const struct uz_node *node, int64_t *value)
{
    if (!node)
        return false;
    if (uz_node_class(node)) {
        const struct uz_seq *args = uz_node_list(node->u.object->args);
        if (!args || args->n != 1 || args->items[0]->kind != UZ_NODE_INT)
            return false;
        node = args->items[0];
    }
    if (node->kind == UZ_NODE_BOOL)
        *value = node->u.boolean;
    else if (node->kind == UZ_NODE_INT)
        *value = node->u.integer;
    else
        return false;
    return true;
}

bool uz_node_u64(const struct uz_node *node, uint64_t *value)
{
    int64_t integer;
    if (!uz_node_int(node, &integer) || integer < 0)
        return false;
    *value = (uint64_t)integer;
    return true;
}

static const char *const kind_words[] = {
    [UZ_NODE_NONE] = "None",        [UZ_NODE_BOOL] = "a bool",
    [UZ_NODE_INT] = "an int",       [UZ_NODE_BIGINT] = "an int of more than 64 bits",
    [UZ_NODE_FLOAT] = "a float",    [UZ_NODE_STR] = "a str",
    [UZ_NODE_BYTES] = "bytes",      [UZ_NODE_BYTEARRAY] = "a bytearray",
    [UZ_NODE_TUPLE] = "a tuple",    [UZ_NODE_LIST] = "a list",
    [UZ_NODE_SET] = "a set",        [UZ_NODE_FROZENSET] = "a frozenset",
    [UZ_NODE_DICT] = "a dict",      [UZ_NODE_GLOBAL] = "", /* its name says enough */
    [UZ_NODE_OBJECT] = "an object", [UZ_NODE_PERSID] = "a persistent id",
};

const char *uz_node_describe(const struct uz_node *node, char *buf, size_t size)
{
    const struct uz_node *global = uz_node_class(node);
    const char *word = node ? kind_words[node->kind] : "nothing";

    if (global)
        word = "an object of class ";
    else if (node && node->kind == UZ_NODE_GLOBAL)
        global = node;
    if (!global) {
        snprintf(buf, size, "%s", word);
        return buf;
    }
    char module[128], name[128];
    uz_printable(module, sizeof module, global->u.global.module.data,
                 global->u.global.module.nbytes);
    uz_printable(name, sizeof name, global->u.global.name.data, global->u.global.name.nbytes);
    snprintf(buf, size, "%s%s.%s", word, module, name);
    return buf;
}
