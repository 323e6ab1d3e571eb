/* SPDX-License-Identifier: Apache-2.0 */
/* Building the table of logical tensors. */
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

int uz_model_append(struct uz_model *model, const char *name, enum uz_dtype dtype, unsigned ndim,
                    const uint64_t *shape, const struct uz_piece *piece, uint32_t *tensor,
                    struct uz_error *err)
{
    struct uz_tensor made = {
        .role = UZ_ROLE_BUFFER,
        .param = (uint32_t)model->n_tensors,
        .dtype = dtype,
        .lp_dtype = dtype,
        .ndim = ndim,
        .lp = UZ_NONE,
        .first_piece = model->n_pieces,
        .n_pieces = 1,
    };
    struct uz_piece placed = *piece;
    uint64_t *shape_copy;
    UZ_TRY(uz_shape_numel(ndim, shape, &made.numel, err));
    UZ_TRY(uz_arena_alloc(model->arena, ndim, sizeof *shape_copy, &shape_copy, err));
    memcpy(shape_copy, shape, ndim * sizeof *shape_copy);
    made.shape = shape_copy;
    UZ_TRY(uz_arena_strndup(model->arena, name, strlen(name), &made.name, err));
    UZ_TRY(append_tensor(model, &made, tensor, err));
    placed.tensor = *tensor;
    UZ_TRY(uz_model_add_piece(model, &placed, err));
    return uz_pieces_cover(&placed, 1, made.numel, made.name, err);
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
