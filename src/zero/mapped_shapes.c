/* SPDX-License-Identifier: Apache-2.0 */
/* Orders and sizes out of all partitions, then a shape for each name. */
#include "zero/mapped_shapes.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "zero/layer_shapes.h"

/* A parameter of a flat group: its fragments in all partitions together. */
struct named {
    struct uz_text name;
    uint64_t numel;
    size_t last_rank; /* where its last fragment is */
};

struct group {
    struct named *items;
    size_t n, cap;
    struct uz_map *seen; /* name -> place in items */
};

struct reader {
    const struct uz_mapped_shapes *request;
    struct group *groups;
    size_t n_groups;
    struct uz_torch_file *file; /* the partition that is open */
    size_t rank;
};

/* ---- Orders and sizes ---- */

static int bad(const struct reader *r, enum uz_status status, const char *what,
               struct uz_error *err)
{
    return uz_fail_at(err, status, uz_torch_path(r->file), UZ_NO_OFFSET, "%s", what);
}

static int set_groups(struct reader *r, size_t n, struct uz_error *err)
{
    if (r->groups)
        return r->n_groups == n
                   ? UZ_OK
                   : bad(r, UZ_MISMATCH, "has another number of parameter groups than other ranks",
                         err);
    UZ_TRY(uz_alloc(&r->groups, n, sizeof *r->groups, err));
    r->n_groups = n;
    for (size_t g = 0; g < n; g++) {
        r->groups[g].seen = uz_map_new();
        if (!r->groups[g].seen)
            return uz_fail_nomem(err, sizeof(void *));
    }
    return UZ_OK;
}

/* A fragment that goes on where the partition before ended is of the same parameter. */
static int add_fragment(struct reader *r, struct group *group, const struct uz_text *name,
                        uint64_t numel, struct uz_error *err)
{
    struct named *item;
    char *text;
    uint64_t place;
    if (uz_map_get(group->seen, name->data, name->nbytes, &place)) {
        item = &group->items[place];
        if (place + 1 != group->n || item->last_rank + 1 != r->rank ||
            !uz_add_u64(item->numel, numel, &item->numel))
            return bad(r, UZ_MISMATCH,
                       "param_slice_mappings name a parameter in places that do not follow one "
                       "another",
                       err);
        item->last_rank = r->rank;
        return UZ_OK;
    }
    UZ_TRY(uz_arena_alloc(r->request->arena, (uint64_t)name->nbytes + 1, 1, &text, err));
    memcpy(text, name->data, name->nbytes);
    UZ_TRY(UZ_APPEND(group->items, group->n, group->cap, &item, err));
    *item = (struct named){{text, name->nbytes}, numel, r->rank};
    return uz_map_add(group->seen, text, name->nbytes, group->n - 1, NULL, err);
}

static int read_group(struct reader *r, struct group *group, const struct uz_node *node,
                      struct uz_error *err)
{
    const struct uz_dict *mapping = uz_node_dict(node);
    if (!mapping)
        return bad(r, UZ_CORRUPT, "param_slice_mappings holds no dictionary for a group", err);
    for (size_t i = 0; i < mapping->n; i++) {
        const struct uz_node *key = mapping->pairs[i].key, *address = mapping->pairs[i].value;
        uint64_t numel;
        if (key->kind != UZ_NODE_STR || address->kind != UZ_NODE_OBJECT ||
            !uz_node_u64(uz_node_get(address->u.object->state, "numel"), &numel))
            return bad(r, UZ_CORRUPT, "param_slice_mappings holds no fragment address", err);
        UZ_TRY(add_fragment(r, group, &key->u.text, numel, err));
    }
    return UZ_OK;
}

static int read_partition(struct reader *r, struct uz_error *err)
{
    const struct uz_node *state = uz_node_get(uz_torch_root(r->file), "optimizer_state_dict");
    const struct uz_seq *groups = uz_node_list(uz_node_get(state, "param_slice_mappings"));
    if (uz_node_get(state, "zero_stage"))
        return bad(r, UZ_MISMATCH,
                   "is a ZeRO optimizer's, but the model states have no 'param_shapes', as ZeRO "
                   "stage 0 leaves them out: files of different runs are mixed",
                   err);
    if (!groups)
        return bad(r, UZ_UNSUPPORTED,
                   "has no 'param_slice_mappings', and the model states have no 'param_shapes': "
                   "nothing tells the order of parameters in the flat buffers",
                   err);
    UZ_TRY(set_groups(r, groups->n, err));
    for (size_t g = 0; g < groups->n; g++)
        UZ_TRY(read_group(r, &r->groups[g], groups->items[g], err));
    return UZ_OK;
}

static int read_partitions(struct reader *r, struct uz_error *err)
{
    const struct uz_mapped_shapes *request = r->request;
    size_t n;
    const struct uz_shard_file *shards =
        uz_topology_shards_of(request->topology, UZ_SHARD_OPTIM, request->mp, &n);
    for (r->rank = 0; r->rank < n; r->rank++) {
        char *path = uz_shard_path(request->topology, &shards[r->rank]);
        if (!path)
            return uz_fail_nomem(err, strlen(shards[r->rank].name));
        int rc = uz_torch_open(&r->file, path, request->limits, err);
        free(path);
        UZ_TRY(rc);
        rc = read_partition(r, err);
        uz_torch_close(r->file);
        UZ_TRY(rc);
    }
    return UZ_OK;
}

/* ---- Making the list ---- */

static int new_node(const struct reader *r, enum uz_node_kind kind, struct uz_node **node,
                    struct uz_error *err)
{
    UZ_TRY(uz_arena_alloc(r->request->arena, 1, sizeof **node, node, err));
    **node = (struct uz_node){.kind = kind};
    return UZ_OK;
}

static int new_items(const struct reader *r, struct uz_node *node, size_t n,
                     const struct uz_node ***items, struct uz_error *err)
{
    UZ_TRY(uz_arena_alloc(r->request->arena, (uint64_t)n + 1, sizeof(const struct uz_node *), items,
                          err));
    node->u.seq = (struct uz_seq){.items = *items, .n = n, .cap = n};
    return UZ_OK;
}

static int make_shape(const struct reader *r, const struct uz_view *view,
                      const struct uz_node **shape, struct uz_error *err)
{
    struct uz_node *tuple, *size;
    const struct uz_node **items;
    UZ_TRY(new_node(r, UZ_NODE_TUPLE, &tuple, err));
    UZ_TRY(new_items(r, tuple, view->ndim, &items, err));
    for (unsigned i = 0; i < view->ndim; i++) {
        UZ_TRY(new_node(r, UZ_NODE_INT, &size, err));
        size->u.integer = (int64_t)view->shape[i];
        items[i] = size;
    }
    *shape = tuple;
    return UZ_OK;
}

static int make_group(const struct reader *r, const struct group *group,
                      struct uz_layer_shapes *layers, const struct uz_node **made,
                      struct uz_error *err)
{
    struct uz_node *dict, *key;
    UZ_TRY(new_node(r, UZ_NODE_DICT, &dict, err));
    UZ_TRY(uz_arena_alloc(r->request->arena, (uint64_t)group->n + 1, sizeof *dict->u.dict.pairs,
                          &dict->u.dict.pairs, err));
    dict->u.dict.n = dict->u.dict.cap = group->n;
    for (size_t i = 0; i < group->n; i++) {
        struct uz_pair *pair = &dict->u.dict.pairs[i];
        struct uz_view view;
        UZ_TRY(new_node(r, UZ_NODE_STR, &key, err));
        key->u.text = group->items[i].name;
        pair->key = key;
        UZ_TRY(
            uz_layer_shapes_find(layers, &group->items[i].name, group->items[i].numel, &view, err));
        UZ_TRY(make_shape(r, &view, &pair->value, err));
    }
    *made = dict;
    return UZ_OK;
}

static int make_list(const struct reader *r, const struct uz_node **shapes, struct uz_error *err)
{
    struct uz_node *list;
    const struct uz_node **items;
    struct uz_layer_shapes layers;
    UZ_TRY(new_node(r, UZ_NODE_LIST, &list, err));
    UZ_TRY(new_items(r, list, r->n_groups, &items, err));
    int rc = UZ_OK;
    uz_layer_shapes_open(&layers, r->request);
    for (size_t g = 0; rc == UZ_OK && g < r->n_groups; g++)
        rc = make_group(r, &r->groups[g], &layers, &items[g], err);
    uz_layer_shapes_close(&layers);
    *shapes = list;
    return rc;
}

int uz_mapped_shapes_read(const struct uz_mapped_shapes *request, const struct uz_node **shapes,
                          struct uz_error *err)
{
    struct reader r = {.request = request};
    int rc = read_partitions(&r, err);
    if (rc == UZ_OK)
        rc = make_list(&r, shapes, err);
    for (size_t g = 0; r.groups && g < r.n_groups; g++) {
        free(r.groups[g].items);
        uz_map_free(r.groups[g].seen);
    }
    free(r.groups);
    return rc;
}
