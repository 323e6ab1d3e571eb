/* SPDX-License-Identifier: Apache-2.0 */
/* Random models whose storages are files, and the bytes that their tensors must have. */
#ifndef UZ_TESTS_RANDOM_MODEL_H
#define UZ_TESTS_RANDOM_MODEL_H

#include <zip.h>

#include "layout/model.h"
#include "random_pieces.h"
#include "scratch.h"

enum { RM_MAX_TENSORS = 10, RM_FILES = 3, RM_FILE_NBYTES = 1 << 20 };

struct random_model {
    struct uz_model model;
    struct rp_tensor tensors[RM_MAX_TENSORS];
    unsigned char *truth[RM_MAX_TENSORS]; /* elements of each tensor, as stored */
    size_t n;
    unsigned char *files[RM_FILES]; /* what plain files hold */
    size_t used[RM_FILES];
    char paths[RM_FILES][PATH_NBYTES];
    char zip_path[PATH_NBYTES];
    zip_t *zip; /* deflated entries go here */
    uint32_t zip_file;
    uint64_t n_entries;
};

/* Ends the program: a test that cannot be set up proves nothing. */
static inline void rm_must(bool good, const char *what)
{
    if (!good) {
        perror(what);
        abort();
    }
}

static inline void *rm_alloc(size_t nbytes)
{
    void *p = malloc(nbytes ? nbytes : 1);
    rm_must(p != NULL, "malloc");
    return p;
}

static inline void rm_start(struct random_model *m)
{
    struct uz_limits limits;
    memset(m, 0, sizeof *m);
    uz_limits_default(&limits);
    rm_must(uz_model_init(&m->model, &limits, NULL) == UZ_OK, "model");
    for (unsigned i = 0; i < RM_FILES; i++) {
        uint32_t index;
        m->files[i] = rm_alloc(RM_FILE_NBYTES);
        memset(m->files[i], 0xa5, RM_FILE_NBYTES);
        path_of(m->paths[i], "%s/source-%u", scratch_dir, i);
        rm_must(uz_model_add_file(&m->model, m->paths[i], &index, NULL) == UZ_OK && index == i,
                "file");
    }
    path_of(m->zip_path, "%s/source.zip", scratch_dir);
    rm_must(uz_model_add_file(&m->model, m->zip_path, &m->zip_file, NULL) == UZ_OK, "file");
    m->zip = zip_open(m->zip_path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
    rm_must(m->zip != NULL, m->zip_path);
}

/* The elements of storage `k` of a tensor; junk where no piece lies. To be freed. */
static inline unsigned char *rm_storage(const struct random_model *m, size_t i, uint32_t k,
                                        size_t size)
{
    const struct rp_tensor *t = &m->tensors[i];
    unsigned char *bytes = rm_alloc(t->storage_numel[k] * size);
    for (size_t b = 0; b < t->storage_numel[k] * size; b++)
        bytes[b] = (unsigned char)rng_u64();
    for (size_t p = 0; p < t->n_pieces; p++)
        for (uint64_t e = 0; t->pieces[p].storage == k && e < t->pieces[p].n_elems; e++)
            memcpy(bytes + rp_src(&t->pieces[p], e) * size,
                   m->truth[i] + rp_dst(&t->pieces[p], e) * size, size);
    return bytes;
}

/* Puts a storage into a file, at any byte, or into an entry of the zip file. */
static inline uint32_t rm_place(struct random_model *m, unsigned char *bytes, size_t nbytes,
                                bool deflated)
{
    struct uz_place place = {.nbytes = nbytes};
    uint32_t index;
    if (deflated) {
        char name[32];
        zip_source_t *source = zip_source_buffer(m->zip, bytes, nbytes, 1); /* owns bytes now */
        (void)snprintf(name, sizeof name, "archive/data/%u", (unsigned)m->n_entries);
        zip_int64_t entry = zip_file_add(m->zip, name, source, 0);
        rm_must(entry >= 0, "zip_file_add");
        rm_must(!zip_set_file_compression(m->zip, (zip_uint64_t)entry, ZIP_CM_DEFLATE, 6), "zip");
        m->n_entries++;
        place.file = m->zip_file;
        place.packing = UZ_PACKED_DEFLATE;
        place.entry = (uint64_t)entry;
    } else {
        place.file = (uint32_t)rng_below(RM_FILES);
        place.offset = m->used[place.file] + rng_below(50);
        m->used[place.file] = place.offset + nbytes;
        rm_must(m->used[place.file] <= RM_FILE_NBYTES, "RM_FILE_NBYTES");
        memcpy(m->files[place.file] + place.offset, bytes, nbytes);
        free(bytes);
    }
    rm_must(uz_model_add_place(&m->model, &place, &index, NULL) == UZ_OK, "place");
    return index;
}

/* Adds a tensor of `dtype`; deflated: some of its storages are compressed. */
static inline void rm_add(struct random_model *m, enum uz_role role, enum uz_dtype dtype,
                          unsigned flags, bool deflated)
{
    size_t i = m->n++, size = uz_dtype_size(dtype);
    struct rp_tensor *t = &m->tensors[i];
    uint32_t places[RP_MAX_STORAGES], tensor;
    char name[32];
    rp_make(t, flags);
    m->truth[i] = rm_alloc(t->numel * size);
    for (size_t b = 0; b < t->numel * size; b++)
        m->truth[i][b] = (unsigned char)rng_u64();
    (void)snprintf(name, sizeof name, "t%u.%u", (unsigned)rng_below(1000), (unsigned)i);
    rm_must(uz_model_add_tensor(&m->model, name, strlen(name), role, dtype, t->ndim, t->shape,
                                &tensor, NULL) == UZ_OK,
            "tensor");
    for (uint32_t k = 0; k < t->n_storages; k++)
        places[k] = rm_place(m, rm_storage(m, i, k, size), t->storage_numel[k] * size,
                             deflated && !rng_one_in(4));
    for (size_t p = 0; p < t->n_pieces; p++) {
        struct uz_piece piece = t->pieces[p];
        piece.tensor = tensor;
        piece.storage = places[piece.storage];
        rm_must(uz_model_add_piece(&m->model, &piece, NULL) == UZ_OK, "piece");
    }
}

/* Writes the files and finishes the model. */
static inline void rm_finish(struct random_model *m)
{
    for (unsigned i = 0; i < RM_FILES; i++)
        rm_must(write_file(m->paths[i], m->files[i], m->used[i]), m->paths[i]);
    rm_must(zip_close(m->zip) == 0, m->zip_path);
    m->zip = NULL;
    rm_must(uz_model_finish(&m->model, NULL) == UZ_OK, "finish");
}

static inline void rm_free(struct random_model *m)
{
    uz_model_free(&m->model);
    for (size_t i = 0; i < m->n; i++)
        free(m->truth[i]);
    for (unsigned i = 0; i < RM_FILES; i++)
        free(m->files[i]);
    (void)unlink(m->zip_path);
}

/* A model of random tensors of several dtypes. */
static inline void rm_make(struct random_model *m, bool strided, bool deflated)
{
    static const struct {
        enum uz_role role;
        enum uz_dtype dtype;
    } kinds[] = {{UZ_ROLE_PARAM, UZ_DTYPE_F32},   {UZ_ROLE_PARAM, UZ_DTYPE_F32},
                 {UZ_ROLE_PARAM, UZ_DTYPE_BF16},  {UZ_ROLE_FROZEN, UZ_DTYPE_F16},
                 {UZ_ROLE_BUFFER, UZ_DTYPE_F32},  {UZ_ROLE_BUFFER, UZ_DTYPE_I64},
                 {UZ_ROLE_BUFFER, UZ_DTYPE_BOOL}, {UZ_ROLE_PARAM, UZ_DTYPE_F64}};
    size_t n = rng_range(1, RM_MAX_TENSORS);
    rm_start(m);
    for (size_t i = 0; i < n; i++) {
        size_t kind = rng_below(sizeof kinds / sizeof kinds[0]);
        bool packed = deflated && rng_one_in(2);
        /* compressed entries are read from front to back: plain pieces only */
        rm_add(m, kinds[kind].role, kinds[kind].dtype,
               RP_EMPTY | RP_PLAIN | (packed ? RP_WHOLE : 0) |
                   (strided && !packed ? RP_STRIDED : 0),
               packed);
    }
    rm_finish(m);
}

#endif
