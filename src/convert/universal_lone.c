/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ds_to_universal.py of 0.19.8 writes beside the parameters: every other key of `module` --
 * buffers, frozen parameters, second names -- as fp32. No loader reads it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "convert/universal_impl.h"
#include "zero/source.h"
#include "zero/universal_param.h"

/* Tensors of other dtypes than floating-point ones of 16 and 32 bits are small: counters, masks. */
enum { MAX_WIDENED = 16 * 1024 * 1024 };

struct lone {
    struct uz_universal_job *job;
    struct uz_torch_file *file;
    uint32_t file_index;    /* of it in the model */
    struct uz_map *written; /* names of files that are there already */
};

/* ---- Widening ---- */

#define WIDEN(type)                                                                                \
    do {                                                                                           \
        const type *values = from;                                                                 \
        for (uint64_t i = 0; i < n; i++)                                                           \
            to[i] = (float)values[i];                                                              \
    } while (0)

/* Elements in the machine's order; false for a dtype that is not widened. */
static bool widen(enum uz_dtype dtype, const void *from, float *to, uint64_t n)
{
    switch (dtype) {
    case UZ_DTYPE_BOOL:
    case UZ_DTYPE_U8:
        WIDEN(uint8_t);
        return true;
    case UZ_DTYPE_I8:
        WIDEN(int8_t);
        return true;
    case UZ_DTYPE_I16:
        WIDEN(int16_t);
        return true;
    case UZ_DTYPE_U16:
        WIDEN(uint16_t);
        return true;
    case UZ_DTYPE_I32:
        WIDEN(int32_t);
        return true;
    case UZ_DTYPE_U32:
        WIDEN(uint32_t);
        return true;
    case UZ_DTYPE_I64:
        WIDEN(int64_t);
        return true;
    case UZ_DTYPE_U64:
        WIDEN(uint64_t);
        return true;
    case UZ_DTYPE_F64:
        WIDEN(double);
        return true;
    default:
        return false;
    }
}

/* Element by element, from a view of any strides whose storage holds `bytes` from `first` on. */
static void pick(const struct uz_view *view, const unsigned char *bytes, unsigned char *to)
{
    size_t size = uz_dtype_size(view->dtype);
    uint64_t at[UZ_MAX_NDIM] = {0}, from = 0;
    for (uint64_t i = 0; i < view->numel; i++, to += size) {
        for (size_t b = 0; b < size; b++)
            to[b] = bytes[from * size + (view->storage.big_endian ? size - 1 - b : b)];
        for (unsigned j = view->ndim; j-- > 0;) {
            from += view->stride[j];
            if (++at[j] < view->shape[j])
                break;
            from -= at[j] * view->stride[j];
            at[j] = 0;
        }
    }
}

/* Elements of the storage from the view's first to its last. */
static uint64_t span_of(const struct uz_view *view)
{
    uint64_t n = view->numel > 0;
    for (unsigned j = 0; j < view->ndim && n > 0; j++)
        n += (view->shape[j] - 1) * view->stride[j]; /* proven to lie in the storage */
    return n;
}

static int fail_dtype(const struct lone *l, const struct uz_view *view, const char *name,
                      struct uz_error *err)
{
    return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(l->file), UZ_NO_OFFSET,
                      "%s: %llu elements of type %s are not written as fp32, as --dialect "
                      "deepspeed does; --dialect any leaves it where it is",
                      name, (unsigned long long)view->numel, uz_dtype_name(view->dtype));
}

/* The elements as fp32, in the arena. */
static int make_values(const struct lone *l, const struct uz_view *view, const char *name,
                       const void **values, struct uz_error *err)
{
    size_t size = uz_dtype_size(view->dtype);
    uint64_t span = span_of(view);
    unsigned char *bytes, *picked = NULL;
    float *to;
    if (span > MAX_WIDENED)
        return fail_dtype(l, view, name, err);
    UZ_TRY(uz_arena_alloc(l->job->arena, view->numel, sizeof *to, &to, err));
    UZ_TRY(uz_alloc(&bytes, span, size, err));
    int rc = uz_alloc(&picked, view->numel, size, err);
    if (rc == UZ_OK)
        rc = uz_torch_read(l->file, &view->storage, view->first * size, bytes, (size_t)span * size,
                           err);
    if (rc == UZ_OK) {
        pick(view, bytes, picked);
        if (!widen(view->dtype, picked, to, view->numel))
            rc = fail_dtype(l, view, name, err);
    }
    free(bytes);
    free(picked);
    *values = to;
    return rc;
}

/* ---- Keys ---- */

static int add_view(struct lone *l, const char *name, const struct uz_view *view,
                    struct uz_error *err)
{
    struct uz_universal_job *job = l->job;
    struct uz_model *model = &job->source.model;
    struct uz_piece piece;
    uint32_t tensor;
    if (l->file_index == UZ_NONE)
        UZ_TRY(uz_model_add_file(model, uz_torch_path(l->file), &l->file_index, err));
    UZ_TRY(uz_source_whole(model, l->file_index, view, 0, &piece, err));
    UZ_TRY(
        uz_model_append(model, name, view->dtype, view->ndim, view->shape, &piece, &tensor, err));
    UZ_TRY(uz_universal_add_file(job, UZ_UNIVERSAL_LONE, tensor, err, "zero/%s/fp32.pt", name));
    struct uz_universal_file *file = &job->files[job->n_files - 1];
    if (!uz_dtype_is_castable(view->dtype) && view->numel > 0)
        UZ_TRY(make_values(l, view, name, &file->values, err));
    return uz_map_add(l->written, file->name, strlen(file->name), 0, NULL, err);
}

static int add_key(struct lone *l, const struct uz_pair *pair, struct uz_error *err)
{
    char *path;
    const char *name;
    struct uz_view view;
    if (pair->key->kind != UZ_NODE_STR || !uz_torch_is_tensor(pair->value))
        return uz_warn_of_data(&l->job->notes, err,
                               "something in 'module' is no tensor: not converted");
    UZ_TRY(uz_arena_strndup(l->job->arena, pair->key->u.text.data, pair->key->u.text.nbytes, &name,
                            err));
    if (!uz_universal_name_is_safe(name, pair->key->u.text.nbytes))
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(l->file), UZ_NO_OFFSET,
                          "the name %s cannot be that of a folder", name);
    if (asprintf(&path, "zero/%s/fp32.pt", name) < 0)
        return uz_fail_nomem(err, pair->key->u.text.nbytes);
    bool there = uz_map_get(l->written, path, strlen(path), NULL);
    free(path);
    if (there)
        return UZ_OK;
    UZ_TRY(uz_torch_tensor(l->file, pair->value, name, &view, err));
    return add_view(l, name, &view, err);
}

static int list_all(struct lone *l, struct uz_error *err)
{
    struct uz_universal_job *job = l->job;
    for (size_t i = 0; i < job->n_files; i++)
        UZ_TRY(
            uz_map_add(l->written, job->files[i].name, strlen(job->files[i].name), i, NULL, err));
    for (uint32_t mp = 0; mp < job->source.n_mp; mp++) {
        l->file = job->source.states[mp];
        l->file_index = UZ_NONE;
        const struct uz_dict *module = uz_node_dict(uz_node_get(uz_torch_root(l->file), "module"));
        for (size_t i = 0; module && i < module->n; i++)
            UZ_TRY(add_key(l, &module->pairs[i], err));
    }
    return UZ_OK;
}

int uz_universal_list_lone(struct uz_universal_job *job, struct uz_error *err)
{
    struct lone lone = {.job = job, .written = uz_map_new()};
    int rc = lone.written ? list_all(&lone, err) : uz_fail_nomem(err, sizeof lone);
    uz_map_free(lone.written);
    return rc;
}
