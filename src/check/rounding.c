/* SPDX-License-Identifier: Apache-2.0 */
/* Compares lp with round(hp) from the stored bits. */
#include "check/rounding.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/convert.h"
#include "engine/fd_cache.h"
#include "kernels/bswap.h"
#include "plan/plan.h"

enum { BLOCK_ELEMS = 4096, MAX_ELEM_NBYTES = 8 };

struct comparer {
    const struct uz_model *model;
    const struct uz_cast_ops *ops;
    struct uz_fd_cache sources;
    uint64_t max_elems;
    struct uz_rounding *rounding;
    unsigned char hp[BLOCK_ELEMS * MAX_ELEM_NBYTES];
    unsigned char lp[BLOCK_ELEMS * MAX_ELEM_NBYTES];
    unsigned char rounded[BLOCK_ELEMS * MAX_ELEM_NBYTES];
    unsigned char raw[BLOCK_ELEMS * MAX_ELEM_NBYTES]; /* as they are in the file */
};

static int read_elems(struct comparer *c, uint32_t storage, uint64_t first, uint64_t n_elems,
                      enum uz_dtype dtype, unsigned char *to, struct uz_error *err)
{
    const struct uz_place *place = &c->model->places[storage];
    const char *path = c->model->files[place->file];
    size_t size = uz_dtype_size(dtype);
    int fd;
    bool swap = uz_place_swaps(place, dtype);
    UZ_TRY(uz_fd_cache_get(&c->sources, place->file, path, &fd, err));
    UZ_TRY(uz_pread_all(fd, swap ? c->raw : to, (size_t)n_elems * size,
                        place->offset + first * size, path, err));
    if (swap)
        uz_bswap_copy(to, c->raw, size, (size_t)n_elems);
    return UZ_OK;
}

/* Elements of the block that differ. A NaN equals any NaN: frameworks choose their own. */
static uint64_t count_differences(const struct comparer *c, uint64_t n_elems, enum uz_dtype dtype)
{
    size_t size = uz_dtype_size(dtype);
    uint64_t n = 0;
    for (uint64_t i = 0; i < n_elems; i++) {
        const unsigned char *a = c->rounded + i * size, *b = c->lp + i * size;
        uint32_t nan_above = dtype == UZ_DTYPE_BF16 ? 0x7f80u : 0x7c00u;
        uint32_t x = (uint32_t)(a[0] | (a[1] << 8)) & 0x7fffu;
        uint32_t y = (uint32_t)(b[0] | (b[1] << 8)) & 0x7fffu;
        bool both_nan = size == 2 && x > nan_above && y > nan_above;
        n += memcmp(a, b, size) != 0 && !both_nan;
    }
    return n;
}

static int compare_piece(struct comparer *c, const struct uz_tensor *tensor,
                         const struct uz_piece *piece, const struct uz_piece *lp,
                         uint64_t *n_compared, uint64_t *n_differ, struct uz_error *err)
{
    const struct uz_conversion round = {.from = tensor->dtype, .to = tensor->lp_dtype};
    uint64_t left = piece->n_elems < c->max_elems ? piece->n_elems : c->max_elems;
    for (uint64_t done = 0; left > 0;) {
        uint64_t n = left < BLOCK_ELEMS ? left : BLOCK_ELEMS;
        UZ_TRY(read_elems(c, piece->storage, piece->src + done, n, tensor->dtype, c->hp, err));
        UZ_TRY(read_elems(c, lp->storage, lp->src + piece->lo + done, n, tensor->lp_dtype, c->lp,
                          err));
        uz_convert_elems(c->ops, round, c->rounded, c->hp, (size_t)n);
        *n_differ += count_differences(c, n, tensor->lp_dtype);
        *n_compared += n;
        done += n;
        left -= n;
    }
    return UZ_OK;
}

static bool is_packed(const struct uz_model *model, const struct uz_piece *piece)
{
    return model->places[piece->storage].packing != UZ_PACKED_STORED;
}

static bool is_plain(const struct uz_model *model, const struct uz_piece *piece)
{
    return !piece->map && !is_packed(model, piece);
}

static int compare_tensor(struct comparer *c, uint32_t index, struct uz_error *err)
{
    const struct uz_tensor *tensor = &c->model->tensors[index];
    uint64_t n_compared = 0, n_differ = 0;
    if (tensor->lp == UZ_NONE || !uz_dtype_is_castable(tensor->dtype) ||
        !uz_dtype_is_castable(tensor->lp_dtype))
        return UZ_OK;
    const struct uz_piece *lp = &c->model->lp_pieces[tensor->lp];
    bool packed = is_packed(c->model, lp);
    for (uint64_t i = 0; i < tensor->n_pieces; i++) {
        const struct uz_piece *piece = &c->model->pieces[tensor->first_piece + i];
        packed |= is_packed(c->model, piece);
        if (is_plain(c->model, lp) && is_plain(c->model, piece))
            UZ_TRY(compare_piece(c, tensor, piece, lp, &n_compared, &n_differ, err));
    }
    c->rounding->n_compared += n_compared;
    c->rounding->n_differ += n_differ;
    c->rounding->n_packed += packed;
    double share = n_compared ? (double)n_differ / (double)n_compared : 0;
    if (share > c->rounding->worst_share) {
        c->rounding->worst_share = share;
        c->rounding->worst_tensor = index;
    }
    return UZ_OK;
}

int uz_check_rounding(const struct uz_model *model, uint64_t max_elems,
                      struct uz_rounding *rounding, struct uz_error *err)
{
    struct comparer *c;
    *rounding = (struct uz_rounding){0};
    UZ_TRY(uz_alloc(&c, 1, sizeof *c, err));
    c->model = model;
    c->ops = uz_cast_ops_for(UINT_MAX);
    c->max_elems = max_elems;
    c->rounding = rounding;
    uz_fd_cache_init(&c->sources, O_RDONLY, uz_fd_slots_for(1));
    int rc = UZ_OK;
    for (uint32_t i = 0; i < model->n_tensors && rc == UZ_OK; i++)
        rc = compare_tensor(c, i, err);
    uz_fd_cache_close(&c->sources);
    free(c);
    return rc;
}
