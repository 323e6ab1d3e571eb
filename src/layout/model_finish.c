/* SPDX-License-Identifier: Apache-2.0 */
/* Sorting and proving the finished table of logical tensors. */
#include "layout/model.h"

#include <stdlib.h>
#include <string.h>

/* Where a tensor goes. */
struct ranked {
    uint32_t state;
    uint32_t old_index;
    uint64_t order;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *left = a, *right = b;
    if (left->state != right->state)
        return left->state < right->state ? -1 : 1;
    if (left->order != right->order)
        return left->order < right->order ? -1 : 1;
    return left->old_index < right->old_index ? -1 : 1;
}

static int by_order(const void *a, const void *b)
{
    const struct uz_alias *left = a, *right = b;
    if (left->order != right->order)
        return left->order < right->order ? -1 : 1;
    return strcmp(left->name, right->name);
}

/* Moves the tensors into the order of `order` and renumbers all that names them. */
static int apply_order(struct uz_model *model, const struct ranked *order, struct uz_error *err)
{
    struct uz_tensor *sorted = NULL;
    uint32_t *new_index = NULL;
    int rc = uz_alloc(&sorted, model->n_tensors, sizeof *sorted, err);
    if (rc == UZ_OK)
        rc = uz_alloc(&new_index, model->n_tensors, sizeof *new_index, err);
    if (rc < 0) {
        free(sorted);
        return rc;
    }
    for (size_t i = 0; i < model->n_tensors; i++) {
        sorted[i] = model->tensors[order[i].old_index];
        new_index[order[i].old_index] = (uint32_t)i;
    }
    for (size_t i = 0; i < model->n_tensors; i++)
        sorted[i].param = new_index[sorted[i].param];
    for (size_t i = 0; i < model->n_pieces; i++)
        model->pieces[i].tensor = new_index[model->pieces[i].tensor];
    for (size_t i = 0; i < model->n_lp_pieces; i++)
        model->lp_pieces[i].tensor = new_index[model->lp_pieces[i].tensor];
    for (size_t i = 0; i < model->n_layer_pieces; i++)
        model->layer_pieces[i].tensor = new_index[model->layer_pieces[i].tensor];
    for (size_t i = 0; i < model->n_layers; i++)
        model->layers[i].tensor = new_index[model->layers[i].tensor];
    for (size_t i = 0; i < model->n_aliases; i++)
        model->aliases[i].tensor = new_index[model->aliases[i].tensor];
    free(model->tensors);
    free(new_index);
    model->tensors = sorted;
    model->cap_tensors = model->n_tensors;
    return UZ_OK;
}

static int sort_tensors(struct uz_model *model, struct uz_error *err)
{
    struct ranked *order;
    UZ_TRY(uz_alloc(&order, model->n_tensors, sizeof *order, err));
    for (size_t i = 0; i < model->n_tensors; i++)
        order[i] = (struct ranked){
            .state = model->tensors[i].state,
            .old_index = (uint32_t)i,
            .order = model->tensors[i].order,
        };
    qsort(order, model->n_tensors, sizeof *order, by_rank);
    int rc = apply_order(model, order, err);
    free(order);
    UZ_TRY(rc);
    uz_map_free(model->names);
    model->names = uz_map_new();
    if (!model->names)
        return uz_fail_nomem(err, sizeof(void *));
    for (size_t i = 0; i < model->n_tensors; i++) {
        const char *name = model->tensors[i].name;
        if (model->tensors[i].role != UZ_ROLE_STATE)
            UZ_TRY(uz_map_add(model->names, name, strlen(name), i, NULL, err));
    }
    return UZ_OK;
}

/* Where a piece begins in its tensor. */
static uint64_t piece_begin(const struct uz_piece *piece)
{
    uint64_t first, end;
    if (!piece->map)
        return piece->lo;
    uz_piece_span(piece, &first, &end);
    return first;
}

static int by_place(const void *a, const void *b)
{
    const struct uz_piece *left = a, *right = b;
    if (left->tensor != right->tensor)
        return left->tensor < right->tensor ? -1 : 1;
    uint64_t left_begin = piece_begin(left), right_begin = piece_begin(right);
    return left_begin < right_begin ? -1 : left_begin > right_begin;
}

/* Where a layer goes; its old number is what others name it by. */
struct ranked_layer {
    struct uz_layer layer;
    uint32_t old_index;
};

static int by_tensor(const void *a, const void *b)
{
    const struct ranked_layer *left = a, *right = b;
    if (left->layer.tensor != right->layer.tensor)
        return left->layer.tensor < right->layer.tensor ? -1 : 1;
    return left->old_index < right->old_index ? -1 : 1;
}

/* Puts the layers into the order of tensors. */
static int sort_layers(struct uz_model *model, struct uz_error *err)
{
    struct ranked_layer *order;
    uint32_t *new_index;
    UZ_TRY(uz_alloc(&order, model->n_layers, sizeof *order, err));
    int rc = uz_alloc(&new_index, model->n_layers, sizeof *new_index, err);
    if (rc < 0) {
        free(order);
        return rc;
    }
    for (uint32_t i = 0; i < model->n_layers; i++)
        order[i] = (struct ranked_layer){model->layers[i], i};
    qsort(order, model->n_layers, sizeof *order, by_tensor);
    for (uint32_t i = 0; i < model->n_layers; i++)
        new_index[order[i].old_index] = i;
    for (size_t i = 0; i < model->n_layers; i++) {
        model->layers[i] = order[i].layer;
        if (model->layers[i].base != UZ_NONE)
            model->layers[i].base = new_index[model->layers[i].base];
    }
    free(new_index);
    free(order);
    return UZ_OK;
}

/* Copies of elements that the tensor does not have cannot be. */
static int check_layer(const struct uz_model *model, const struct uz_layer *layer,
                       const struct uz_piece *pieces, struct uz_error *err)
{
    const struct uz_tensor *tensor = &model->tensors[layer->tensor];
    uint64_t first, end;
    if (layer->op == UZ_LAYER_MEAN)
        return uz_pieces_cover(pieces, layer->n_pieces, tensor->numel, tensor->name, err);
    for (uint64_t i = 0; i < layer->n_pieces; i++) {
        uz_piece_span(&pieces[i], &first, &end);
        if (end > tensor->numel)
            return uz_fail(err, UZ_MISMATCH, "%s: %s holds more elements than its shape has",
                           tensor->name, layer->rank);
    }
    return UZ_OK;
}

static int finish_layers(struct uz_model *model, struct uz_error *err)
{
    if (model->n_layers == 0)
        return UZ_OK;
    UZ_TRY(sort_layers(model, err));
    for (uint32_t i = 0; i < model->n_layers; i++) {
        const struct uz_layer *layer = &model->layers[i];
        struct uz_tensor *tensor = &model->tensors[layer->tensor];
        struct uz_piece *pieces = layer->n_pieces ? &model->layer_pieces[layer->first_piece] : NULL;
        if (layer->n_pieces > 1)
            qsort(pieces, layer->n_pieces, sizeof *pieces, by_place);
        if (tensor->n_layers++ == 0)
            tensor->first_layer = i;
        tensor->is_mean |= layer->op == UZ_LAYER_MEAN;
        UZ_TRY(check_layer(model, layer, pieces, err));
    }
    return UZ_OK;
}

static int finish_lp(struct uz_model *model, const struct uz_tensor *tensor, struct uz_error *err)
{
    if (tensor->n_lp <= 1)
        return UZ_OK; /* set as a whole */
    struct uz_piece *pieces = &model->lp_pieces[tensor->lp];
    qsort(pieces, tensor->n_lp, sizeof *pieces, by_place);
    return uz_pieces_cover(pieces, tensor->n_lp, tensor->numel, tensor->name, err);
}

int uz_model_finish(struct uz_model *model, struct uz_error *err)
{
    if (model->n_tensors > 0)
        UZ_TRY(sort_tensors(model, err));
    if (model->n_aliases > 1)
        qsort(model->aliases, model->n_aliases, sizeof *model->aliases, by_order);
    if (model->n_pieces > 0)
        qsort(model->pieces, model->n_pieces, sizeof *model->pieces, by_place);
    uint64_t next = 0;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        struct uz_tensor *tensor = &model->tensors[i];
        tensor->first_piece = next;
        while (next < model->n_pieces && model->pieces[next].tensor == i)
            next++;
        tensor->n_pieces = next - tensor->first_piece;
        const struct uz_piece *pieces =
            tensor->n_pieces ? &model->pieces[tensor->first_piece] : NULL;
        UZ_TRY(uz_pieces_cover(pieces, tensor->n_pieces, tensor->numel, tensor->name, err));
        UZ_TRY(finish_lp(model, tensor, err));
    }
    return finish_layers(model, err);
}
