/* SPDX-License-Identifier: Apache-2.0 */
/* Piece by piece, run by run. */
#include "convert/patch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/fetch.h"
#include "kernels/bswap.h"
#include "torch/zip_crc.h"

enum { BLOCK_NBYTES = 1 << 20, FD_SLOTS = 8 };

struct patch {
    const struct uz_model *model;
    uint32_t tensor;
    struct uz_fetch values; /* of the new values */
    struct uz_fetch stored; /* of the files being changed */
    struct uz_fd_cache targets, sources;
    unsigned char *block, *swapped, *read;
};

bool uz_patch_set_of(const struct uz_model *model, uint32_t index, uint32_t k,
                     struct uz_patch_set *set)
{
    const struct uz_tensor *tensor = &model->tensors[index];
    if (k == 0) {
        *set = (struct uz_patch_set){&model->pieces[tensor->first_piece], tensor->n_pieces, false};
    } else if (k <= tensor->n_layers) {
        const struct uz_layer *layer = &model->layers[tensor->first_layer + k - 1];
        *set = (struct uz_patch_set){&model->layer_pieces[layer->first_piece], layer->n_pieces,
                                     layer->op == UZ_LAYER_LP};
    } else if (k == tensor->n_layers + 1 && tensor->lp != UZ_NONE) {
        *set = (struct uz_patch_set){&model->lp_pieces[tensor->lp], tensor->n_lp, true};
    } else {
        return false;
    }
    return true;
}

const char *uz_patch_obstacle(const struct uz_model *model, uint32_t index)
{
    const struct uz_tensor *tensor = &model->tensors[index];
    struct uz_patch_set set;
    if (tensor->is_mean)
        return "it is the mean of what several ranks keep";
    for (uint32_t k = 0; uz_patch_set_of(model, index, k, &set); k++)
        for (uint64_t i = 0; i < set.n; i++)
            if (set.pieces[i].map && uz_divides(set.pieces[i].map->divisor))
                return "a rank keeps it scaled";
    if (tensor->hides_copies)
        return "files hold further copies of it whose place is not known: of a layer that pipeline "
               "stages share, or cut for model-parallel ranks";
    return NULL;
}

bool uz_patch_has_lp(const struct uz_model *model, uint32_t tensor)
{
    struct uz_patch_set set;
    for (uint32_t k = 0; uz_patch_set_of(model, tensor, k, &set); k++)
        if (set.lp && set.n > 0)
            return true;
    return false;
}

/* ---- Writing ---- */

/* Elements of the new values, or (lp) of what is stored, as the dtype they are written in. */
static int fetch(struct patch *patch, const struct uz_values *values, bool lp, uint64_t lo,
                 uint64_t n, struct uz_error *err)
{
    const struct uz_tensor *tensor = &patch->model->tensors[patch->tensor];
    if (lp)
        return uz_fetch_elems(&patch->stored, patch->tensor, lo, n, tensor->lp_dtype, patch->block,
                              err);
    return uz_fetch_elems(&patch->values, values->tensor, lo, n, tensor->dtype, patch->block, err);
}

/* What is done with the bytes that belong to n bytes of a file. */
typedef int (*visit_fn)(struct patch *patch, uint32_t file, const unsigned char *bytes, size_t n,
                        uint64_t offset, struct uz_error *err);

static int write_bytes(struct patch *patch, uint32_t file, const unsigned char *bytes, size_t n,
                       uint64_t offset, struct uz_error *err)
{
    const char *path = patch->model->files[file];
    int fd;
    UZ_TRY(uz_fd_cache_get(&patch->targets, file, path, &fd, err));
    return uz_pwrite_all(fd, bytes, n, offset, path, err);
}

static int fail_unequal(const struct patch *patch, struct uz_error *err)
{
    return uz_fail(err, UZ_IO, "%s: the new files do not give back what was written",
                   patch->model->tensors[patch->tensor].name);
}

static int compare_bytes(struct patch *patch, uint32_t file, const unsigned char *bytes, size_t n,
                         uint64_t offset, struct uz_error *err)
{
    const char *path = patch->model->files[file];
    int fd;
    UZ_TRY(uz_fd_cache_get(&patch->sources, file, path, &fd, err));
    UZ_TRY(uz_pread_all(fd, patch->read, n, offset, path, err));
    return memcmp(patch->read, bytes, n) ? fail_unequal(patch, err) : UZ_OK;
}

static int visit_run(struct patch *patch, const struct uz_values *values, bool lp,
                     const struct uz_place *place, const struct uz_run *run, visit_fn visit,
                     struct uz_error *err)
{
    const struct uz_tensor *tensor = &patch->model->tensors[patch->tensor];
    enum uz_dtype dtype = lp ? tensor->lp_dtype : tensor->dtype;
    size_t size = uz_dtype_size(dtype);
    for (uint64_t done = 0, n; done < run->n_elems; done += n) {
        n = run->n_elems - done < BLOCK_NBYTES / size ? run->n_elems - done : BLOCK_NBYTES / size;
        const unsigned char *bytes = patch->block;
        UZ_TRY(fetch(patch, values, lp, run->dst + done, n, err));
        if (uz_place_swaps(place, dtype)) {
            uz_bswap_copy(patch->swapped, patch->block, size, (size_t)n);
            bytes = patch->swapped;
        }
        UZ_TRY(visit(patch, place->file, bytes, (size_t)n * size,
                     place->offset + (run->src + done) * size, err));
    }
    return UZ_OK;
}

/* All copies of the tensor, or (lp) of its low-precision copy. */
static int visit_pieces(struct patch *patch, const struct uz_values *values, bool lp,
                        visit_fn visit, struct uz_error *err)
{
    const struct uz_model *model = patch->model;
    struct uz_patch_set set;
    for (uint32_t k = 0; uz_patch_set_of(model, patch->tensor, k, &set); k++)
        for (uint64_t i = 0; i < set.n && set.lp == lp; i++) {
            struct uz_runs runs;
            struct uz_run run;
            uz_runs_begin(&runs, &set.pieces[i], 0, model->tensors[patch->tensor].numel);
            while (uz_runs_next(&runs, &run))
                UZ_TRY(visit_run(patch, values, lp, &model->places[set.pieces[i].storage], &run,
                                 visit, err));
        }
    return UZ_OK;
}

/* ---- Checksums ---- */

static int is_zip(const char *path, bool *zip, struct uz_error *err)
{
    unsigned char head[4];
    int fd;
    UZ_TRY(uz_open_read(path, &fd, NULL, err));
    int rc = uz_pread_all(fd, head, sizeof head, 0, path, err);
    close(fd);
    *zip = rc == UZ_OK && !memcmp(head, "PK\3\4", 4);
    return rc;
}

/*
 * Where the storages of one file that hold a part of the tensor begin; `offsets` (NULL: they are
 * counted only) has room for all pieces.
 */
static size_t list_offsets(const struct patch *patch, uint32_t file, uint64_t *offsets)
{
    struct uz_patch_set set;
    size_t n = 0;
    for (uint32_t k = 0; uz_patch_set_of(patch->model, patch->tensor, k, &set); k++)
        for (uint64_t i = 0; i < set.n; i++) {
            const struct uz_place *place = &patch->model->places[set.pieces[i].storage];
            if (place->file != file)
                continue;
            if (offsets)
                offsets[n] = place->offset;
            n++;
        }
    return n;
}

static int renew_file(const struct patch *patch, uint32_t file, struct uz_error *err)
{
    size_t n = list_offsets(patch, file, NULL);
    uint64_t *offsets;
    bool zip;
    if (n == 0)
        return UZ_OK;
    UZ_TRY(is_zip(patch->model->files[file], &zip, err));
    if (!zip)
        return UZ_OK; /* the container before 1.6 has no checksums */
    UZ_TRY(uz_alloc(&offsets, n, sizeof *offsets, err));
    list_offsets(patch, file, offsets);
    int rc = uz_zip_renew_crcs(patch->model->files[file], offsets, n, err);
    free(offsets);
    return rc;
}

static int renew_all(const struct patch *patch, struct uz_error *err)
{
    for (uint32_t file = 0; file < patch->model->n_files; file++)
        UZ_TRY(renew_file(patch, file, err));
    return UZ_OK;
}

/* ---- Reading back ---- */

static int compare(struct patch *patch, const struct uz_values *values, bool lp,
                   struct uz_error *err)
{
    const struct uz_tensor *tensor = &patch->model->tensors[patch->tensor];
    size_t size = uz_dtype_size(lp ? tensor->lp_dtype : tensor->dtype);
    for (uint64_t lo = 0, n; lo < tensor->numel; lo += n) {
        n = tensor->numel - lo < BLOCK_NBYTES / size ? tensor->numel - lo : BLOCK_NBYTES / size;
        UZ_TRY(fetch(patch, values, lp, lo, n, err));
        if (lp)
            UZ_TRY(uz_fetch_lp(&patch->stored, patch->tensor, lo, n, tensor->lp_dtype,
                               patch->swapped, err));
        else
            UZ_TRY(uz_fetch_elems(&patch->stored, patch->tensor, lo, n, tensor->dtype,
                                  patch->swapped, err));
        if (memcmp(patch->block, patch->swapped, (size_t)n * size))
            return fail_unequal(patch, err);
    }
    return UZ_OK;
}

/* ---- All of it ---- */

/* Every copy by its place, and what readers take by the way they take it. */
static int check(struct patch *patch, const struct uz_values *values, struct uz_error *err)
{
    UZ_TRY(visit_pieces(patch, values, false, compare_bytes, err));
    UZ_TRY(visit_pieces(patch, values, true, compare_bytes, err));
    UZ_TRY(compare(patch, values, false, err));
    bool has_lp = patch->model->tensors[patch->tensor].lp != UZ_NONE;
    return has_lp ? compare(patch, values, true, err) : UZ_OK;
}

static int run(struct patch *patch, const struct uz_values *values, uint64_t *n_overflows,
               struct uz_error *err)
{
    UZ_TRY(visit_pieces(patch, values, false, write_bytes, err));
    UZ_TRY(visit_pieces(patch, values, true, write_bytes, err));
    *n_overflows = patch->values.gather.n_overflows + patch->stored.gather.n_overflows;
    UZ_TRY(renew_all(patch, err));
    return check(patch, values, err);
}

int uz_patch_tensor(const struct uz_model *model, uint32_t tensor, const struct uz_values *values,
                    uint64_t *n_overflows, struct uz_error *err)
{
    struct patch patch = {.model = model, .tensor = tensor};
    UZ_TRY(uz_check_pieces(model, err));
    uz_fd_cache_init(&patch.targets, O_WRONLY, FD_SLOTS);
    uz_fd_cache_init(&patch.sources, O_RDONLY, FD_SLOTS);
    int rc = uz_fetch_init(&patch.values, &values->model, BLOCK_NBYTES, FD_SLOTS, err);
    if (rc == UZ_OK)
        rc = uz_fetch_init(&patch.stored, model, BLOCK_NBYTES, FD_SLOTS, err);
    if (rc == UZ_OK)
        rc = uz_alloc(&patch.block, BLOCK_NBYTES, 1, err);
    if (rc == UZ_OK)
        rc = uz_alloc(&patch.swapped, BLOCK_NBYTES, 1, err);
    if (rc == UZ_OK)
        rc = uz_alloc(&patch.read, BLOCK_NBYTES, 1, err);
    if (rc == UZ_OK)
        rc = run(&patch, values, n_overflows, err);
    uz_fd_cache_close(&patch.targets);
    uz_fd_cache_close(&patch.sources);
    uz_fetch_free(&patch.values);
    uz_fetch_free(&patch.stored);
    free(patch.block);
    free(patch.swapped);
    free(patch.read);
    return rc;
}
