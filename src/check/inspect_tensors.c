/* SPDX-License-Identifier: Apache-2.0 */
/* The table of tensors: whole ones from the model, or what each file lists. */
#include <string.h>

#include "base/file.h"
#include "check/inspection.h"

static enum uz_stored_kind kind_of(const struct uz_inspection *in, const struct uz_tensor *tensor)
{
    static const enum uz_stored_kind kinds[] = {
        [UZ_ROLE_PARAM] = UZ_STORED_MASTERS,
        [UZ_ROLE_FROZEN] = UZ_STORED_FROZEN,
        [UZ_ROLE_BUFFER] = UZ_STORED_BUFFER,
        [UZ_ROLE_STATE] = UZ_STORED_STATE,
    };
    if (in->info.kind != UZ_INPUT_ZERO && in->info.kind != UZ_INPUT_UNIVERSAL)
        return UZ_STORED_WEIGHTS;
    if (tensor->role == UZ_ROLE_PARAM && in->options.source == UZ_SOURCE_LP)
        return UZ_STORED_LP;
    return kinds[tensor->role];
}

static struct uz_inspect_tensor describe(const struct uz_inspection *in,
                                         const struct uz_tensor *tensor)
{
    return (struct uz_inspect_tensor){
        .name = tensor->name,
        .kind = kind_of(in, tensor),
        .dtype = tensor->dtype,
        .lp_dtype = tensor->lp_dtype,
        .ndim = tensor->ndim,
        .shape = tensor->shape,
        .n_elems = tensor->numel,
        .nbytes = tensor->numel * uz_dtype_size(tensor->dtype),
    };
}

static void count(struct uz_inspect_summary *summary, const struct uz_inspect_tensor *tensor)
{
    struct uz_tensor_count *to = tensor->kind == UZ_STORED_BUFFER   ? &summary->buffers
                                 : tensor->kind == UZ_STORED_FROZEN ? &summary->frozen
                                                                    : &summary->trainable;
    to->n_tensors++;
    to->n_elems += tensor->n_elems;
}

int uz_inspect_list_model(struct uz_inspection *in, struct uz_error *err)
{
    struct uz_inspect_tensor *slot;
    in->n_tensors = 0;
    in->summary.trainable = in->summary.frozen = in->summary.buffers = (struct uz_tensor_count){0};
    for (size_t i = 0; i < in->model.n_tensors; i++) {
        if (in->model.tensors[i].role == UZ_ROLE_STATE)
            continue;
        UZ_TRY(UZ_APPEND(in->tensors, in->n_tensors, in->cap_tensors, &slot, err));
        *slot = describe(in, &in->model.tensors[i]);
        count(&in->summary, slot);
    }
    for (size_t i = 0; i < in->model.n_aliases; i++) {
        const struct uz_alias *alias = &in->model.aliases[i];
        UZ_TRY(UZ_APPEND(in->tensors, in->n_tensors, in->cap_tensors, &slot, err));
        *slot = describe(in, &in->model.tensors[alias->tensor]);
        slot->tied_to = slot->name;
        slot->name = alias->name;
    }
    in->summary.n_tied = in->model.n_aliases;
    return UZ_OK;
}

/* A list of one file: names it has already are not taken again. */
struct listing {
    struct uz_inspection *in;
    struct uz_torch_file *file;
    const char *file_name;
    struct uz_map *names, *buffers, *frozen;
};

static int add(struct listing *l, const struct uz_text *name, enum uz_stored_kind kind,
               enum uz_dtype dtype, unsigned ndim, const uint64_t *shape, struct uz_error *err)
{
    struct uz_inspect_tensor tensor = {.kind = kind, .dtype = dtype, .ndim = ndim}, *slot;
    char shown[512];
    uint64_t *sizes;
    bool present;
    if (uz_map_get(l->names, name->data, name->nbytes, NULL) ||
        uz_shape_numel(ndim, shape, &tensor.n_elems, NULL) < 0)
        return UZ_OK;
    UZ_TRY(uz_map_add(l->names, name->data, name->nbytes, 0, &present, err));
    uz_printable(shown, sizeof shown, name->data, name->nbytes);
    UZ_TRY(uz_inspect_keep(l->in, shown, &tensor.name, err));
    UZ_TRY(uz_arena_alloc(l->in->arena, ndim, sizeof *sizes, &sizes, err));
    memcpy(sizes, shape, ndim * sizeof *sizes);
    tensor.shape = sizes;
    tensor.nbytes = tensor.n_elems * uz_dtype_size(dtype);
    tensor.file = l->file_name;
    UZ_TRY(UZ_APPEND(l->in->tensors, l->in->n_tensors, l->in->cap_tensors, &slot, err));
    *slot = tensor;
    count(&l->in->summary, &tensor);
    return UZ_OK;
}

/* Shapes that are listed without data beside them: ZeRO-3 keeps placeholders in the module. */
static int add_shapes(struct listing *l, const struct uz_node *node, enum uz_stored_kind kind,
                      struct uz_error *err)
{
    const struct uz_dict *dict = uz_node_dict(node);
    for (size_t i = 0; dict && i < dict->n; i++) {
        const struct uz_pair *pair = &dict->pairs[i];
        unsigned ndim;
        uint64_t shape[UZ_MAX_NDIM];
        if (pair->key->kind == UZ_NODE_STR &&
            uz_torch_shape(l->file, pair->value, "a shape", &ndim, shape, NULL) == UZ_OK)
            UZ_TRY(add(l, &pair->key->u.text, kind, UZ_DTYPE_INVALID, ndim, shape, err));
    }
    return UZ_OK;
}

static int add_tensors(struct listing *l, const struct uz_dict *dict, struct uz_error *err)
{
    for (size_t i = 0; dict && i < dict->n; i++) {
        const struct uz_pair *pair = &dict->pairs[i];
        struct uz_view view;
        if (pair->key->kind != UZ_NODE_STR || !uz_torch_is_tensor(pair->value) ||
            uz_torch_tensor(l->file, pair->value, "a tensor", &view, NULL) < 0)
            continue;
        const struct uz_text *name = &pair->key->u.text;
        enum uz_stored_kind kind =
            uz_map_get(l->buffers, name->data, name->nbytes, NULL)  ? UZ_STORED_BUFFER
            : uz_map_get(l->frozen, name->data, name->nbytes, NULL) ? UZ_STORED_FROZEN
                                                                    : UZ_STORED_LP;
        UZ_TRY(add(l, name, kind, view.dtype, view.ndim, view.shape, err));
    }
    return UZ_OK;
}

static int index_names(struct uz_map *map, const struct uz_node *node, struct uz_error *err)
{
    const struct uz_seq *list = uz_node_list(node);
    const struct uz_dict *dict = uz_node_dict(node);
    size_t n = list ? list->n : dict ? dict->n : 0;
    for (size_t i = 0; i < n; i++) {
        const struct uz_node *name = list ? list->items[i] : dict->pairs[i].key;
        if (name->kind == UZ_NODE_STR)
            UZ_TRY(uz_map_add(map, name->u.text.data, name->u.text.nbytes, i, NULL, err));
    }
    return UZ_OK;
}

/* Names with data come first, so that a shape is taken only where there is none. */
static int list_file(struct listing *l, struct uz_error *err)
{
    const struct uz_node *root = uz_torch_root(l->file);
    const struct uz_node *module = uz_node_get(root, "module");
    const struct uz_node *shapes = uz_node_get(root, "param_shapes");
    const struct uz_seq *groups = uz_node_list(shapes);
    bool placeholders = !strncmp(l->file_name, "zero_pp_rank_", strlen("zero_pp_rank_"));
    if (!l->names || !l->buffers || !l->frozen)
        return uz_fail_nomem(err, sizeof(void *));
    UZ_TRY(index_names(l->buffers, uz_node_get(root, "buffer_names"), err));
    UZ_TRY(index_names(l->frozen, uz_node_get(root, "frozen_param_shapes"), err));
    if (!module && !shapes)
        return add_tensors(l, uz_node_dict(root), err);
    if (!placeholders)
        UZ_TRY(add_tensors(l, uz_node_dict(module), err));
    for (size_t i = 0; groups && i < groups->n; i++)
        UZ_TRY(add_shapes(l, groups->items[i], UZ_STORED_MASTERS, err));
    UZ_TRY(add_shapes(l, shapes, UZ_STORED_MASTERS, err));
    UZ_TRY(add_shapes(l, uz_node_get(root, "frozen_param_shapes"), UZ_STORED_FROZEN, err));
    return placeholders ? add_tensors(l, uz_node_dict(module), err) : UZ_OK;
}

int uz_inspect_list_file(struct uz_inspection *in, struct uz_torch_file *file, const char *name,
                         struct uz_error *err)
{
    struct listing l = {
        .in = in,
        .file = file,
        .names = uz_map_new(),
        .buffers = uz_map_new(),
        .frozen = uz_map_new(),
    };
    int rc = uz_inspect_keep(in, name, &l.file_name, err);
    if (rc == UZ_OK)
        rc = list_file(&l, err);
    uz_map_free(l.names);
    uz_map_free(l.buffers);
    uz_map_free(l.frozen);
    return rc;
}
