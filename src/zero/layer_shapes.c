/* SPDX-License-Identifier: Apache-2.0 */
/* Opens layer files one at a time; names come in the order of layers. */
#include "zero/layer_shapes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layout/model.h"

static const char tied_prefix[] = "tied_modules.";

/* Layer files are of tensor ranks; as many as their names tell. */
void uz_layer_shapes_open(struct uz_layer_shapes *s, const struct uz_mapped_shapes *request)
{
    size_t n;
    const struct uz_shard_file *all = uz_topology_shards(request->topology, UZ_SHARD_LAYER, &n);
    uint32_t tp = n > 0 ? all[n - 1].mp + 1 : 1; /* they are sorted */
    *s = (struct uz_layer_shapes){.request = request};
    s->shards =
        uz_topology_shards_of(request->topology, UZ_SHARD_LAYER, request->mp % tp, &s->n_shards);
}

void uz_layer_shapes_close(struct uz_layer_shapes *s)
{
    uz_torch_close(s->file);
}

static int open_shard(struct uz_layer_shapes *s, size_t number, struct uz_error *err)
{
    if (s->file && s->open == number)
        return UZ_OK;
    uz_torch_close(s->file);
    s->file = NULL;
    char *path = uz_shard_path(s->request->topology, &s->shards[number]);
    if (!path)
        return uz_fail_nomem(err, strlen(s->shards[number].name));
    int rc = uz_torch_open(&s->file, path, s->request->limits, err);
    free(path);
    s->open = number;
    return rc;
}

/* The entry of the open layer file with that key. */
static int find_key(struct uz_layer_shapes *s, const char *key, size_t nbytes, bool *found,
                    struct uz_view *view, struct uz_error *err)
{
    const struct uz_dict *pairs = uz_node_dict(uz_torch_root(s->file));
    *found = false;
    for (size_t i = 0; pairs && i < pairs->n; i++) {
        const struct uz_node *node = pairs->pairs[i].key;
        if (node->kind != UZ_NODE_STR || node->u.text.nbytes != nbytes ||
            memcmp(node->u.text.data, key, nbytes) != 0 ||
            !uz_torch_is_tensor(pairs->pairs[i].value))
            continue;
        *found = true;
        return uz_torch_tensor(s->file, pairs->pairs[i].value, "a layer's weight", view, err);
    }
    return UZ_OK;
}

/* <layer>.<key> */
static int find_layer(struct uz_layer_shapes *s, const struct uz_text *name, bool *found,
                      struct uz_view *view, struct uz_error *err)
{
    size_t n = 0;
    uint64_t layer = 0;
    *found = false;
    for (; n < name->nbytes && n < 9 && name->data[n] >= '0' && name->data[n] <= '9'; n++)
        layer = layer * 10 + (uint64_t)(name->data[n] - '0');
    if (n == 0 || n + 1 >= name->nbytes || name->data[n] != '.')
        return UZ_OK;
    for (size_t i = 0; i < s->n_shards; i++) {
        if (s->shards[i].layer != layer)
            continue;
        UZ_TRY(open_shard(s, i, err));
        return find_key(s, name->data + n + 1, name->nbytes - n - 1, found, view, err);
    }
    return UZ_OK;
}

static int cannot_tell(const struct uz_layer_shapes *s, const struct uz_text *name,
                       struct uz_error *err)
{
    char shown[160];
    uz_printable(shown, sizeof shown, name->data, name->nbytes);
    return uz_fail_at(err, UZ_UNSUPPORTED, s->request->topology->dir, UZ_NO_OFFSET,
                      "layers of different shapes can be tied to %s: which one it is cannot be "
                      "told, because the model states have no 'param_shapes'",
                      shown);
}

/* tied_modules.<tie>.<key>: any layer's entry with that key and as many elements. */
static int find_tied(struct uz_layer_shapes *s, const struct uz_text *name, uint64_t numel,
                     bool *found, struct uz_view *view, struct uz_error *err)
{
    size_t n = sizeof tied_prefix - 1;
    const char *key = name->nbytes > n ? memchr(name->data + n, '.', name->nbytes - n) : NULL;
    *found = false;
    if (!key || memcmp(name->data, tied_prefix, n) != 0)
        return UZ_OK;
    key++;
    for (size_t i = 0; i < s->n_shards; i++) {
        struct uz_view other;
        bool there;
        UZ_TRY(open_shard(s, i, err));
        UZ_TRY(find_key(s, key, name->nbytes - (size_t)(key - name->data), &there, &other, err));
        if (!there || other.numel != numel)
            continue;
        if (*found && !uz_same_shape(other.ndim, other.shape, view->ndim, view->shape))
            return cannot_tell(s, name, err);
        *view = other;
        *found = true;
    }
    return UZ_OK;
}

int uz_layer_shapes_find(struct uz_layer_shapes *s, const struct uz_text *name, uint64_t numel,
                         struct uz_view *view, struct uz_error *err)
{
    char shown[160];
    bool found = false;
    uz_printable(shown, sizeof shown, name->data, name->nbytes);
    UZ_TRY(find_layer(s, name, &found, view, err));
    if (!found)
        UZ_TRY(find_tied(s, name, numel, &found, view, err));
    if (!found)
        return uz_fail_at(err, UZ_MISMATCH, s->request->topology->dir, UZ_NO_OFFSET,
                          "%s has %llu elements in the partitions (param_slice_mappings), but no "
                          "layer file holds a copy of it: shards or layer files are missing",
                          shown, (unsigned long long)numel);
    if (view->numel == numel)
        return UZ_OK;
    return uz_fail_at(err, UZ_MISMATCH, s->request->topology->dir, UZ_NO_OFFSET,
                      "%s has %llu elements in the partitions (param_slice_mappings), but its "
                      "low-precision copy has %llu: shards are missing or mixed",
                      shown, (unsigned long long)numel, (unsigned long long)view->numel);
}
