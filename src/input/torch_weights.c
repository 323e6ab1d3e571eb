/* SPDX-License-Identifier: Apache-2.0 */
/* From a PyTorch file to tensors of the model. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "input/weights.h"
#include "torch/file.h"
#include "zero/shard_name.h"
#include "zero/source.h"

/* One PyTorch file while its tensors are added. */
struct reader {
    const struct uz_weights *weights;
    struct uz_torch_file *file;
    uint32_t file_index;
    struct uz_map *by_memory; /* what is at that memory -> tensor */
    struct uz_arena *arena;
    uint64_t order; /* of the next name */
};

/* Keys under which programs keep the weights beside other things, the likeliest first. */
static const char *const usual_keys[] = {"state_dict", "model_state_dict", "model", "module",
                                         "params"};

static size_t count_tensors(const struct uz_dict *dict)
{
    size_t n = 0;
    for (size_t i = 0; i < dict->n; i++)
        n += dict->pairs[i].key->kind == UZ_NODE_STR && uz_torch_is_tensor(dict->pairs[i].value);
    return n;
}

/* The value that holds tensors by name; `from` becomes its key, NULL if several might be meant. */
static const struct uz_dict *find_nested(const struct uz_node *root, const char **from,
                                         size_t *n_found)
{
    const struct uz_dict *outer = uz_node_dict(root), *found = NULL;
    *n_found = 0;
    *from = "";
    for (size_t i = 0; i < outer->n; i++) {
        const struct uz_dict *inner = uz_node_dict(outer->pairs[i].value);
        if (inner && count_tensors(inner) > 0) {
            found = inner;
            (*n_found)++;
        }
    }
    for (size_t i = 0; *n_found > 1 && i < sizeof usual_keys / sizeof usual_keys[0]; i++) {
        const struct uz_dict *inner = uz_node_dict(uz_node_get(root, usual_keys[i]));
        if (inner && count_tensors(inner) > 0) {
            *from = usual_keys[i];
            return inner;
        }
    }
    return *n_found == 1 ? found : NULL;
}

static const char *path_of(const struct reader *r)
{
    return uz_torch_path(r->file);
}

static int fail_file(const struct reader *r, struct uz_error *err, const char *what)
{
    return uz_fail_at(err, UZ_FORMAT, path_of(r), UZ_NO_OFFSET, "%s", what);
}

static int find_dict(const struct reader *r, const struct uz_dict **dict, struct uz_error *err)
{
    const struct uz_node *root = uz_torch_root(r->file);
    const char *from;
    size_t n_found;
    *dict = uz_node_dict(root);
    if (!*dict)
        return fail_file(r, err, "holds no dictionary of tensors by name");
    if (count_tensors(*dict) > 0)
        return UZ_OK;
    *dict = find_nested(root, &from, &n_found);
    if (!*dict && n_found > 1)
        return fail_file(r, err,
                         "holds several dictionaries of tensors by name: which is meant is "
                         "not clear");
    if (!*dict)
        return fail_file(r, err, "holds no tensors by name");
    if (n_found > 1)
        return uz_warn(r->weights->notes, err,
                       "%s holds several dictionaries of tensors; '%s' is read", path_of(r), from);
    return UZ_OK;
}

static int add_tensor(struct reader *r, const struct uz_text *name, const struct uz_view *view,
                      const char *key, size_t key_nbytes, struct uz_error *err)
{
    struct uz_model *model = r->weights->model;
    struct uz_piece piece;
    uint32_t tensor;
    UZ_TRY(uz_model_add_tensor(model, name->data, name->nbytes, UZ_ROLE_PARAM, view->dtype,
                               view->ndim, view->shape, &tensor, err));
    if (view->numel == 0)
        return UZ_OK;
    UZ_TRY(uz_map_add(r->by_memory, key, key_nbytes, tensor, NULL, err));
    UZ_TRY(uz_source_whole(model, r->file_index, view, tensor, &piece, err));
    return uz_model_add_piece(model, &piece, err);
}

/* A second name of memory that has one is an alias; equal dtypes belong to it. */
static int add_name(struct reader *r, const struct uz_text *name, const struct uz_node *node,
                    struct uz_error *err)
{
    struct uz_model *model = r->weights->model;
    char shown[256];
    struct uz_view view;
    const char *key;
    size_t key_nbytes;
    uint64_t holder;
    UZ_TRY(uz_torch_tensor(
        r->file, node, uz_printable(shown, sizeof shown, name->data, name->nbytes), &view, err));
    UZ_TRY(uz_view_memory_key(r->arena, &view, &key, &key_nbytes, err));
    r->order++;
    if (view.numel > 0 && uz_map_get(r->by_memory, key, key_nbytes, &holder) &&
        model->tensors[holder].dtype == view.dtype)
        return uz_model_add_alias(model, name->data, name->nbytes, (uint32_t)holder, r->order, err);
    UZ_TRY(add_tensor(r, name, &view, key, key_nbytes, err));
    model->tensors[model->n_tensors - 1].order = r->order;
    return UZ_OK;
}

static int add_dict(struct reader *r, const struct uz_dict *dict, struct uz_error *err)
{
    size_t n_others = 0;
    for (size_t i = 0; i < dict->n; i++) {
        const struct uz_pair *pair = &dict->pairs[i];
        if (pair->key->kind != UZ_NODE_STR || !uz_torch_is_tensor(pair->value))
            n_others++;
        else
            UZ_TRY(uz_error_in_file(err, add_name(r, &pair->key->u.text, pair->value, err),
                                    path_of(r)));
    }
    if (n_others == 0)
        return UZ_OK;
    return uz_warn(r->weights->notes, err,
                   "%s: %zu values beside the tensors are no tensors and "
                   "were passed over",
                   path_of(r), n_others);
}

static int add_bare_tensor(struct reader *r, struct uz_error *err)
{
    const char *name = uz_path_name(path_of(r));
    const char *dot = strrchr(name, '.');
    struct uz_text text = {name, dot && dot != name ? (size_t)(dot - name) : strlen(name)};
    return add_name(r, &text, uz_torch_root(r->file), err);
}

/* Shards that hold placeholders or partitions are not weights. */
static int refuse_shards(const struct reader *r, struct uz_error *err)
{
    struct uz_shard_file shard;
    if (!uz_parse_shard_name(uz_path_name(path_of(r)), &shard) || shard.kind == UZ_SHARD_MODEL ||
        shard.kind == UZ_SHARD_LAYER || shard.kind == UZ_SHARD_EXPERT)
        return UZ_OK;
    return fail_file(r, err, "is one shard of a ZeRO checkpoint; give the folder it is in");
}

static int add_all(struct reader *r, struct uz_error *err)
{
    const struct uz_dict *dict = NULL;
    r->order = r->weights->model->n_tensors;
    r->by_memory = uz_map_new();
    r->arena = uz_arena_new(r->weights->limits->max_pickle_arena);
    if (!r->by_memory || !r->arena)
        return uz_fail_nomem(err, sizeof *r);
    UZ_TRY(refuse_shards(r, err));
    if (uz_torch_is_tensor(uz_torch_root(r->file)))
        return add_bare_tensor(r, err);
    UZ_TRY(find_dict(r, &dict, err));
    return add_dict(r, dict, err);
}

int uz_weights_add_torch(const struct uz_weights *weights, const char *path, struct uz_error *err)
{
    struct reader r = {.weights = weights};
    UZ_TRY(uz_torch_open(&r.file, path, weights->limits, err));
    int rc = uz_model_add_file(weights->model, path, &r.file_index, err);
    if (rc == UZ_OK)
        rc = add_all(&r, err);
    uz_map_free(r.by_memory);
    uz_arena_free(r.arena);
    uz_torch_close(r.file);
    return rc;
}
