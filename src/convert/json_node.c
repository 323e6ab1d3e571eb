/* SPDX-License-Identifier: Apache-2.0 */
/* cJSON's tree becomes nodes; its parser bounds the nesting. */
#include "convert/json_node.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

#include "base/file.h"

enum { MAX_NBYTES = 16 * 1024 * 1024 };

/* The largest double below which every whole number is one. */
#define MAX_WHOLE 9007199254740992.0

/* A container whose items are being made. */
struct level {
    const cJSON *next;
    struct uz_node *node;
    bool is_object;
};

static const struct uz_node *make_number(struct uz_maker *maker, double value)
{
    if (value >= -MAX_WHOLE && value <= MAX_WHOLE && value <= (double)(int64_t)value &&
        value >= (double)(int64_t)value)
        return uz_make_int(maker, (int64_t)value);
    return uz_make_real(maker, value);
}

static const struct uz_node *make_leaf(struct uz_maker *maker, const cJSON *item)
{
    if (cJSON_IsBool(item))
        return uz_make_bool(maker, cJSON_IsTrue(item));
    if (cJSON_IsNumber(item))
        return make_number(maker, item->valuedouble);
    if (cJSON_IsString(item))
        return uz_make_str(maker, item->valuestring);
    return uz_make_none(maker);
}

static struct uz_node *make_container(struct uz_maker *maker, const cJSON *item)
{
    return cJSON_IsObject(item) ? uz_make_dict(maker) : uz_make_list(maker);
}

static int make_tree(struct uz_maker *maker, const cJSON *root, const struct uz_node **node,
                     struct uz_error *err)
{
    struct level levels[CJSON_NESTING_LIMIT + 1];
    size_t n = 1;
    levels[0] = (struct level){root->child, make_container(maker, root), true};
    *node = levels[0].node;
    while (n > 0 && maker->status == UZ_OK) {
        struct level *level = &levels[n - 1];
        const cJSON *item = level->next;
        if (!item) {
            n--;
            continue;
        }
        level->next = item->next;
        bool nested = cJSON_IsObject(item) || cJSON_IsArray(item);
        struct uz_node *container = nested ? make_container(maker, item) : NULL;
        const struct uz_node *made = nested ? container : make_leaf(maker, item);
        if (level->is_object)
            uz_make_put(maker, level->node, uz_make_str(maker, item->string), made);
        else
            uz_make_append(maker, level->node, made);
        if (nested)
            levels[n++] = (struct level){item->child, container, cJSON_IsObject(item)};
    }
    return uz_maker_check(maker, err);
}

int uz_json_to_node(struct uz_maker *maker, const char *path, const struct uz_node **node,
                    struct uz_error *err)
{
    char *text;
    size_t nbytes;
    UZ_TRY(uz_read_file(path, MAX_NBYTES, &text, &nbytes, err));
    cJSON *root = cJSON_ParseWithLengthOpts(text, nbytes + 1, NULL, true);
    free(text);
    if (!cJSON_IsObject(root)) {
        cJSON_Delete(root);
        return uz_fail_at(err, UZ_FORMAT, path, UZ_NO_OFFSET, "is no JSON object");
    }
    int rc = make_tree(maker, root, node, err);
    cJSON_Delete(root);
    return rc;
}
