/* SPDX-License-Identifier: Apache-2.0 */
/* Reads layer files one after another and finds out what each entry is a copy of. */
#include "zero/pipe_layers.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "kernels/bswap.h"
#include "kernels/cast.h"
#include "torch/file.h"
#include "zero/archive_root.h"
#include "zero/source.h"

enum { NAME_NBYTES = 4096, SAMPLE_ELEMS = 4096, MAX_SIZE = 8 };

static const char tied_prefix[] = "tied_modules.";

/* One entry of a layer file. */
struct entry {
    struct uz_torch_file *file;
    uint32_t file_index;
    const struct uz_text *key;
    char name[NAME_NBYTES]; /* L.key */
    struct uz_view view;
};

bool uz_has_pipe_layers(const struct uz_topology *topology)
{
    size_t n;
    uz_topology_shards(topology, UZ_SHARD_LAYER, &n);
    return n > 0;
}

/* ---- Is an entry the rounded copy of a parameter? ---- */

static int read_sample(const struct uz_model *model, const struct uz_piece *piece,
                       enum uz_dtype dtype, size_t n, unsigned char *to, struct uz_error *err)
{
    const struct uz_place *place = &model->places[piece->storage];
    unsigned char raw[SAMPLE_ELEMS * MAX_SIZE];
    size_t size = uz_dtype_size(dtype);
    int fd;
    UZ_TRY(uz_open_read(model->files[place->file], &fd, NULL, err));
    int rc = uz_pread_all(fd, raw, n * size, place->offset + piece->src * size,
                          model->files[place->file], err);
    close(fd);
    if (rc == UZ_OK && place->big_endian && size > 1)
        uz_bswap_copy(to, raw, size, n);
    else if (rc == UZ_OK)
        memcpy(to, raw, n * size);
    return rc;
}

static bool castable_from_f32(enum uz_dtype dtype)
{
    return dtype == UZ_DTYPE_F32 || dtype == UZ_DTYPE_BF16 || dtype == UZ_DTYPE_F16;
}

/* Compares the elements at the beginning of a piece of the parameter with those of the entry. */
static int sample_equals(const struct uz_model *stage, const struct uz_piece *piece,
                         const struct entry *entry, bool *equal, struct uz_error *err)
{
    unsigned char hp[SAMPLE_ELEMS * 4], rounded[SAMPLE_ELEMS * 4], lp[SAMPLE_ELEMS * MAX_SIZE];
    enum uz_dtype dtype = entry->view.dtype;
    size_t n = piece->n_elems < SAMPLE_ELEMS ? (size_t)piece->n_elems : SAMPLE_ELEMS;
    size_t size = uz_dtype_size(dtype);
    UZ_TRY(read_sample(stage, piece, UZ_DTYPE_F32, n, hp, err));
    UZ_TRY(uz_torch_read(entry->file, &entry->view.storage, (entry->view.first + piece->lo) * size,
                         lp, n * size, err));
    if (entry->view.storage.big_endian && size > 1) {
        unsigned char swapped[SAMPLE_ELEMS * MAX_SIZE];
        uz_bswap_copy(swapped, lp, size, n);
        memcpy(lp, swapped, n * size);
    }
    const struct uz_cast_ops *ops = uz_cast_ops_for(UINT_MAX);
    if (dtype == UZ_DTYPE_F32)
        memcpy(rounded, hp, n * size);
    else
        ops->fn[dtype == UZ_DTYPE_BF16 ? UZ_CAST_F32_TO_BF16 : UZ_CAST_F32_TO_F16](rounded, hp, n);
    *equal = !memcmp(rounded, lp, n * size);
    return UZ_OK;
}

static bool is_plain(const struct uz_model *model, const struct uz_piece *piece)
{
    return !piece->map && model->places[piece->storage].packing == UZ_PACKED_STORED;
}

/* *known: the values could be compared (fp32 masters, nothing compressed). */
static int is_copy_of(const struct uz_model *stage, const struct uz_tensor *param,
                      const struct entry *entry, bool *known, bool *equal, struct uz_error *err)
{
    *equal = true;
    *known = param->dtype == UZ_DTYPE_F32 && castable_from_f32(entry->view.dtype) &&
             entry->view.contiguous && entry->view.storage.packing == UZ_PACKED_STORED;
    for (uint64_t i = 0; *known && *equal && i < param->n_pieces; i++) {
        const struct uz_piece *piece = &stage->pieces[param->first_piece + i];
        *known = is_plain(stage, piece);
        if (*known)
            UZ_TRY(sample_equals(stage, piece, entry, equal, err));
    }
    return UZ_OK;
}

/* ---- Names ---- */

static bool stage_has(const struct uz_pipe_layers *layers, const char *name)
{
    uint32_t tensor;
    for (uint32_t i = 0; i < layers->n_stages; i++)
        if (uz_model_find(layers->stages[i], name, strlen(name), &tensor))
            return true;
    return false;
}

/* True if the name is tied_modules.<tie>.<key>. */
static bool is_tied_key(const char *name, const struct uz_text *key)
{
    size_t n = strlen(name), n_prefix = sizeof tied_prefix - 1;
    return !strncmp(name, tied_prefix, n_prefix) && n > n_prefix + 1 + key->nbytes &&
           name[n - key->nbytes - 1] == '.' &&
           !memcmp(name + n - key->nbytes, key->data, key->nbytes);
}

/* What is known of the ties that an entry could be a copy of. */
struct ties {
    const char *proven, *likely; /* names */
    size_t n_proven, n_likely;   /* different ones */
};

static void count_tie(const char **first, size_t *n, const char *name)
{
    if (*first && !strcmp(*first, name))
        return; /* the same on another stage */
    *first = *first ? *first : name;
    ++*n;
}

static int find_ties(const struct uz_pipe_layers *layers, const struct entry *entry,
                     struct ties *ties, struct uz_error *err)
{
    *ties = (struct ties){0};
    for (uint32_t s = 0; s < layers->n_stages; s++) {
        const struct uz_model *stage = layers->stages[s];
        for (size_t i = 0; i < stage->n_tensors; i++) {
            const struct uz_tensor *param = &stage->tensors[i];
            bool known, equal;
            if (param->role != UZ_ROLE_PARAM || !is_tied_key(param->name, entry->key) ||
                !uz_view_is_of(&entry->view, param))
                continue;
            UZ_TRY(is_copy_of(stage, param, entry, &known, &equal, err));
            if (known && equal)
                count_tie(&ties->proven, &ties->n_proven, param->name);
            else if (!known)
                count_tie(&ties->likely, &ties->n_likely, param->name);
        }
    }
    return UZ_OK;
}

/* The name of the tied parameter that an entry is a copy of; NULL if it is none. */
static int tied_name(const struct uz_pipe_layers *layers, const struct entry *entry,
                     const char **name, struct uz_error *err)
{
    struct ties ties;
    *name = NULL;
    UZ_TRY(find_ties(layers, entry, &ties, err));
    if (ties.n_proven + ties.n_likely > 1)
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(entry->file), UZ_NO_OFFSET,
                          "%s can be a copy of more than one tied parameter, such as %s: which one "
                          "it is cannot be told",
                          entry->name, ties.n_proven ? ties.proven : ties.likely);
    *name = ties.n_proven ? ties.proven : ties.likely;
    if (!ties.n_likely)
        return UZ_OK;
    if (uz_map_get(layers->guessed, *name, strlen(*name), NULL))
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(entry->file), UZ_NO_OFFSET,
                          "%s can be a copy of %s, as another layer's can be: which one it is "
                          "cannot be told without the masters",
                          entry->name, *name);
    UZ_TRY(uz_map_add(layers->guessed, *name, strlen(*name), 0, NULL, err));
    if (layers->lone_role == UZ_ROLE_PARAM)
        return UZ_OK; /* there are no masters to compare with, by request */
    return uz_warn_of_data(layers->notes, err,
                           "%s was taken for a copy of %s by its name and shape alone: the values "
                           "are compressed, or not fp32, and were not compared",
                           entry->name, *name);
}

/* ---- Reading ---- */

static int add_tensor(struct uz_model *model, const struct entry *entry, const char *name,
                      enum uz_role role, struct uz_error *err)
{
    struct uz_piece piece;
    uint32_t tensor;
    int rc = uz_model_add_tensor(model, name, strlen(name), role, entry->view.dtype,
                                 entry->view.ndim, entry->view.shape, &tensor, err);
    if (rc < 0)
        return uz_error_in_file(err, rc, uz_torch_path(entry->file));
    model->tensors[tensor].lp_dtype = entry->view.dtype;
    UZ_TRY(uz_source_whole(model, entry->file_index, &entry->view, tensor, &piece, err));
    return uz_model_add_piece(model, &piece, err);
}

static int read_entry(const struct uz_pipe_layers *layers, struct uz_model *model,
                      struct entry *entry, const struct uz_node *value, struct uz_error *err)
{
    const char *name = entry->name, *tied = NULL;
    uint32_t tensor;
    if (!uz_torch_is_tensor(value))
        return uz_warn_of_data(layers->notes, err, "%s is not a tensor: not converted", name);
    UZ_TRY(uz_torch_tensor(entry->file, value, name, &entry->view, err));
    enum uz_role role =
        uz_map_get(layers->buffers, name, strlen(name), NULL) ? UZ_ROLE_BUFFER : layers->lone_role;
    if (role != UZ_ROLE_BUFFER && !stage_has(layers, name))
        UZ_TRY(tied_name(layers, entry, &tied, err));
    if (!tied)
        return add_tensor(model, entry, name, role, err);
    if (uz_model_find(model, tied, strlen(tied), &tensor))
        return UZ_OK; /* each use of a tied layer may have a file; all are the same */
    return add_tensor(model, entry, tied, role, err);
}

static int read_entries(const struct uz_pipe_layers *layers, struct uz_model *model,
                        struct entry *entry, uint32_t layer, struct uz_error *err)
{
    const struct uz_dict *pairs = uz_node_dict(uz_torch_root(entry->file));
    const char *path = uz_torch_path(entry->file);
    if (!pairs)
        return uz_fail_at(err, UZ_FORMAT, path, UZ_NO_OFFSET,
                          "is no dictionary of tensors; not a layer file of DeepSpeed");
    for (size_t i = 0; i < pairs->n; i++) {
        const struct uz_node *key = pairs->pairs[i].key;
        if (key->kind != UZ_NODE_STR || key->u.text.nbytes > NAME_NBYTES - 16)
            return uz_fail_at(err, UZ_CORRUPT, path, UZ_NO_OFFSET, "has a key that is no name");
        entry->key = &key->u.text;
        snprintf(entry->name, sizeof entry->name, "%u.%.*s", layer, (int)key->u.text.nbytes,
                 key->u.text.data);
        UZ_TRY(read_entry(layers, model, entry, pairs->pairs[i].value, err));
    }
    return UZ_OK;
}

static int read_layer(const struct uz_pipe_layers *layers, struct uz_model *model,
                      const struct uz_shard_file *shard, struct entry *entry, struct uz_error *err)
{
    char *path = uz_shard_path(layers->topology, shard);
    if (!path)
        return uz_fail_nomem(err, strlen(shard->name));
    int rc = uz_model_add_file(model, path, &entry->file_index, err);
    if (rc == UZ_OK)
        rc = uz_torch_open(&entry->file, path, layers->limits, err);
    if (rc == UZ_OK) {
        const char *root = uz_torch_archive_root(entry->file);
        rc = uz_archive_root_check(root ? root : "", path, layers->notes, err);
        if (rc == UZ_OK)
            rc = read_entries(layers, model, entry, shard->layer, err);
        uz_torch_close(entry->file);
    }
    free(path);
    return rc;
}

/*
 * Every parameter of a stage has a copy in a layer file. One without tells that its file is
 * missing, and with it what stands only there: frozen parameters and buffers.
 */
static int check_copies(const struct uz_pipe_layers *layers, const struct uz_model *model,
                        struct uz_error *err)
{
    uint32_t copy;
    for (uint32_t s = 0; s < layers->n_stages; s++)
        for (size_t i = 0; i < layers->stages[s]->n_tensors; i++) {
            const struct uz_tensor *param = &layers->stages[s]->tensors[i];
            if (param->role != UZ_ROLE_PARAM || param->numel == 0 ||
                uz_model_find(model, param->name, strlen(param->name), &copy))
                continue;
            return uz_fail_at(err, UZ_MISMATCH, layers->topology->dir, UZ_NO_OFFSET,
                              "no layer file (layer_*-model_states.pt) of tensor rank %u holds a "
                              "copy of %s: a file is missing, and with it the layer's frozen "
                              "parameters and buffers",
                              layers->tp, param->name);
        }
    return UZ_OK;
}

/* Buffers that the stages name must be there. */
static int check_buffers(const struct uz_pipe_layers *layers, const struct uz_model *model,
                         struct uz_error *err)
{
    uint32_t tensor;
    for (size_t i = 0; i < layers->n_buffer_names; i++) {
        const char *name = layers->buffer_names[i];
        size_t n_digits = strspn(name, "0123456789");
        if (n_digits > 0 && name[n_digits] == '.' &&
            !uz_model_find(model, name, strlen(name), &tensor))
            return uz_fail_at(err, UZ_MISMATCH, layers->topology->dir, UZ_NO_OFFSET,
                              "the buffer %s has no data in the layer files of tensor rank %u",
                              name, layers->tp);
    }
    return UZ_OK;
}

/* Layers that one tensor rank has a file of, all must have. */
static bool same_layers(const struct uz_topology *topology, uint32_t a, uint32_t b)
{
    size_t n_a, n_b;
    const struct uz_shard_file *x = uz_topology_shards_of(topology, UZ_SHARD_LAYER, a, &n_a);
    const struct uz_shard_file *y = uz_topology_shards_of(topology, UZ_SHARD_LAYER, b, &n_b);
    bool same = n_a == n_b;
    for (size_t i = 0; same && i < n_a; i++)
        same = x[i].layer == y[i].layer;
    return same;
}

int uz_pipe_layers_read(const struct uz_pipe_layers *layers, struct uz_model *model,
                        struct uz_error *err)
{
    size_t n;
    const struct uz_shard_file *shards =
        uz_topology_shards_of(layers->topology, UZ_SHARD_LAYER, layers->tp, &n);
    struct uz_pipe_layers with_guesses = *layers;
    struct entry *entry;
    if (!same_layers(layers->topology, 0, layers->tp))
        return uz_fail_at(err, UZ_MISMATCH, layers->topology->dir, UZ_NO_OFFSET,
                          "tensor ranks 0 and %u have files of different layers "
                          "(layer_*-model_*-model_states.pt): some are missing",
                          layers->tp);
    UZ_TRY(uz_alloc(&entry, 1, sizeof *entry, err));
    with_guesses.guessed = uz_map_new();
    int rc = with_guesses.guessed ? UZ_OK : uz_fail_nomem(err, sizeof(void *));
    for (size_t i = 0; rc == UZ_OK && i < n; i++)
        rc = read_layer(&with_guesses, model, &shards[i], entry, err);
    uz_map_free(with_guesses.guessed);
    free(entry);
    UZ_TRY(rc);
    UZ_TRY(check_copies(layers, model, err));
    UZ_TRY(check_buffers(layers, model, err));
    return uz_model_finish(model, err);
}
