/* SPDX-License-Identifier: Apache-2.0 */
/* Random models whose storages are files, and the bytes that their tensors must have. */
#ifndef UZ_TESTS_RANDOM_MODEL_H
#define UZ_TESTS_RANDOM_MODEL_H

#include <zip.h>

#include "layout/model.h"
#include "random_pieces.h"
#include "scratch.h"

enum {
    RM_MAX_TENSORS = 10,
    RM_FILES = 3,
    RM_FILE_NBYTES = 1 << 20,
    RM_POOL_NBYTES = 128 << 10,
    RM_MAX_PACKED = RM_MAX_TENSORS * RP_MAX_STORAGES + 8
};

/* What rm_make may make. */
enum {
    RM_STRIDED = 1,  /* pieces with maps */
    RM_DEFLATED = 2, /* storages in deflated zip entries */
    RM_ZSTD = 4,     /* storages in a file compressed whole */
    RM_SWAPPED = 8   /* storages of big-endian machines */
};

/* A packed storage. */
struct rm_packed {
    enum uz_packing packing;
    uint64_t entry;
    unsigned char *bytes;
    size_t nbytes;
};

struct random_model {
    struct uz_model model;
    struct rp_tensor tensors[RM_MAX_TENSORS];
    unsigned char *truth[RM_MAX_TENSORS]; /* elements of each tensor, in the host's byte order */
    size_t n;
    unsigned char *files[RM_FILES]; /* what plain files hold */
    size_t used[RM_FILES];
    char paths[RM_FILES][PATH_NBYTES];
    char zip_path[PATH_NBYTES], zstd_path[PATH_NBYTES];
    zip_t *zip; /* deflated entries go here */
    uint32_t zip_file, zstd_file;
    uint64_t next_entry;                    /* of the file compressed whole */
    struct rm_packed packed[RM_MAX_PACKED]; /* those of one file in the order of the file */
    size_t n_packed, n_deflated;
    struct {
        uint64_t entry;
        unsigned char *bytes;
        size_t used;
    } pools[3]; /* by packing: storages that several tensors lie in */
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

/* Takes the bytes over. The number that the storage got. */
static inline uint64_t rm_pack(struct random_model *m, enum uz_packing packing,
                               unsigned char *bytes, size_t nbytes)
{
    struct rm_packed *packed = &m->packed[m->n_packed++];
    rm_must(m->n_packed <= RM_MAX_PACKED, "RM_MAX_PACKED");
    *packed = (struct rm_packed){.packing = packing, .bytes = bytes, .nbytes = nbytes};
    if (packing == UZ_PACKED_DEFLATE) {
        char name[32];
        zip_source_t *source = zip_source_buffer(m->zip, bytes, nbytes, 0);
        (void)snprintf(name, sizeof name, "archive/data/%u", (unsigned)m->n_packed);
        zip_int64_t entry = zip_file_add(m->zip, name, source, 0);
        rm_must(entry >= 0, "zip_file_add");
        rm_must(!zip_set_file_compression(m->zip, (zip_uint64_t)entry, ZIP_CM_DEFLATE, 1), "zip");
        packed->entry = (uint64_t)entry;
    } else {
        packed->entry = m->next_entry;
        m->next_entry += rng_range(1, 5);
    }
    return packed->entry;
}

static inline unsigned char *rm_junk(size_t nbytes)
{
    unsigned char *bytes = rm_alloc(nbytes);
    for (size_t b = 0; b < nbytes; b++)
        bytes[b] = (unsigned char)rng_u64();
    return bytes;
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
    path_of(m->zstd_path, "%s/source.pt.zst", scratch_dir);
    rm_must(uz_model_add_file(&m->model, m->zstd_path, &m->zstd_file, NULL) == UZ_OK, "file");
    m->zip = zip_open(m->zip_path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
    rm_must(m->zip != NULL, m->zip_path);
}

/* The elements of storage `k` of a tensor; junk where no piece lies. To be freed. */
static inline unsigned char *rm_storage(const struct random_model *m, size_t i, uint32_t k,
                                        size_t size)
{
    const struct rp_tensor *t = &m->tensors[i];
    unsigned char *bytes = rm_junk(t->storage_numel[k] * size);
    for (size_t p = 0; p < t->n_pieces; p++)
        for (uint64_t e = 0; t->pieces[p].storage == k && e < t->pieces[p].n_elems; e++)
            memcpy(bytes + rp_src(&t->pieces[p], e) * size,
                   m->truth[i] + rp_dst(&t->pieces[p], e) * size, size);
    return bytes;
}

/* Turns round the bytes of each element. */
static inline void rm_swap(unsigned char *bytes, size_t nbytes, size_t size)
{
    for (size_t at = 0; at + size <= nbytes; at += size)
        for (size_t b = 0; b < size / 2; b++) {
            unsigned char byte = bytes[at + b];
            bytes[at + b] = bytes[at + size - 1 - b];
            bytes[at + size - 1 - b] = byte;
        }
}

/* Room in a storage that tensors share; false if there is too little. */
static inline bool rm_into_pool(struct random_model *m, const unsigned char *bytes,
                                struct uz_place *place, size_t *base)
{
    size_t gap = rng_one_in(3) ? 8 * rng_below(200) : 0;
    unsigned char **pool = &m->pools[place->packing].bytes;
    size_t *used = &m->pools[place->packing].used;
    if (*used + gap + place->nbytes + 8 > RM_POOL_NBYTES)
        return false;
    if (!*pool) {
        *pool = rm_junk(RM_POOL_NBYTES);
        m->pools[place->packing].entry = rm_pack(m, place->packing, *pool, RM_POOL_NBYTES);
    }
    *base = *used + gap;
    memcpy(*pool + *base, bytes, place->nbytes);
    *used = (*base + place->nbytes + 7) / 8 * 8;
    place->entry = m->pools[place->packing].entry;
    place->nbytes += *base;
    return true;
}

/*
 * Puts a storage into a file, at any byte, or into a packed one; *base is where in the place it
 * begins.
 */
static inline uint32_t rm_place(struct random_model *m, unsigned char *bytes, size_t nbytes,
                                enum uz_packing packing, bool big_endian, size_t *base)
{
    struct uz_place place = {.nbytes = nbytes, .packing = packing, .big_endian = big_endian};
    uint32_t index;
    *base = 0;
    if (packing) {
        place.file = packing == UZ_PACKED_ZSTD ? m->zstd_file : m->zip_file;
        m->n_deflated += packing == UZ_PACKED_DEFLATE;
        if (rng_one_in(2) && rm_into_pool(m, bytes, &place, base))
            free(bytes);
        else
            place.entry = rm_pack(m, packing, bytes, nbytes);
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

/* Adds a tensor of `dtype`; some of its storages are packed as told, some big-endian if told. */
static inline void rm_add(struct random_model *m, enum uz_role role, enum uz_dtype dtype,
                          unsigned flags, enum uz_packing packing, bool swapped)
{
    size_t i = m->n++, size = uz_dtype_size(dtype), bases[RP_MAX_STORAGES];
    struct rp_tensor *t = &m->tensors[i];
    uint32_t places[RP_MAX_STORAGES], tensor;
    char name[32];
    rp_make(t, flags);
    m->truth[i] = rm_junk(t->numel * size);
    (void)snprintf(name, sizeof name, "t%u.%u", (unsigned)rng_below(1000), (unsigned)i);
    rm_must(uz_model_add_tensor(&m->model, name, strlen(name), role, dtype, t->ndim, t->shape,
                                &tensor, NULL) == UZ_OK,
            "tensor");
    for (uint32_t k = 0; k < t->n_storages; k++) {
        size_t nbytes = t->storage_numel[k] * size;
        unsigned char *bytes = rm_storage(m, i, k, size);
        bool big_endian = swapped && rng_one_in(2);
        if (big_endian)
            rm_swap(bytes, nbytes, size);
        places[k] = rm_place(m, bytes, nbytes, rng_one_in(4) ? UZ_PACKED_STORED : packing,
                             big_endian, &bases[k]);
    }
    for (size_t p = 0; p < t->n_pieces; p++) {
        struct uz_piece piece = t->pieces[p];
        piece.tensor = tensor;
        piece.src += bases[piece.storage] / size;
        piece.storage = places[piece.storage];
        rm_must(uz_model_add_piece(&m->model, &piece, NULL) == UZ_OK, "piece");
    }
}

/* The bytes of the packed storage that a place names. */
static inline const unsigned char *rm_packed_bytes(const struct random_model *m,
                                                   const struct uz_place *place)
{
    for (size_t i = 0; i < m->n_packed; i++)
        if (m->packed[i].packing == place->packing && m->packed[i].entry == place->entry)
            return m->packed[i].bytes;
    abort();
}

static inline void rm_shuffle_packed(struct random_model *m)
{
    for (size_t i = m->n_packed; i > 1; i--) {
        size_t k = rng_below(i);
        struct rm_packed swap = m->packed[i - 1];
        m->packed[i - 1] = m->packed[k];
        m->packed[k] = swap;
    }
}

/* Writes the files and finishes the model. */
static inline void rm_finish(struct random_model *m)
{
    for (unsigned i = 0; i < RM_FILES; i++)
        rm_must(write_file(m->paths[i], m->files[i], m->used[i]), m->paths[i]);
    rm_must(zip_close(m->zip) == 0, m->zip_path);
    m->zip = NULL;
    for (size_t n = rng_below(3); n > 0; n--) { /* storages that nobody wants */
        size_t nbytes = rng_below(3000);
        (void)rm_pack(m, UZ_PACKED_ZSTD, rm_junk(nbytes), nbytes);
    }
    rm_shuffle_packed(m);
    rm_must(uz_model_finish(&m->model, NULL) == UZ_OK, "finish");
}

static inline void rm_free(struct random_model *m)
{
    uz_model_free(&m->model);
    for (size_t i = 0; i < m->n; i++)
        free(m->truth[i]);
    for (unsigned i = 0; i < RM_FILES; i++)
        free(m->files[i]);
    for (size_t i = 0; i < m->n_packed; i++)
        free(m->packed[i].bytes);
    (void)unlink(m->zip_path);
}

/* A model of random tensors of several dtypes. */
static inline void rm_make(struct random_model *m, unsigned flags)
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
        enum uz_packing packing = UZ_PACKED_STORED;
        if ((flags & RM_DEFLATED) && rng_one_in(2))
            packing = UZ_PACKED_DEFLATE;
        else if ((flags & RM_ZSTD) && rng_one_in(2))
            packing = UZ_PACKED_ZSTD;
        rm_add(m, kinds[kind].role, kinds[kind].dtype,
               RP_EMPTY | RP_PLAIN | (flags & RM_STRIDED ? RP_STRIDED : 0), packing,
               flags & RM_SWAPPED);
    }
    rm_finish(m);
}

#endif
