/* SPDX-License-Identifier: Apache-2.0 */
/* Goes through the model states of tensor and pipeline ranks. */
#include "zero/universal_grid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zero/source.h"
#include "zero/universal_param.h"

/* One rank's module while its names are explained. */
struct module {
    struct uz_reading *r;
    struct uz_torch_file *file;
    uint32_t file_index;
    const struct uz_seq *buffer_names;
    struct uz_map *buffers; /* those names */
    const struct uz_node *shared;
};

int uz_universal_add_name(struct uz_universal_names *names, struct uz_model *model,
                          const char *name, size_t nbytes, struct uz_error *err)
{
    const char *copy, **slot;
    bool present;
    if (uz_map_get(names->index, name, nbytes, NULL))
        return UZ_OK;
    if (names->n >= model->max_tensors)
        return uz_fail(err, UZ_LIMIT, "there are more than %llu parameters",
                       (unsigned long long)model->max_tensors);
    UZ_TRY(uz_arena_strndup(model->arena, name, nbytes, &copy, err));
    UZ_TRY(uz_map_add(names->index, copy, nbytes, names->n, &present, err));
    UZ_TRY(UZ_APPEND(names->items, names->n, names->cap, &slot, err));
    *slot = copy;
    return UZ_OK;
}

/* param_shapes: {name: shape}, or a list of these. Shapes of shards do not matter here. */
static int add_names(struct uz_universal_names *names, struct uz_model *model,
                     const struct uz_torch_file *file, struct uz_error *err)
{
    const struct uz_seq *groups = uz_node_list(uz_node_get(uz_torch_root(file), "param_shapes"));
    if (!groups)
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(file), UZ_NO_OFFSET,
                          "has no 'param_shapes', the list of parameters");
    for (size_t g = 0; g < groups->n; g++) {
        const struct uz_dict *shapes = uz_node_dict(groups->items[g]);
        for (size_t i = 0; shapes && i < shapes->n; i++) {
            const struct uz_node *key = shapes->pairs[i].key;
            if (key->kind != UZ_NODE_STR ||
                !uz_universal_name_is_safe(key->u.text.data, key->u.text.nbytes))
                return uz_fail_at(err, UZ_CORRUPT, uz_torch_path(file), UZ_NO_OFFSET,
                                  "param_shapes[%zu] has a key that cannot name a folder in zero/",
                                  g);
            UZ_TRY(uz_universal_add_name(names, model, key->u.text.data, key->u.text.nbytes, err));
        }
    }
    return UZ_OK;
}

/* The model states of a model-parallel rank, opened. */
static int open_rank(struct uz_reading *r, uint32_t mp, struct uz_torch_file **file,
                     struct uz_error *err)
{
    size_t n;
    enum uz_shard_kind kind = r->first->kind;
    const struct uz_shard_file *shard = uz_topology_shards_of(r->topology, kind, mp, &n);
    char *path = uz_shard_path(r->topology, shard);
    if (!path)
        return uz_fail_nomem(err, strlen(shard->name));
    int rc = uz_torch_open(file, path, &r->options->input.limits, err);
    free(path);
    return rc;
}

static int open_all(struct uz_reading *r, uint32_t n_mp, struct uz_metadata *metadata,
                    struct uz_universal_names *names, struct uz_error *err)
{
    for (uint32_t mp = 0; mp < n_mp; mp++) {
        struct uz_torch_file *file;
        uint32_t index;
        UZ_TRY(open_rank(r, mp, &file, err));
        int rc = uz_model_add_file(r->model, uz_torch_path(file), &index, err);
        if (rc == UZ_OK)
            rc = uz_metadata_read(&metadata[mp], file, err);
        if (rc == UZ_OK)
            rc = add_names(names, r->model, file, err);
        uz_torch_close(file);
        UZ_TRY(rc);
        UZ_TRY(uz_metadata_same_save(&metadata[0], r->model->files[0], &metadata[mp],
                                     r->model->files[mp], err));
    }
    return UZ_OK;
}

static int check_grid(const struct uz_reading *r, uint32_t n_mp, const struct uz_metadata *metadata,
                      struct uz_error *err)
{
    struct uz_grid_record *records;
    struct uz_grid grid;
    UZ_TRY(uz_alloc(&records, n_mp, sizeof *records, err));
    for (uint32_t mp = 0; mp < n_mp; mp++)
        records[mp] = (struct uz_grid_record){r->model->files[mp], &metadata[mp]};
    int rc = uz_grid_find(&grid, r->topology, records, n_mp, err);
    free(records);
    return rc;
}

int uz_universal_grid_open(struct uz_reading *r, uint32_t n_mp, struct uz_universal_names *names,
                           struct uz_error *err)
{
    struct uz_metadata *metadata;
    UZ_TRY(uz_alloc(&metadata, n_mp, sizeof *metadata, err));
    int rc = open_all(r, n_mp, metadata, names, err);
    if (rc == UZ_OK)
        rc = check_grid(r, n_mp, metadata, err);
    r->info->metadata = metadata[0];
    free(metadata);
    return rc;
}

/* ---- The modules ---- */

/* Every rank holds the same buffers; the first one's count. */
static int add_buffer(const struct module *m, const struct uz_text *name,
                      const struct uz_view *view, struct uz_error *err)
{
    struct uz_piece piece;
    uint32_t tensor;
    UZ_TRY(uz_model_add_tensor(m->r->model, name->data, name->nbytes, UZ_ROLE_BUFFER, view->dtype,
                               view->ndim, view->shape, &tensor, err));
    m->r->model->tensors[tensor].lp_dtype = view->dtype;
    UZ_TRY(uz_source_whole(m->r->model, m->file_index, view, tensor, &piece, err));
    return uz_model_add_piece(m->r->model, &piece, err);
}

static int same_as_known(const struct module *m, uint32_t tensor, const struct uz_view *view,
                         struct uz_error *err)
{
    struct uz_tensor *known = &m->r->model->tensors[tensor];
    if (known->role == UZ_ROLE_PARAM)
        known->lp_dtype = view->dtype;
    if (known->role != UZ_ROLE_BUFFER ||
        (known->dtype == view->dtype && uz_view_is_of(view, known)))
        return UZ_OK;
    return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(m->file), UZ_NO_OFFSET,
                      "has the buffer %s in another shape or dtype than another rank: buffers that "
                      "differ between model-parallel ranks cannot be joined",
                      known->name);
}

/* True if the name is an alias of a parameter that the model has, or was added as one before. */
static int add_alias(const struct module *m, const struct uz_text *name, bool *added,
                     struct uz_error *err)
{
    struct uz_model *model = m->r->model;
    uint32_t tensor;
    *added = false;
    for (size_t i = 0; i < model->n_aliases && !*added; i++)
        *added = strlen(model->aliases[i].name) == name->nbytes &&
                 !memcmp(model->aliases[i].name, name->data, name->nbytes);
    const struct uz_dict *shared = uz_node_dict(m->shared);
    for (size_t i = 0; shared && i < shared->n && !*added; i++) {
        const struct uz_node *alias = shared->pairs[i].key, *holder = shared->pairs[i].value;
        if (alias->kind != UZ_NODE_STR || holder->kind != UZ_NODE_STR ||
            alias->u.text.nbytes != name->nbytes ||
            memcmp(alias->u.text.data, name->data, name->nbytes) != 0 ||
            !uz_model_find(model, holder->u.text.data, holder->u.text.nbytes, &tensor))
            continue;
        UZ_TRY(uz_model_add_alias(model, name->data, name->nbytes, tensor, model->n_tensors, err));
        *added = true;
    }
    return UZ_OK;
}

/* True if there is a whole tensor of that name, which is read afterwards. */
static bool stands_in_zero(const struct module *m, const struct uz_text *name)
{
    char *path;
    if (!uz_universal_name_is_safe(name->data, name->nbytes) ||
        asprintf(&path, "%s/zero/%.*s/fp32.pt", m->r->topology->dir, (int)name->nbytes,
                 name->data) < 0)
        return false;
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

static int explain(const struct module *m, const struct uz_pair *pair, struct uz_error *err)
{
    char shown[256];
    struct uz_view view;
    uint32_t tensor;
    bool is_alias;
    const struct uz_text *name = &pair->key->u.text;
    if (pair->key->kind != UZ_NODE_STR)
        return uz_fail_at(err, UZ_CORRUPT, uz_torch_path(m->file), UZ_NO_OFFSET,
                          "'module' has a key that is no name");
    uz_printable(shown, sizeof shown, name->data, name->nbytes);
    if (!uz_torch_is_tensor(pair->value))
        return uz_warn_of_data(m->r->notes, err, "%s in 'module' is no tensor: not converted",
                               shown);
    UZ_TRY(uz_torch_tensor(m->file, pair->value, shown, &view, err));
    if (uz_model_find(m->r->model, name->data, name->nbytes, &tensor))
        return same_as_known(m, tensor, &view, err);
    if (uz_map_get(m->buffers, name->data, name->nbytes, NULL))
        return add_buffer(m, name, &view, err);
    UZ_TRY(add_alias(m, name, &is_alias, err));
    if (is_alias || stands_in_zero(m, name))
        return UZ_OK;
    return uz_fail_at(
        err, UZ_UNSUPPORTED, uz_torch_path(m->file), UZ_NO_OFFSET,
        "%s stands in 'module' alone, as frozen parameters do; with model parallelism "
        "it is a shard, and a universal checkpoint does not hold it whole: give the "
        "ZeRO checkpoint it was made from",
        shown);
}

static int explain_all(struct module *m, struct uz_error *err)
{
    const struct uz_node *root = uz_torch_root(m->file);
    const struct uz_dict *pairs = uz_node_dict(uz_node_get(root, "module"));
    m->buffer_names = uz_node_list(uz_node_get(root, "buffer_names"));
    m->shared = uz_node_get(root, "shared_params");
    if (!pairs)
        return uz_warn_of_data(
            m->r->notes, err,
            "%s holds no weights (pipeline parallelism): buffers, frozen parameters and tied names "
            "stand in layer files, which are no part of a universal checkpoint",
            uz_torch_path(m->file));
    for (size_t i = 0; m->buffer_names && i < m->buffer_names->n; i++) {
        const struct uz_node *name = m->buffer_names->items[i];
        if (name->kind == UZ_NODE_STR)
            UZ_TRY(uz_map_add(m->buffers, name->u.text.data, name->u.text.nbytes, i, NULL, err));
    }
    for (size_t i = 0; i < pairs->n; i++)
        UZ_TRY(explain(m, &pairs->pairs[i], err));
    return UZ_OK;
}

int uz_universal_grid_modules(struct uz_reading *r, uint32_t n_mp, struct uz_error *err)
{
    for (uint32_t mp = 0; mp < n_mp; mp++) {
        struct module m = {.r = r, .file_index = mp, .buffers = uz_map_new()};
        int rc = m.buffers ? open_rank(r, mp, &m.file, err) : uz_fail_nomem(err, sizeof m);
        if (rc == UZ_OK)
            rc = explain_all(&m, err);
        uz_torch_close(m.file);
        uz_map_free(m.buffers);
        UZ_TRY(rc);
    }
    return UZ_OK;
}
