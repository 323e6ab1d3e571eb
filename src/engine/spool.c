/* SPDX-License-Identifier: Apache-2.0 */
/* One pass over each compressed source. */
#include "engine/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/order.h"
#include "base/parallel.h"
#include "torch/stream.h"

enum { BLOCK_NBYTES = 1024 * 1024 };

/* A place that names a packed storage, and which that is. */
struct use {
    uint32_t place;
    size_t packed;
};

/* A packed storage. */
struct packed {
    uint32_t place;  /* one of those that name it */
    uint64_t nbytes; /* the most that any of them wants */
    uint64_t offset; /* in the spool */
    bool met;
};

struct uz_spool {
    int fd;
    const char *dir;
    struct uz_model *model;
    const struct uz_limits *limits;
    struct use *uses; /* by file, packing, entry */
    size_t n_uses;
    struct packed *packed; /* in the same order */
    size_t n_packed;
    size_t *first; /* packed storages of pass p: [first[p], first[p + 1]) */
    size_t n_passes;
};

static int compare_storages(const struct uz_place *x, const struct uz_place *y)
{
    int order = uz_compare_u64(x->file, y->file);
    if (order == 0)
        order = uz_compare_u64(x->packing, y->packing);
    return order ? order : uz_compare_u64(x->entry, y->entry);
}

static int by_storage(const void *a, const void *b, void *places)
{
    const struct uz_place *all = places;
    return compare_storages(&all[((const struct use *)a)->place],
                            &all[((const struct use *)b)->place]);
}

static void want_pieces(bool *wanted, const struct uz_piece *pieces, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        wanted[pieces[i].storage] = true;
}

/* The places that a tensor (UZ_NONE: any) is read from. */
static void want_places(const struct uz_model *model, uint32_t tensor, bool *wanted)
{
    if (tensor == UZ_NONE) {
        memset(wanted, true, model->n_places * sizeof *wanted);
        return;
    }
    const struct uz_tensor *t = &model->tensors[tensor];
    want_pieces(wanted, &model->pieces[t->first_piece], t->n_pieces);
    for (uint32_t i = 0; i < t->n_layers; i++) {
        const struct uz_layer *layer = &model->layers[t->first_layer + i];
        want_pieces(wanted, &model->layer_pieces[layer->first_piece], layer->n_pieces);
    }
}

static int list_uses(struct uz_spool *spool, uint32_t tensor, struct uz_error *err)
{
    struct uz_model *model = spool->model;
    bool *wanted;
    UZ_TRY(uz_alloc(&wanted, model->n_places, sizeof *wanted, err));
    int rc = uz_alloc(&spool->uses, model->n_places, sizeof *spool->uses, err);
    want_places(model, tensor, wanted);
    for (size_t i = 0; rc == UZ_OK && i < model->n_places; i++)
        if (model->places[i].packing && wanted[i])
            spool->uses[spool->n_uses++].place = (uint32_t)i;
    free(wanted);
    if (spool->n_uses > 0)
        qsort_r(spool->uses, spool->n_uses, sizeof *spool->uses, by_storage, model->places);
    return rc;
}

/* A zip entry is gone through alone, a file compressed whole in one pass. */
static bool same_pass(const struct uz_place *x, const struct uz_place *y)
{
    return x->file == y->file && x->packing == y->packing &&
           (x->packing == UZ_PACKED_ZSTD || x->entry == y->entry);
}

/* Lists the packed storages once each, and where in the spool they go. */
static int list_packed(struct uz_spool *spool, struct uz_error *err)
{
    const struct uz_place *places = spool->model->places;
    uint64_t offset = 0;
    UZ_TRY(uz_alloc(&spool->packed, spool->n_uses, sizeof *spool->packed, err));
    for (size_t i = 0; i < spool->n_uses; i++) {
        const struct uz_place *place = &places[spool->uses[i].place];
        if (i == 0 || compare_storages(&places[spool->uses[i - 1].place], place) != 0)
            spool->packed[spool->n_packed++].place = spool->uses[i].place;
        struct packed *packed = &spool->packed[spool->n_packed - 1];
        spool->uses[i].packed = spool->n_packed - 1;
        if (place->nbytes > packed->nbytes)
            packed->nbytes = place->nbytes;
    }
    for (size_t i = 0; i < spool->n_packed; i++) {
        spool->packed[i].offset = offset;
        if (!uz_add_u64(offset, spool->packed[i].nbytes, &offset) || offset > INT64_MAX)
            return uz_fail(err, UZ_CORRUPT, "the compressed storages are beyond 63 bits");
    }
    return UZ_OK;
}

static int divide_passes(struct uz_spool *spool, struct uz_error *err)
{
    const struct uz_place *places = spool->model->places;
    UZ_TRY(uz_alloc(&spool->first, (uint64_t)spool->n_packed + 1, sizeof *spool->first, err));
    for (size_t i = 0; i < spool->n_packed; i++)
        if (i == 0 ||
            !same_pass(&places[spool->packed[i - 1].place], &places[spool->packed[i].place]))
            spool->first[spool->n_passes++] = i;
    spool->first[spool->n_passes] = spool->n_packed;
    return UZ_OK;
}

static int make_file(struct uz_spool *spool, struct uz_error *err)
{
    char *path = uz_path_join(spool->dir, ".unzero-spool-XXXXXX");
    if (!path)
        return uz_fail_nomem(err, strlen(spool->dir));
    spool->fd = mkostemp(path, O_CLOEXEC);
    int rc = spool->fd < 0
                 ? uz_fail_errno(err, errno, spool->dir,
                                 "no temporary file for compressed storages can be made there")
                 : UZ_OK;
    if (spool->fd >= 0 && unlink(path) < 0)
        rc = uz_fail_errno(err, errno, path, "cannot be unlinked");
    free(path);
    return rc;
}

static struct packed *find(const struct uz_spool *spool, size_t pass, uint64_t entry)
{
    size_t low = spool->first[pass], end = spool->first[pass + 1], high = end;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (spool->model->places[spool->packed[mid].place].entry < entry)
            low = mid + 1;
        else
            high = mid;
    }
    bool found = low < end && spool->model->places[spool->packed[low].place].entry == entry;
    return found ? &spool->packed[low] : NULL;
}

static int copy_storage(const struct uz_spool *spool, struct uz_stream *stream,
                        const struct packed *packed, unsigned char *block, struct uz_error *err)
{
    for (uint64_t done = 0; done < packed->nbytes;) {
        uint64_t left = packed->nbytes - done;
        size_t n = left < BLOCK_NBYTES ? (size_t)left : BLOCK_NBYTES;
        UZ_TRY(uz_stream_read(stream, block, n, err));
        UZ_TRY(uz_pwrite_all(spool->fd, block, n, packed->offset + done, spool->dir, err));
        done += n;
    }
    return UZ_OK;
}

/* Goes to the end of the stream: only then has it been checked. */
static int copy_stream(struct uz_spool *spool, size_t pass, struct uz_stream *stream,
                       unsigned char *block, struct uz_error *err)
{
    const struct uz_place *place = &spool->model->places[spool->packed[spool->first[pass]].place];
    const char *path = spool->model->files[place->file];
    for (;;) {
        uint64_t entry, nbytes;
        bool found;
        UZ_TRY(uz_stream_next(stream, &entry, &nbytes, &found, err));
        if (!found)
            break;
        struct packed *packed = find(spool, pass, entry);
        if (!packed)
            continue;
        if (packed->met)
            return uz_fail_at(err, UZ_CORRUPT, path, UZ_NO_OFFSET,
                              "storage %llu is in the file twice", (unsigned long long)entry);
        packed->met = true;
        UZ_TRY(copy_storage(spool, stream, packed, block, err));
    }
    for (size_t i = spool->first[pass]; i < spool->first[pass + 1]; i++)
        if (!spool->packed[i].met)
            return uz_fail_at(
                err, UZ_CORRUPT, path, UZ_NO_OFFSET, "storage %llu is not in the file",
                (unsigned long long)spool->model->places[spool->packed[i].place].entry);
    return UZ_OK;
}

static int run_pass(void *cookie, uint64_t pass, unsigned worker, struct uz_error *err)
{
    struct uz_spool *spool = cookie;
    const struct uz_place *place = &spool->model->places[spool->packed[spool->first[pass]].place];
    struct uz_stream *stream = NULL;
    unsigned char *block;
    (void)worker;
    UZ_TRY(uz_alloc(&block, BLOCK_NBYTES, 1, err));
    int rc = uz_stream_open(&stream, spool->model->files[place->file], place->packing, place->entry,
                            spool->limits, err);
    if (rc == UZ_OK)
        rc = copy_stream(spool, pass, stream, block, err);
    uz_stream_close(stream);
    free(block);
    return rc;
}

/* Makes the places point into the spool. */
static int redirect(struct uz_spool *spool, struct uz_error *err)
{
    struct uz_model *model = spool->model;
    char path[64];
    uint32_t file;
    snprintf(path, sizeof path, "/proc/self/fd/%d", spool->fd);
    UZ_TRY(uz_model_add_file(model, path, &file, err));
    for (size_t i = 0; i < spool->n_uses; i++) {
        struct uz_place *place = &model->places[spool->uses[i].place];
        place->file = file;
        place->packing = UZ_PACKED_STORED;
        place->offset = spool->packed[spool->uses[i].packed].offset;
        place->entry = 0;
    }
    return UZ_OK;
}

static int fill(struct uz_spool *spool, uint32_t tensor, unsigned threads, struct uz_error *err)
{
    UZ_TRY(list_uses(spool, tensor, err));
    if (spool->n_uses == 0)
        return UZ_OK;
    UZ_TRY(list_packed(spool, err));
    UZ_TRY(divide_passes(spool, err));
    UZ_TRY(make_file(spool, err));
    UZ_TRY(uz_parallel(threads, spool->n_passes, run_pass, NULL, spool, err));
    return redirect(spool, err);
}

int uz_spool_open_tensor(struct uz_spool **out, struct uz_model *model, uint32_t tensor,
                         const char *dir, unsigned threads, const struct uz_limits *limits,
                         struct uz_error *err)
{
    struct uz_spool *spool;
    *out = NULL;
    UZ_TRY(uz_alloc(&spool, 1, sizeof *spool, err));
    *spool = (struct uz_spool){.fd = -1, .dir = dir, .model = model, .limits = limits};
    int rc = fill(spool, tensor, threads, err);
    if (rc < 0 || spool->n_uses == 0)
        uz_spool_close(spool);
    else
        *out = spool;
    return rc;
}

int uz_spool_open(struct uz_spool **out, struct uz_model *model, const char *dir, unsigned threads,
                  const struct uz_limits *limits, struct uz_error *err)
{
    return uz_spool_open_tensor(out, model, UZ_NONE, dir, threads, limits, err);
}

void uz_spool_close(struct uz_spool *spool)
{
    if (!spool)
        return;
    if (spool->fd >= 0)
        close(spool->fd);
    free(spool->uses);
    free(spool->packed);
    free(spool->first);
    free(spool);
}
