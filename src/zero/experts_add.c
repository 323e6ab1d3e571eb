/* SPDX-License-Identifier: Apache-2.0 */
/* Gives the model what the expert files hold. */
#include <stdlib.h>
#include <string.h>

#include "layout/shape_text.h"
#include "zero/experts_impl.h"

struct adder {
    const struct uz_experts *experts;
    enum uz_expert_use use;
    struct uz_model *model;
    struct uz_map *buffers; /* buffer_names of the model states */
    uint64_t order;         /* of the next tensor in the output */
};

static const char *path_of(const struct adder *a, const struct uz_expert_copy *copy)
{
    return a->model->files[copy->file];
}

static int index_buffers(struct uz_map *buffers, const struct uz_torch_file *file,
                         struct uz_error *err)
{
    const struct uz_seq *list = uz_node_list(uz_node_get(uz_torch_root(file), "buffer_names"));
    for (size_t i = 0; list && i < list->n; i++)
        if (list->items[i]->kind == UZ_NODE_STR)
            UZ_TRY(uz_map_add(buffers, list->items[i]->u.text.data, list->items[i]->u.text.nbytes,
                              i, NULL, err));
    return UZ_OK;
}

/*
 * buffer_names are those of the rank that wrote the list, rank 0, where experts are numbered from 0
 * on; all experts are built alike.
 */
static int is_buffer(const struct adder *a, const struct uz_expert_copy *copy, bool *is,
                     struct uz_error *err)
{
    struct uz_expert_name found;
    const char *name;
    *is = false;
    if (!uz_expert_find(a->experts, copy->name, strlen(copy->name), &found) || found.layer->fused)
        return UZ_OK;
    UZ_TRY(uz_expert_global_name(a->model->arena, &found, 0, &name, err));
    *is = uz_map_get(a->buffers, name, strlen(name), NULL);
    return UZ_OK;
}

/* The shape of the tensor that the copies make up. */
static unsigned whole_shape(const struct adder *a, const struct uz_expert_copy *copy,
                            uint64_t *shape)
{
    const struct uz_expert_layer *layer = &a->experts->layers[copy->layer];
    unsigned n = 0;
    if (layer->fused)
        shape[n++] = layer->n_experts;
    for (unsigned i = 0; i < copy->ndim && n < UZ_MAX_NDIM; i++)
        shape[n++] = copy->shape[i];
    return n;
}

static int check_shape(const struct adder *a, const struct uz_expert_copy *copy,
                       const struct uz_tensor *tensor, struct uz_error *err)
{
    uint64_t shape[UZ_MAX_NDIM];
    unsigned ndim = whole_shape(a, copy, shape);
    if (uz_same_shape(ndim, shape, tensor->ndim, tensor->shape))
        return UZ_OK;
    char there[160];
    return uz_fail_at(
        err, UZ_MISMATCH, path_of(a, copy), UZ_NO_OFFSET,
        "%s of expert %u has another shape than param_shapes tells: %s", copy->name, copy->expert,
        uz_shape_text(there, sizeof there, tensor->ndim, tensor->shape, tensor->numel));
}

/* The elements of the tensor that the copy has. */
static struct uz_piece placed(const struct adder *a, const struct uz_expert_copy *copy,
                              uint32_t tensor)
{
    struct uz_piece piece = copy->piece;
    piece.tensor = tensor;
    if (a->experts->layers[copy->layer].fused)
        piece.lo = copy->expert * piece.n_elems;
    return piece;
}

/* A tensor that only the expert files know. */
static int add_tensor(struct adder *a, const struct uz_expert_copy *copy, uint32_t *tensor,
                      struct uz_error *err)
{
    uint64_t shape[UZ_MAX_NDIM];
    unsigned ndim = whole_shape(a, copy, shape);
    bool buffer;
    UZ_TRY(is_buffer(a, copy, &buffer, err));
    enum uz_role role = buffer                       ? UZ_ROLE_BUFFER
                        : a->use == UZ_EXPERTS_ALONE ? UZ_ROLE_PARAM
                                                     : UZ_ROLE_FROZEN;
    UZ_TRY(uz_model_add_tensor(a->model, copy->name, strlen(copy->name), role, copy->dtype, ndim,
                               shape, tensor, err));
    a->model->tensors[*tensor].lp_dtype = copy->dtype;
    return UZ_OK;
}

/* True if what the files hold of such a tensor is a copy of a master that is elsewhere. */
static bool is_lp(const struct adder *a, enum uz_role role)
{
    return (a->use == UZ_EXPERTS_LP && role == UZ_ROLE_PARAM) ||
           (a->use == UZ_EXPERTS_MASTERS_UNKNOWN && role == UZ_ROLE_FROZEN);
}

static int add_copy(struct adder *a, const struct uz_expert_copy *copy, struct uz_error *err)
{
    uint32_t index;
    if (!uz_model_find(a->model, copy->name, strlen(copy->name), &index))
        UZ_TRY(add_tensor(a, copy, &index, err));
    UZ_TRY(check_shape(a, copy, &a->model->tensors[index], err));
    struct uz_tensor *tensor = &a->model->tensors[index];
    struct uz_piece piece = placed(a, copy, index);
    if (copy->expert == 0 || !a->experts->layers[copy->layer].fused)
        tensor->order = a->order++;
    if (tensor->lp_dtype != UZ_DTYPE_INVALID && tensor->lp_dtype != copy->dtype)
        return uz_fail_at(err, UZ_MISMATCH, path_of(a, copy), UZ_NO_OFFSET,
                          "%s of expert %u is of type %s, that of others of %s", copy->name,
                          copy->expert, uz_dtype_name(copy->dtype),
                          uz_dtype_name(tensor->lp_dtype));
    if (is_lp(a, tensor->role))
        return uz_model_add_lp_piece(a->model, index, copy->dtype, &piece, err);
    return uz_model_add_piece(a->model, &piece, err);
}

/* A parameter of an expert that has no copy: the file lacks it. */
static int check_complete(const struct adder *a, struct uz_error *err)
{
    const struct uz_model *model = a->model;
    struct uz_expert_name found;
    for (size_t i = 0; i < model->n_tensors && a->experts->n_layers; i++) {
        const struct uz_tensor *tensor = &model->tensors[i];
        if (tensor->role == UZ_ROLE_PARAM && tensor->lp_dtype == UZ_DTYPE_INVALID &&
            uz_expert_find(a->experts, tensor->name, strlen(tensor->name), &found))
            return uz_fail(err, UZ_MISMATCH,
                           "%s is in param_shapes, but the file of its expert does not hold it",
                           tensor->name);
    }
    return UZ_OK;
}

/* The copies of a layer, which begin at copies[first]. */
static size_t layer_end(const struct uz_experts *experts, size_t first)
{
    size_t end = first;
    while (end < experts->n_copies && experts->copies[end].layer == experts->copies[first].layer)
        end++;
    return end;
}

/* Pieces of one tensor must be added one after another, and every file holds some of each stack. */
static int add_stacks(struct adder *a, size_t first, size_t end, struct uz_error *err)
{
    const struct uz_expert_copy *copies = a->experts->copies;
    for (size_t i = first; i < end && copies[i].expert == copies[first].expert; i++)
        for (size_t j = i; j < end; j++)
            if (!strcmp(copies[i].name, copies[j].name))
                UZ_TRY(add_copy(a, &copies[j], err));
    return UZ_OK;
}

static int add_layers(struct adder *a, struct uz_error *err)
{
    const struct uz_experts *experts = a->experts;
    size_t end;
    for (size_t i = 0; i < experts->n_copies; i = end) {
        end = layer_end(experts, i);
        if (experts->layers[experts->copies[i].layer].fused)
            UZ_TRY(add_stacks(a, i, end, err));
        for (; i < end && !experts->layers[experts->copies[i].layer].fused; i++)
            UZ_TRY(add_copy(a, &experts->copies[i], err));
    }
    return UZ_OK;
}

/*
 * Under ZeRO 3 nothing holds low-precision copies of experts; if all other parameters are of one
 * type, experts are, too.
 */
static void follow_dtype(const struct uz_experts *experts, struct uz_model *model)
{
    enum uz_dtype dtype = UZ_DTYPE_INVALID;
    bool agree = true;
    for (size_t i = 0; i < model->n_tensors; i++) {
        const struct uz_tensor *tensor = &model->tensors[i];
        if (tensor->role != UZ_ROLE_PARAM || tensor->lp_dtype == UZ_DTYPE_INVALID)
            continue;
        agree = agree && (dtype == UZ_DTYPE_INVALID || dtype == tensor->lp_dtype);
        dtype = tensor->lp_dtype;
    }
    for (size_t i = 0; experts->n_layers && agree && i < model->n_tensors; i++)
        if (model->tensors[i].role == UZ_ROLE_PARAM &&
            model->tensors[i].lp_dtype == UZ_DTYPE_INVALID)
            model->tensors[i].lp_dtype = dtype;
}

int uz_experts_add(const struct uz_experts *experts, const struct uz_torch_file *file,
                   enum uz_expert_use use, struct uz_model *model, struct uz_error *err)
{
    struct adder a = {.experts = experts, .use = use, .model = model, .order = 1ull << 62};
    if (experts->n_copies == 0) {
        follow_dtype(experts, model);
        return UZ_OK;
    }
    a.buffers = uz_map_new();
    if (!a.buffers)
        return uz_fail_nomem(err, sizeof(void *));
    int rc = index_buffers(a.buffers, file, err);
    if (rc == UZ_OK)
        rc = add_layers(&a, err);
    if (rc == UZ_OK)
        rc = check_complete(&a, err);
    uz_map_free(a.buffers);
    return rc;
}
