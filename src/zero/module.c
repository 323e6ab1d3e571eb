/* SPDX-License-Identifier: Apache-2.0 */
/* Walks through the module's names and explains each. */
#include "zero/module.h"

#include <stdlib.h>
#include <string.h>

#include "layout/shape_text.h"
#include "zero/source.h"

/* Aliases of aliases; DeepSpeed always names the holder itself. */
enum { MAX_HOPS = 16 };

/* A second name of a parameter's memory. */
struct tie {
    const struct uz_text *alias, *holder;
};

/* The accepted ties, found by alias. */
struct ties {
    struct tie *items;
    size_t n, cap;
    struct uz_map *by_alias;
};

/* One name of the module while it is explained. */
struct entry {
    const char *name;
    size_t nbytes;
    const struct uz_node *value;
};

static const char *path_of(const struct uz_module_reader *r)
{
    return uz_torch_path(r->file);
}

/* The strings of a list, indexed. NULL nodes and None give an empty map. */
static int index_names(const struct uz_module_reader *r, const char *key, struct uz_map **map,
                       struct uz_error *err)
{
    *map = uz_map_new();
    if (!*map)
        return uz_fail_nomem(err, sizeof(void *));
    const struct uz_seq *list = uz_node_list(uz_node_get(uz_torch_root(r->file), key));
    for (size_t i = 0; list && i < list->n; i++) {
        const struct uz_node *item = list->items[i];
        if (item->kind != UZ_NODE_STR)
            return uz_fail_at(err, UZ_CORRUPT, path_of(r), UZ_NO_OFFSET,
                              "'%s' holds something that is no name", key);
        UZ_TRY(uz_map_add(*map, item->u.text.data, item->u.text.nbytes, i, NULL, err));
    }
    return UZ_OK;
}

static int resolve(const struct uz_module_reader *r, const struct entry *entry,
                   struct uz_view *view, struct uz_error *err)
{
    char name[256];
    uz_printable(name, sizeof name, entry->name, entry->nbytes);
    return uz_torch_tensor(r->file, entry->value, name, view, err);
}

/* A parameter of the table: the module holds its low-precision copy, or a ZeRO-3 placeholder. */
static int read_parameter(const struct uz_module_reader *r, const struct entry *entry,
                          uint32_t tensor, struct uz_error *err)
{
    struct uz_tensor *param = &r->model->tensors[tensor];
    struct uz_view view;
    UZ_TRY(resolve(r, entry, &view, err));
    if (r->kind == UZ_MODULE_PLACEHOLDERS && view.numel == 0) {
        param->lp_dtype = view.dtype;
        return UZ_OK;
    }
    if (!uz_view_is_of(&view, param)) {
        char here[160], there[160];
        return uz_fail_at(
            err, UZ_MISMATCH, path_of(r), UZ_NO_OFFSET,
            "%s has shape %s in 'module', but %s in 'param_shapes'", param->name,
            uz_shape_text(here, sizeof here, view.ndim, view.shape, view.numel),
            uz_shape_text(there, sizeof there, param->ndim, param->shape, param->numel));
    }
    struct uz_piece piece;
    UZ_TRY(uz_source_whole(r->model, r->file_index, &view, tensor, &piece, err));
    return uz_model_set_lp(r->model, tensor, view.dtype, &piece, err);
}

/* A tensor whose only data is in the module. */
static int read_whole(const struct uz_module_reader *r, const struct entry *entry,
                      enum uz_role role, struct uz_error *err)
{
    struct uz_view view;
    struct uz_piece piece;
    uint32_t tensor;
    UZ_TRY(resolve(r, entry, &view, err));
    int rc = uz_model_add_tensor(r->model, entry->name, entry->nbytes, role, view.dtype, view.ndim,
                                 view.shape, &tensor, err);
    if (rc < 0)
        return uz_error_in_file(err, rc, path_of(r));
    r->model->tensors[tensor].lp_dtype = view.dtype;
    UZ_TRY(uz_source_whole(r->model, r->file_index, &view, tensor, &piece, err));
    return uz_model_add_piece(r->model, &piece, err);
}

/* A parameter of stage 0; whether it has a master is found out later. */
static int read_candidate(const struct uz_module_reader *r, const struct entry *entry,
                          struct uz_error *err)
{
    struct uz_view view;
    struct uz_piece piece;
    uint32_t tensor;
    UZ_TRY(resolve(r, entry, &view, err));
    int rc = uz_model_add_tensor(r->model, entry->name, entry->nbytes, UZ_ROLE_FROZEN, view.dtype,
                                 view.ndim, view.shape, &tensor, err);
    if (rc < 0)
        return uz_error_in_file(err, rc, path_of(r));
    UZ_TRY(uz_source_whole(r->model, r->file_index, &view, tensor, &piece, err));
    return uz_model_set_lp(r->model, tensor, view.dtype, &piece, err);
}

/* A name that is neither a known parameter nor a buffer nor an accepted alias. */
static int read_unlisted(const struct uz_module_reader *r, const struct entry *entry,
                         struct uz_error *err)
{
    char name[256], kind[160];
    uz_printable(name, sizeof name, entry->name, entry->nbytes);
    if (!uz_torch_is_tensor(entry->value))
        return uz_warn_of_data(r->notes, err, "%s in 'module' is %s, not a tensor: not converted",
                               name, uz_node_describe(entry->value, kind, sizeof kind));
    if (r->kind == UZ_MODULE_MASTERS_UNKNOWN)
        return read_candidate(r, entry, err);
    if (r->kind == UZ_MODULE_ALONE)
        return read_whole(r, entry, UZ_ROLE_PARAM, err);
    if (r->kind == UZ_MODULE_WHOLE)
        return read_whole(r, entry, UZ_ROLE_FROZEN, err);
    struct uz_view view;
    UZ_TRY(resolve(r, entry, &view, err));
    if (view.numel == 0)
        return uz_fail_at(err, UZ_MISMATCH, path_of(r), UZ_NO_OFFSET,
                          "%s is an empty ZeRO-3 placeholder in 'module', but neither param_shapes "
                          "nor frozen_param_shapes tell where its data is: a parameter that the "
                          "optimizer was not given is not saved",
                          name);
    UZ_TRY(uz_warn_of_data(
        r->notes, err,
        "%s stands only in 'module' of a ZeRO-3 checkpoint: taken as it is stored there", name));
    return read_whole(r, entry, UZ_ROLE_FROZEN, err);
}

/* True if both names of the module are one piece of memory. */
static int same_memory(const struct uz_module_reader *r, const struct uz_node *alias,
                       const struct uz_node *holder, bool *same, struct uz_error *err)
{
    struct uz_view a, b;
    UZ_TRY(uz_torch_tensor(r->file, alias, "a shared parameter", &a, err));
    UZ_TRY(uz_torch_tensor(r->file, holder, "a shared parameter", &b, err));
    *same = a.storage.key == b.storage.key && a.first == b.first &&
            uz_same_shape(a.ndim, a.shape, b.ndim, b.shape) &&
            !memcmp(a.stride, b.stride, a.ndim * sizeof *a.stride);
    return UZ_OK;
}

/*
 * DeepSpeed finds shared parameters by address (ZeRO 1, 2), so tensors without elements may be
 * listed falsely. An alias counts only if it stands in the module and has no data of its own: under
 * ZeRO 1 and 2 it must have elements and be the same memory as its holder, under ZeRO 3 it must be
 * an empty placeholder. (With exclude_frozen_parameters the list may name what was not saved.)
 */
static int accept_alias(const struct uz_module_reader *r, const struct uz_map *module,
                        const struct uz_map *buffers, const struct uz_dict *pairs,
                        const struct uz_pair *pair, bool *accepted, struct uz_error *err)
{
    const struct uz_text *alias = &pair->key->u.text, *holder = &pair->value->u.text;
    uint64_t alias_at, holder_at;
    uint32_t tensor;
    *accepted = false;
    if (uz_model_find(r->model, alias->data, alias->nbytes, &tensor) ||
        uz_map_get(buffers, alias->data, alias->nbytes, NULL) ||
        !uz_map_get(module, alias->data, alias->nbytes, &alias_at) ||
        !uz_map_get(module, holder->data, holder->nbytes, &holder_at))
        return UZ_OK;
    struct uz_view view;
    UZ_TRY(
        uz_torch_tensor(r->file, pairs->pairs[alias_at].value, "a shared parameter", &view, err));
    bool placeholders = r->kind == UZ_MODULE_PLACEHOLDERS;
    if (placeholders || view.numel == 0) {
        *accepted = placeholders && view.numel == 0;
        return UZ_OK;
    }
    return same_memory(r, pairs->pairs[alias_at].value, pairs->pairs[holder_at].value, accepted,
                       err);
}

static int add_tie(struct ties *ties, const struct uz_text *alias, const struct uz_text *holder,
                   struct uz_error *err)
{
    bool present;
    UZ_TRY(uz_map_add(ties->by_alias, alias->data, alias->nbytes, ties->n, &present, err));
    if (present)
        return UZ_OK;
    UZ_TRY(uz_reserve(&ties->items, &ties->cap, (uint64_t)ties->n + 1, sizeof *ties->items, err));
    ties->items[ties->n++] = (struct tie){alias, holder};
    return UZ_OK;
}

/* The entries of `shared_params` that are accepted. */
static int list_shared(const struct uz_module_reader *r, const struct uz_map *module,
                       const struct uz_map *buffers, const struct uz_dict *pairs,
                       const struct uz_dict *shared, struct ties *ties, struct uz_error *err)
{
    for (size_t i = 0; i < shared->n; i++) {
        const struct uz_pair *pair = &shared->pairs[i];
        bool accepted;
        if (pair->key->kind != UZ_NODE_STR || pair->value->kind != UZ_NODE_STR)
            return uz_fail_at(err, UZ_CORRUPT, path_of(r), UZ_NO_OFFSET,
                              "'shared_params' holds something that is no name");
        UZ_TRY(accept_alias(r, module, buffers, pairs, pair, &accepted, err));
        if (accepted)
            UZ_TRY(add_tie(ties, &pair->key->u.text, &pair->value->u.text, err));
    }
    return UZ_OK;
}

/* Names of one piece of memory, where no list tells of them: the first one is the holder. */
static int list_same_memory(const struct uz_module_reader *r, const struct uz_map *buffers,
                            const struct uz_dict *pairs, struct ties *ties, struct uz_map *seen,
                            struct uz_arena *arena, struct uz_error *err)
{
    for (size_t i = 0; i < pairs->n; i++) {
        const struct uz_text *name = &pairs->pairs[i].key->u.text;
        struct entry entry = {name->data, name->nbytes, pairs->pairs[i].value};
        struct uz_view view;
        const char *key;
        size_t nbytes;
        uint64_t holder;
        if (uz_map_get(buffers, name->data, name->nbytes, NULL) || !uz_torch_is_tensor(entry.value))
            continue;
        UZ_TRY(resolve(r, &entry, &view, err));
        if (view.numel == 0)
            continue;
        UZ_TRY(uz_view_memory_key(arena, &view, &key, &nbytes, err));
        if (uz_map_get(seen, key, nbytes, &holder))
            UZ_TRY(add_tie(ties, name, &pairs->pairs[holder].key->u.text, err));
        else
            UZ_TRY(uz_map_add(seen, key, nbytes, i, NULL, err));
    }
    return UZ_OK;
}

static int text_node(struct uz_arena *arena, const char *text, const struct uz_node **node,
                     struct uz_error *err)
{
    struct uz_node *made;
    UZ_TRY(uz_arena_alloc(arena, 1, sizeof *made, &made, err));
    *made = (struct uz_node){.kind = UZ_NODE_STR, .u.text = {text, strlen(text)}};
    *node = made;
    return UZ_OK;
}

/*
 * Global rank 0 alone lists shared parameters: other model-parallel ranks tie the same names, if
 * they have them. The texts are that rank's.
 */
static int list_others_ties(const struct uz_module_reader *r, const struct uz_map *module,
                            const struct uz_map *buffers, const struct uz_dict *pairs,
                            struct ties *ties, struct uz_error *err)
{
    const struct uz_model *other = r->ties_of;
    struct uz_dict shared = {.n = other->n_aliases};
    UZ_TRY(uz_arena_alloc(r->model->arena, (uint64_t)shared.n + 1, sizeof *shared.pairs,
                          &shared.pairs, err));
    for (size_t i = 0; i < shared.n; i++) {
        const struct uz_alias *alias = &other->aliases[i];
        UZ_TRY(text_node(r->model->arena, alias->name, &shared.pairs[i].key, err));
        UZ_TRY(text_node(r->model->arena, other->tensors[alias->tensor].name,
                         &shared.pairs[i].value, err));
    }
    return list_shared(r, module, buffers, pairs, &shared, ties, err);
}

static int list_ties(const struct uz_module_reader *r, const struct uz_map *module,
                     const struct uz_map *buffers, const struct uz_dict *pairs, struct ties *ties,
                     struct uz_error *err)
{
    const struct uz_dict *shared =
        uz_node_dict(uz_node_get(uz_torch_root(r->file), "shared_params"));
    if (r->ties_of && shared && shared->n == 0)
        return list_others_ties(r, module, buffers, pairs, ties, err);
    if (shared)
        return list_shared(r, module, buffers, pairs, shared, ties, err);
    if (r->kind != UZ_MODULE_MASTERS_UNKNOWN && r->kind != UZ_MODULE_ALONE)
        return UZ_OK;
    struct uz_map *seen = uz_map_new();
    struct uz_arena *arena = uz_arena_new(UINT64_MAX);
    int rc = seen && arena ? list_same_memory(r, buffers, pairs, ties, seen, arena, err)
                           : uz_fail_nomem(err, sizeof(void *));
    uz_map_free(seen);
    uz_arena_free(arena);
    return rc;
}

/* Ties the accepted aliases to their tensors, following aliases of aliases. */
static int add_aliases(const struct uz_module_reader *r, const struct uz_map *module,
                       const struct ties *ties, struct uz_error *err)
{
    for (size_t i = 0; i < ties->n; i++) {
        const struct uz_text *alias = ties->items[i].alias, *holder = ties->items[i].holder;
        uint64_t next;
        uint32_t tensor;
        for (unsigned hops = 0;
             hops < MAX_HOPS && uz_map_get(ties->by_alias, holder->data, holder->nbytes, &next);
             hops++)
            holder = ties->items[next].holder;
        if (!uz_model_find(r->model, holder->data, holder->nbytes, &tensor))
            return uz_fail_at(err, UZ_MISMATCH, path_of(r), UZ_NO_OFFSET,
                              "%.*s shares the data of %.*s, which is nowhere to be found",
                              (int)alias->nbytes, alias->data, (int)holder->nbytes, holder->data);
        uz_map_get(module, alias->data, alias->nbytes, &next);
        UZ_TRY(uz_model_add_alias(r->model, alias->data, alias->nbytes, tensor, next, err));
    }
    return UZ_OK;
}

/* Names by their place in the module; also checks that they are names, each there once. */
static int index_module(const struct uz_module_reader *r, const struct uz_dict *pairs,
                        struct uz_map *module, struct uz_error *err)
{
    for (size_t i = 0; i < pairs->n; i++) {
        const struct uz_node *key = pairs->pairs[i].key;
        bool present;
        if (key->kind != UZ_NODE_STR)
            return uz_fail_at(err, UZ_CORRUPT, path_of(r), UZ_NO_OFFSET,
                              "'module' has a key that is no name");
        UZ_TRY(uz_map_add(module, key->u.text.data, key->u.text.nbytes, i, &present, err));
        if (present)
            return uz_fail_at(err, UZ_CORRUPT, path_of(r), UZ_NO_OFFSET,
                              "'module' has the name %.*s twice", (int)key->u.text.nbytes,
                              key->u.text.data);
    }
    return UZ_OK;
}

static int read_entries(const struct uz_module_reader *r, const struct uz_dict *pairs,
                        const struct uz_map *buffers, const struct ties *ties, struct uz_error *err)
{
    for (size_t i = 0; i < pairs->n; i++) {
        const struct uz_text *name = &pairs->pairs[i].key->u.text;
        struct entry entry = {name->data, name->nbytes, pairs->pairs[i].value};
        uint32_t tensor;
        if (uz_model_find(r->model, name->data, name->nbytes, &tensor)) {
            if (r->model->tensors[tensor].role == UZ_ROLE_PARAM)
                UZ_TRY(read_parameter(r, &entry, tensor, err));
        } else if (uz_map_get(buffers, name->data, name->nbytes, NULL)) {
            UZ_TRY(read_whole(r, &entry, UZ_ROLE_BUFFER, err));
        } else if (!uz_map_get(ties->by_alias, name->data, name->nbytes, NULL)) {
            UZ_TRY(read_unlisted(r, &entry, err));
        }
    }
    return UZ_OK;
}

static int check_buffers(const struct uz_module_reader *r, struct uz_error *err)
{
    const struct uz_seq *list = uz_node_list(uz_node_get(uz_torch_root(r->file), "buffer_names"));
    uint32_t tensor;
    for (size_t i = 0; list && i < list->n; i++) {
        const struct uz_text *name = &list->items[i]->u.text;
        struct uz_expert_name found;
        if (uz_expert_find(r->experts, name->data, name->nbytes, &found))
            continue; /* in the expert files */
        if (!uz_model_find(r->model, name->data, name->nbytes, &tensor))
            return uz_fail_at(err, UZ_MISMATCH, path_of(r), UZ_NO_OFFSET,
                              "the buffer %.*s has no data in 'module'", (int)name->nbytes,
                              name->data);
    }
    return UZ_OK;
}

/* Tensors take the module's order; what the module lacks comes after it. */
static void set_order(const struct uz_module_reader *r, const struct uz_map *module,
                      uint64_t n_names)
{
    for (size_t i = 0; i < r->model->n_tensors; i++) {
        struct uz_tensor *tensor = &r->model->tensors[i];
        if (!uz_map_get(module, tensor->name, strlen(tensor->name), &tensor->order))
            tensor->order = n_names + i;
    }
}

/* Of a module that stands alone, the file may still tell which parameters are frozen. */
static void mark_frozen(const struct uz_module_reader *r)
{
    const struct uz_dict *shapes =
        uz_node_dict(uz_node_get(uz_torch_root(r->file), "frozen_param_shapes"));
    for (size_t i = 0; shapes && i < shapes->n; i++) {
        const struct uz_node *key = shapes->pairs[i].key;
        uint32_t tensor;
        if (key->kind == UZ_NODE_STR &&
            uz_model_find(r->model, key->u.text.data, key->u.text.nbytes, &tensor) &&
            r->model->tensors[tensor].role == UZ_ROLE_PARAM)
            r->model->tensors[tensor].role = UZ_ROLE_FROZEN;
    }
}

static int read_module(const struct uz_module_reader *r, const struct uz_dict *pairs,
                       struct uz_map *module, struct ties *ties, struct uz_map **buffers,
                       struct uz_error *err)
{
    UZ_TRY(index_names(r, "buffer_names", buffers, err));
    UZ_TRY(index_module(r, pairs, module, err));
    UZ_TRY(list_ties(r, module, *buffers, pairs, ties, err));
    UZ_TRY(read_entries(r, pairs, *buffers, ties, err));
    UZ_TRY(check_buffers(r, err));
    UZ_TRY(add_aliases(r, module, ties, err));
    if (r->kind == UZ_MODULE_ALONE)
        mark_frozen(r);
    set_order(r, module, pairs->n);
    return UZ_OK;
}

int uz_module_read(const struct uz_module_reader *r, struct uz_error *err)
{
    const struct uz_dict *pairs = uz_node_dict(uz_node_get(uz_torch_root(r->file), "module"));
    struct uz_map *module = uz_map_new(), *buffers = NULL;
    struct ties ties = {.by_alias = uz_map_new()};
    int rc;
    if (!module || !ties.by_alias)
        rc = uz_fail_nomem(err, sizeof(void *));
    else if (!pairs)
        rc = uz_fail_at(err, UZ_UNSUPPORTED, path_of(r), UZ_NO_OFFSET,
                        "'module' is no dictionary of tensors: the weights are in other files "
                        "(pipeline parallelism?), which is not supported yet");
    else
        rc = read_module(r, pairs, module, &ties, &buffers, err);
    uz_map_free(buffers);
    uz_map_free(ties.by_alias);
    uz_map_free(module);
    free(ties.items);
    return rc;
}
