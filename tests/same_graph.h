/* SPDX-License-Identifier: Apache-2.0 */
/* Compares two value graphs: kinds, contents, and which references lead to the same node. */
#ifndef UZ_TESTS_SAME_GRAPH_H
#define UZ_TESTS_SAME_GRAPH_H

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "torch/node.h"
#include "torch/node_memo.h"

/* Pairs of nodes that must be the same, still to be looked at. */
struct sg {
    struct sg_pair {
        const struct uz_node *a, *b;
    } * todo;
    size_t n, cap;
    struct uz_node_memo numbers_a, numbers_b;
    uint64_t n_seen;
};

static inline void sg_push(struct sg *sg, const struct uz_node *a, const struct uz_node *b)
{
    struct sg_pair *pair;
    if (UZ_APPEND(sg->todo, sg->n, sg->cap, &pair, NULL) < 0)
        abort();
    *pair = (struct sg_pair){a, b};
}

static inline bool sg_same_text(const struct uz_text *a, const struct uz_text *b)
{
    return a->nbytes == b->nbytes && (a->nbytes == 0 || !memcmp(a->data, b->data, a->nbytes));
}

static inline bool sg_push_seq(struct sg *sg, const struct uz_seq *a, const struct uz_seq *b)
{
    for (size_t i = 0; a->n == b->n && i < a->n; i++)
        sg_push(sg, a->items[i], b->items[i]);
    return a->n == b->n;
}

static inline bool sg_push_dict(struct sg *sg, const struct uz_dict *a, const struct uz_dict *b)
{
    for (size_t i = 0; a->n == b->n && i < a->n; i++) {
        sg_push(sg, a->pairs[i].key, b->pairs[i].key);
        sg_push(sg, a->pairs[i].value, b->pairs[i].value);
    }
    return a->n == b->n;
}

static inline bool sg_push_object(struct sg *sg, const struct uz_object *a,
                                  const struct uz_object *b)
{
    if (a->make != b->make || !a->kwargs != !b->kwargs || !a->state != !b->state)
        return false;
    sg_push(sg, a->callable, b->callable);
    if (a->make != UZ_MAKE_INST) /* else the tuple is the reader's own */
        sg_push(sg, a->args, b->args);
    else if (!sg_push_seq(sg, &a->args->u.seq, &b->args->u.seq))
        return false;
    if (a->kwargs)
        sg_push(sg, a->kwargs, b->kwargs);
    if (a->state)
        sg_push(sg, a->state, b->state);
    return sg_push_seq(sg, &a->list, &b->list) && sg_push_dict(sg, &a->dict, &b->dict);
}

static inline bool sg_same_contents(struct sg *sg, const struct uz_node *a, const struct uz_node *b)
{
    switch (a->kind) {
    case UZ_NODE_NONE:
        return true;
    case UZ_NODE_BOOL:
        return a->u.boolean == b->u.boolean;
    case UZ_NODE_INT:
        return a->u.integer == b->u.integer;
    case UZ_NODE_FLOAT:
        return !memcmp(&a->u.real, &b->u.real, sizeof a->u.real);
    case UZ_NODE_BIGINT:
    case UZ_NODE_STR:
    case UZ_NODE_BYTES:
    case UZ_NODE_BYTEARRAY:
        return sg_same_text(&a->u.text, &b->u.text);
    case UZ_NODE_TUPLE:
    case UZ_NODE_LIST:
    case UZ_NODE_SET:
    case UZ_NODE_FROZENSET:
        return sg_push_seq(sg, &a->u.seq, &b->u.seq);
    case UZ_NODE_DICT:
        return sg_push_dict(sg, &a->u.dict, &b->u.dict);
    case UZ_NODE_GLOBAL:
        return sg_same_text(&a->u.global.module, &b->u.global.module) &&
               sg_same_text(&a->u.global.name, &b->u.global.name);
    case UZ_NODE_OBJECT:
        return sg_push_object(sg, a->u.object, b->u.object);
    case UZ_NODE_PERSID:
        sg_push(sg, a->u.persid, b->u.persid);
        return true;
    }
    return false;
}

/* Nodes that have an identity in Python; of the empty tuple there is one only. */
static inline bool sg_has_identity(const struct uz_node *node)
{
    return node->kind > UZ_NODE_FLOAT && node->kind != UZ_NODE_PERSID &&
           !(node->kind == UZ_NODE_TUPLE && node->u.seq.n == 0);
}

static inline bool sg_same_pair(struct sg *sg, const struct uz_node *a, const struct uz_node *b)
{
    uint64_t at_a = 0, at_b = 0;
    if (a->kind != b->kind)
        return false;
    if (sg_has_identity(a)) {
        bool seen = uz_node_memo_get(&sg->numbers_a, a, &at_a);
        if (seen != uz_node_memo_get(&sg->numbers_b, b, &at_b) || at_a != at_b)
            return false;
        if (seen)
            return true;
        if (uz_node_memo_put(&sg->numbers_a, a, sg->n_seen, NULL) < 0 ||
            uz_node_memo_put(&sg->numbers_b, b, sg->n_seen, NULL) < 0)
            abort();
        sg->n_seen++;
    }
    return sg_same_contents(sg, a, b);
}

static inline bool same_graph(const struct uz_node *a, const struct uz_node *b)
{
    struct sg sg = {0};
    bool same = true;
    sg_push(&sg, a, b);
    while (same && sg.n > 0) {
        struct sg_pair pair = sg.todo[--sg.n];
        same = sg_same_pair(&sg, pair.a, pair.b);
    }
    uz_node_memo_free(&sg.numbers_a);
    uz_node_memo_free(&sg.numbers_b);
    free(sg.todo);
    return same;
}

#endif
