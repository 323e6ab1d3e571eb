/* SPDX-License-Identifier: Apache-2.0 */
/* A file of rules in JSON: turned into the values that a pickle would hold. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "base/file.h"
#include "base/utf8.h"
#include "zero/tp_rules_impl.h"

enum { MAX_FILE_NBYTES = 64 * 1024 * 1024 };

/* A node whose value is a JSON item that is still to be turned. */
struct open_node {
    struct uz_node *node;
    const cJSON *item;
};

struct stack {
    struct open_node *items;
    size_t n, cap;
};

static int new_text(struct uz_arena *arena, const char *text, struct uz_text *out,
                    struct uz_error *err)
{
    out->nbytes = strlen(text);
    return uz_arena_strndup(arena, text, out->nbytes, &out->data, err);
}

/* A new node for each child, which goes onto the stack. */
static int open_child(struct uz_arena *arena, struct stack *stack, const cJSON *item,
                      const struct uz_node **node, struct uz_error *err)
{
    struct open_node *open;
    struct uz_node *made;
    UZ_TRY(uz_arena_alloc(arena, 1, sizeof *made, &made, err));
    *made = (struct uz_node){0};
    *node = made;
    UZ_TRY(UZ_APPEND(stack->items, stack->n, stack->cap, &open, err));
    *open = (struct open_node){made, item};
    return UZ_OK;
}

static int turn_list(struct uz_arena *arena, struct stack *stack, const cJSON *item,
                     struct uz_node *node, struct uz_error *err)
{
    size_t n = 0;
    for (const cJSON *child = item->child; child; child = child->next)
        n++;
    node->kind = UZ_NODE_LIST;
    UZ_TRY(uz_arena_alloc(arena, n + 1, sizeof *node->u.seq.items, &node->u.seq.items, err));
    for (const cJSON *child = item->child; child; child = child->next)
        UZ_TRY(open_child(arena, stack, child, &node->u.seq.items[node->u.seq.n++], err));
    return UZ_OK;
}

static int turn_object(struct uz_arena *arena, struct stack *stack, const cJSON *item,
                       struct uz_node *node, struct uz_error *err)
{
    size_t n = 0;
    for (const cJSON *child = item->child; child; child = child->next)
        n++;
    node->kind = UZ_NODE_DICT;
    UZ_TRY(uz_arena_alloc(arena, n + 1, sizeof *node->u.dict.pairs, &node->u.dict.pairs, err));
    for (const cJSON *child = item->child; child; child = child->next) {
        struct uz_pair *pair = &node->u.dict.pairs[node->u.dict.n++];
        struct uz_node *key;
        UZ_TRY(uz_arena_alloc(arena, 1, sizeof *key, &key, err));
        *key = (struct uz_node){.kind = UZ_NODE_STR};
        UZ_TRY(new_text(arena, child->string, &key->u.text, err));
        pair->key = key;
        UZ_TRY(open_child(arena, stack, child, &pair->value, err));
    }
    return UZ_OK;
}

static int turn(struct uz_arena *arena, struct stack *stack, struct uz_error *err)
{
    struct open_node open = stack->items[--stack->n];
    struct uz_node *node = open.node;
    if (cJSON_IsArray(open.item))
        return turn_list(arena, stack, open.item, node, err);
    if (cJSON_IsObject(open.item))
        return turn_object(arena, stack, open.item, node, err);
    if (cJSON_IsString(open.item)) {
        node->kind = UZ_NODE_STR;
        return new_text(arena, open.item->valuestring, &node->u.text, err);
    }
    if (cJSON_IsBool(open.item)) {
        node->kind = UZ_NODE_BOOL;
        node->u.boolean = cJSON_IsTrue(open.item);
    } else if (cJSON_IsNumber(open.item)) {
        double value = open.item->valuedouble;
        bool whole = fabs(value) < 9007199254740992.0 && value >= trunc(value) &&
                     value <= trunc(value); /* below 2^53 */
        node->kind = whole ? UZ_NODE_INT : UZ_NODE_FLOAT;
        if (whole)
            node->u.integer = (int64_t)value;
        else
            node->u.real = value;
    } else {
        node->kind = UZ_NODE_NONE;
    }
    return UZ_OK;
}

static int turn_all(struct uz_arena *arena, const cJSON *json, const struct uz_node **root,
                    struct uz_error *err)
{
    struct stack stack = {0};
    int rc = open_child(arena, &stack, json, root, err);
    while (rc == UZ_OK && stack.n > 0)
        rc = turn(arena, &stack, err);
    free(stack.items);
    return rc;
}

static int read_rules(struct uz_tp_rules **rules, const cJSON *json, const char *path,
                      const struct uz_limits *limits, struct uz_error *err)
{
    const struct uz_node *root;
    struct uz_arena *arena = uz_arena_new(limits->max_pickle_arena);
    if (!arena)
        return uz_fail_nomem(err, sizeof(void *));
    int rc = turn_all(arena, json, &root, err);
    if (rc == UZ_OK)
        rc = uz_tp_rules_read(rules, root, "--tp-map", limits, err);
    uz_arena_free(arena);
    return rc < 0 ? uz_error_in_file(err, rc, path) : UZ_OK;
}

int uz_tp_rules_from_json(struct uz_tp_rules **rules, const char *path,
                          const struct uz_limits *limits, struct uz_error *err)
{
    char *text;
    size_t nbytes;
    UZ_TRY(uz_read_file(path, MAX_FILE_NBYTES, &text, &nbytes, err));
    const char *end = NULL;
    cJSON *json = NULL;
    /* texts are terminated: one with a 0 in it would end early */
    if (uz_utf8_valid(text, nbytes) && !memchr(text, '\0', nbytes) && !strstr(text, "\\u0000"))
        json = cJSON_ParseWithLengthOpts(text, nbytes + 1, &end, true);
    int rc = json ? read_rules(rules, json, path, limits, err)
                  : uz_fail_at(err, UZ_CORRUPT, path, end ? (uint64_t)(end - text) : UZ_NO_OFFSET,
                               "is no proper JSON");
    cJSON_Delete(json);
    free(text);
    return rc;
}

int uz_tp_rules_check_json(const char *path, const struct uz_limits *limits, struct uz_error *err)
{
    struct uz_tp_rules *rules;
    UZ_TRY(uz_tp_rules_from_json(&rules, path, limits, err));
    uz_tp_rules_free(rules);
    return UZ_OK;
}
