/* SPDX-License-Identifier: Apache-2.0 */
/* Building, sorting and proving the table of logical tensors. */
#include "layout/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { MAX_STATES = 1024 }; /* a few; looked up one after another */

const char *uz_role_name(enum uz_role role)
{
    static const char *const names[] = {
        [UZ_ROLE_PARAM] = "parameter",
        [UZ_ROLE_FROZEN] = "frozen",
        [UZ_ROLE_BUFFER] = "buffer",
        [UZ_ROLE_STATE] = "state",
    };
    return names[role];
}

int uz_model_init(struct uz_model *model, const struct uz_limits *limits, struct uz_error *err)
{
    *model = (struct uz_model){
        .max_tensors = limits->max_tensors,
        .max_name_bytes = limits->max_name_bytes,
    };
    model->arena = uz_arena_new(limits->max_pickle_arena);
    model->names = uz_map_new();
    if (!model->arena || !model->names) {
        uz_model_free(model);
        return uz_fail_nomem(err, sizeof *model);
    }
    uint32_t weight;
    int rc = uz_model_add_state(model, "fp32", strlen("fp32"), &weight, err);
    if (rc < 0)
        uz_model_free(model);
    return rc;
}

void uz_model_free(struct uz_model *model)
{
    for (size_t i = 0; i < model->n_files; i++)
        free(model->files[i]);
    free(model->files);
    free(model->places);
    free(model->tensors);
    free(model->pieces);
    free(model->lp_pieces);
    free(model->layers);
    free(model->layer_pieces);
    free(model->partitions);
    free(model->aliases);
    free(model->states);
    uz_map_free(model->names);
    uz_arena_free(model->arena);
    *model = (struct uz_model){0};
}

int uz_model_add_file(struct uz_model *model, const char *path, uint32_t *file,
                      struct uz_error *err)
{
    UZ_TRY(uz_reserve(&model->files, &model->cap_files, (uint64_t)model->n_files + 1,
                      sizeof *model->files, err));
    char *copy = strdup(path);
    if (!copy)
        return uz_fail_nomem(err, strlen(path));
    *file = (uint32_t)model->n_files;
    model->files[model->n_files++] = copy;
    return UZ_OK;
}

int uz_model_add_place(struct uz_model *model, const struct uz_place *place, uint32_t *index,
                       struct uz_error *err)
{
    if (model->n_places >= UZ_NONE)
        return uz_fail(err, UZ_LIMIT, "more than %u storages", UZ_NONE - 1);
    UZ_TRY(uz_reserve(&model->places, &model->cap_places, (uint64_t)model->n_places + 1,
                      sizeof *model->places, err));
    *index = (uint32_t)model->n_places;
    model->places[model->n_places++] = *place;
    return UZ_OK;
}

int uz_model_add_partition(struct uz_model *model, const struct uz_partition *partition,
                           struct uz_error *err)
{
    UZ_TRY(uz_reserve(&model->partitions, &model->cap_partitions, (uint64_t)model->n_partitions + 1,
                      sizeof *model->partitions, err));
    model->partitions[model->n_partitions++] = *partition;
    return UZ_OK;
}

bool uz_model_is_packed(const struct uz_model *model)
{
    for (size_t i = 0; i < model->n_places; i++)
        if (model->places[i].packing)
            return true;
    return false;
}

bool uz_same_shape(unsigned ndim_a, const uint64_t *a, unsigned ndim_b, const uint64_t *b)
{
    return ndim_a == ndim_b && (ndim_a == 0 || !memcmp(a, b, ndim_a * sizeof *a));
}

int uz_shape_numel(unsigned ndim, const uint64_t *shape, uint64_t *numel, struct uz_error *err)
{
    uint64_t n = 1, nbytes;
    for (unsigned j = 0; j < ndim; j++)
        if (shape[j] == 0) {
            *numel = 0;
            return UZ_OK;
        }
    for (unsigned j = 0; j < ndim; j++)
        if (!uz_mul_u64(n, shape[j], &n))
            n = UINT64_MAX;
    if (!uz_mul_u64(n, 8, &nbytes) || nbytes > INT64_MAX)
        return uz_fail(err, UZ_CORRUPT, "a shape has more elements than 60 bits can count");
    *numel = n;
    return UZ_OK;
}

static int check_name(const struct uz_model *model, const char *name, size_t nbytes,
                      struct uz_error *err)
{
    if (nbytes > model->max_name_bytes)
        return uz_fail(err, UZ_LIMIT, "a tensor's name has %zu bytes, at most %llu are allowed",
                       nbytes, (unsigned long long)model->max_name_bytes);
    if (memchr(name, '\0', nbytes) || !uz_utf8_valid(name, nbytes))
        return uz_fail(err, UZ_CORRUPT, "a tensor's name is not proper UTF-8 text: %.*s",
                       (int)nbytes, name);
    return UZ_OK;
}

/* Appends a tensor; name and shape are borrowed from the arena. */
static int append_tensor(struct uz_model *model, const struct uz_tensor *tensor, uint32_t *index,
                         struct uz_error *err)
{
    if (model->n_tensors >= model->max_tensors || model->n_tensors >= UZ_NONE)
        return uz_fail(err, UZ_LIMIT, "more than %zu tensors", model->n_tensors);
    UZ_TRY(uz_reserve(&model->tensors, &model->cap_tensors, (uint64_t)model->n_tensors + 1,
                      sizeof *model->tensors, err));
    *index = (uint32_t)model->n_tensors;
    model->tensors[model->n_tensors++] = *tensor;
    return UZ_OK;
}

int uz_model_add_tensor(struct uz_model *model, const char *name, size_t name_nbytes,
                        enum uz_role role, enum uz_dtype dtype, unsigned ndim,
                        const uint64_t *shape, uint32_t *tensor, struct uz_error *err)
{
    UZ_TRY(check_name(model, name, name_nbytes, err));
    struct uz_tensor new_tensor = {
        .role = role,
        .param = (uint32_t)model->n_tensors,
        .order = model->n_tensors,
        .dtype = dtype,
        .ndim = ndim,
        .lp = UZ_NONE,
    };
    UZ_TRY(uz_shape_numel(ndim, shape, &new_tensor.numel, err));
    uint64_t *shape_copy;
    UZ_TRY(uz_arena_alloc(model->arena, ndim, sizeof *shape_copy, &shape_copy, err));
    memcpy(shape_copy, shape, ndim * sizeof *shape_copy);
    new_tensor.shape = shape_copy;
    UZ_TRY(uz_arena_strndup(model->arena, name, name_nbytes, &new_tensor.name, err));
    bool present;
    UZ_TRY(uz_map_add(model->names, new_tensor.name, name_nbytes, model->n_tensors, &present, err));
    if (present)
        return uz_fail(err, UZ_CORRUPT, "the name %s occurs twice", new_tensor.name);
    return append_tensor(model, &new_tensor, tensor, err);
}

int uz_model_add_state(struct uz_model *model, const char *name, size_t name_nbytes,
                       uint32_t *state, struct uz_error *err)
{
    for (size_t i = 0; i < model->n_states; i++)
        if (strlen(model->states[i]) == name_nbytes &&
            !memcmp(model->states[i], name, name_nbytes)) {
            *state = (uint32_t)i;
            return UZ_OK;
        }
    UZ_TRY(check_name(model, name, name_nbytes, err));
    if (model->n_states >= MAX_STATES)
        return uz_fail(err, UZ_LIMIT, "more than %d optimizer states", MAX_STATES);
    UZ_TRY(uz_reserve(&model->states, &model->cap_states, (uint64_t)model->n_states + 1,
                      sizeof *model->states, err));
    UZ_TRY(uz_arena_strndup(model->arena, name, name_nbytes, &model->states[model->n_states], err));
    *state = (uint32_t)model->n_states++;
    return UZ_OK;
}

int uz_model_add_state_tensor(struct uz_model *model, uint32_t param, uint32_t state,
                              enum uz_dtype dtype, uint32_t *tensor, struct uz_error *err)
{
    struct uz_tensor made = model->tensors[param];
    made.role = UZ_ROLE_STATE;
    made.state = state;
    made.param = param;
    made.dtype = dtype;
    made.lp_dtype = UZ_DTYPE_INVALID;
    made.lp = UZ_NONE;
    made.n_lp = 0;
    return append_tensor(model, &made, tensor, err);
}

static int append_piece(struct uz_piece **pieces, size_t *n, size_t *cap,
                        const struct uz_piece *piece, struct uz_error *err)
{
    UZ_TRY(uz_reserve(pieces, cap, (uint64_t)*n + 1, sizeof **pieces, err));
    (*pieces)[(*n)++] = *piece;
    return UZ_OK;
}

int uz_model_add_piece(struct uz_model *model, const struct uz_piece *piece, struct uz_error *err)
{
    if (piece->n_elems == 0)
        return UZ_OK;
    return append_piece(&model->pieces, &model->n_pieces, &model->cap_pieces, piece, err);
}

int uz_model_set_lp(struct uz_model *model, uint32_t tensor, enum uz_dtype dtype,
                    const struct uz_piece *piece, struct uz_error *err)
{
    model->tensors[tensor].lp = UZ_NONE;
    model->tensors[tensor].n_lp = 0;
    return uz_model_add_lp_piece(model, tensor, dtype, piece, err);
}

int uz_model_add_lp_piece(struct uz_model *model, uint32_t index, enum uz_dtype dtype,
                          const struct uz_piece *piece, struct uz_error *err)
{
    struct uz_tensor *tensor = &model->tensors[index];
    tensor->lp_dtype = dtype;
    if (tensor->n_lp == 0)
        tensor->lp = (uint32_t)model->n_lp_pieces;
    tensor->n_lp++;
    return append_piece(&model->lp_pieces, &model->n_lp_pieces, &model->cap_lp_pieces, piece, err);
}

int uz_model_add_layer(struct uz_model *model, const struct uz_layer *layer, uint32_t *index,
                       struct uz_error *err)
{
    struct uz_layer *made;
    if (model->n_layers >= UZ_NONE)
        return uz_fail(err, UZ_LIMIT, "more than %u copies of tensors", UZ_NONE - 1);
    *index = (uint32_t)model->n_layers;
    UZ_TRY(UZ_APPEND(model->layers, model->n_layers, model->cap_layers, &made, err));
    *made = *layer;
    made->first_piece = model->n_layer_pieces;
    made->n_pieces = 0;
    return UZ_OK;
}

int uz_model_add_layer_piece(struct uz_model *model, const struct uz_piece *piece,
                             struct uz_error *err)
{
    if (piece->n_elems == 0)
        return UZ_OK;
    model->layers[model->n_layers - 1].n_pieces++;
    return append_piece(&model->layer_pieces, &model->n_layer_pieces, &model->cap_layer_pieces,
                        piece, err);
}

int uz_model_strided_map(struct uz_model *model, unsigned ndim, const uint64_t *shape,
                         const uint64_t *src_stride, const struct uz_shard_map **map,
                         struct uz_error *err)
{
    struct uz_shard_map *made;
    uint64_t *numbers;
    UZ_TRY(uz_arena_alloc(model->arena, 1, sizeof *made, &made, err));
    UZ_TRY(uz_arena_alloc(model->arena, 3 * (uint64_t)ndim, sizeof *numbers, &numbers, err));
    uint64_t *dst_stride = numbers + 2 * ndim;
    memcpy(numbers, shape, ndim * sizeof *numbers);
    memcpy(numbers + ndim, src_stride, ndim * sizeof *numbers);
    uint64_t step = 1;
    for (unsigned j = ndim; j-- > 0;) {
        dst_stride[j] = step;
        step *= shape[j];
    }
    *made = (struct uz_shard_map){
        .ndim = ndim,
        .shape = numbers,
        .src_stride = numbers + ndim,
        .dst_stride = dst_stride,
    };
    *map = made;
    return UZ_OK;
}

int uz_model_add_alias(struct uz_model *model, const char *name, size_t name_nbytes,
                       uint32_t tensor, uint64_t order, struct uz_error *err)
{
    UZ_TRY(check_name(model, name, name_nbytes, err));
    if (model->n_aliases >= model->max_tensors)
        return uz_fail(err, UZ_LIMIT, "more than %zu tied names", model->n_aliases);
    if (uz_map_get(model->names, name, name_nbytes, NULL))
        return uz_fail(err, UZ_CORRUPT, "%.*s is a tensor and the name of another one",
                       (int)name_nbytes, name);
    UZ_TRY(uz_reserve(&model->aliases, &model->cap_aliases, (uint64_t)model->n_aliases + 1,
                      sizeof *model->aliases, err));
    struct uz_alias *alias = &model->aliases[model->n_aliases];
    UZ_TRY(uz_arena_strndup(model->arena, name, name_nbytes, &alias->name, err));
    alias->tensor = tensor;
    alias->order = order;
    model->n_aliases++;
    return UZ_OK;
}

bool uz_model_find(const struct uz_model *model, const char *name, size_t name_nbytes,
                   uint32_t *tensor)
{
    uint64_t index;
    if (!uz_map_get(model->names, name, name_nbytes, &index))
        return false;
    *tensor = (uint32_t)index;
    return true;
}

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
