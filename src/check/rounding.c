/* SPDX-License-Identifier: Apache-2.0 */
/* Compares lp with round(hp) from the stored bits. */
#include "check/rounding.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "engine/convert.h"
#include "engine/gather.h"

enum { BLOCK_ELEMS = 4096, MAX_ELEM_NBYTES = 8, BUFFER_NBYTES = 1 << 20 };

struct comparer {
    const struct uz_model *model;
    const struct uz_cast_ops *ops;
    struct uz_gather gather;
    struct uz_copies copies;
    uint64_t max_elems;
    struct uz_rounding *rounding;
    unsigned char hp[BLOCK_ELEMS * MAX_ELEM_NBYTES];
    unsigned char lp[BLOCK_ELEMS * MAX_ELEM_NBYTES];
    unsigned char rounded[BLOCK_ELEMS * MAX_ELEM_NBYTES];
};

static int read_region(struct comparer *c, struct uz_region *region, uint64_t lo, uint64_t n_elems,
                       unsigned char *to, struct uz_error *err)
{
    region->lo = lo;
    region->hi = lo + n_elems;
    c->copies.n = 0;
    UZ_TRY(uz_copies_add(&c->copies, c->model, region, region->from, 0, err));
    return uz_gather_copies(&c->gather, c->copies.items, c->copies.n, to, err);
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

/* Compares elements from the piece's first on, those of other pieces in between too. */
static int compare_piece(struct comparer *c, const struct uz_tensor *tensor,
                         const struct uz_piece *piece, uint64_t *n_compared, uint64_t *n_differ,
                         struct uz_error *err)
{
    const struct uz_conversion round = {.from = tensor->dtype, .to = tensor->lp_dtype};
    struct uz_region hp = {.pieces = &c->model->pieces[tensor->first_piece],
                           .n_pieces = tensor->n_pieces,
                           .from = tensor->dtype};
    struct uz_region lp = {.pieces = &c->model->lp_pieces[tensor->lp],
                           .n_pieces = tensor->n_lp,
                           .from = tensor->lp_dtype};
    uint64_t at, end;
    uz_piece_span(piece, &at, &end);
    if (end - at > c->max_elems)
        end = at + c->max_elems;
    for (uint64_t n; at < end; at += n) {
        n = end - at < BLOCK_ELEMS ? end - at : BLOCK_ELEMS;
        UZ_TRY(read_region(c, &hp, at, n, c->hp, err));
        UZ_TRY(read_region(c, &lp, at, n, c->lp, err));
        uz_convert_elems(c->ops, round, c->rounded, c->hp, (size_t)n);
        *n_differ += count_differences(c, n, tensor->lp_dtype);
        *n_compared += n;
    }
    return UZ_OK;
}

static bool is_packed(const struct uz_model *model, const struct uz_piece *pieces, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (model->places[pieces[i].storage].packing != UZ_PACKED_STORED)
            return true;
    return false;
}

static int compare_tensor(struct comparer *c, uint32_t index, struct uz_error *err)
{
    const struct uz_tensor *tensor = &c->model->tensors[index];
    uint64_t n_compared = 0, n_differ = 0;
    if (tensor->lp == UZ_NONE || tensor->is_mean || !uz_dtype_is_castable(tensor->dtype) ||
        !uz_dtype_is_castable(tensor->lp_dtype))
        return UZ_OK;
    const struct uz_piece *pieces = &c->model->pieces[tensor->first_piece];
    bool packed = is_packed(c->model, pieces, tensor->n_pieces) ||
                  is_packed(c->model, &c->model->lp_pieces[tensor->lp], tensor->n_lp);
    uint32_t storage = 0;
    for (uint64_t i = 0; !packed && i < tensor->n_pieces; i++) {
        uint64_t before = n_differ;
        UZ_TRY(compare_piece(c, tensor, &pieces[i], &n_compared, &n_differ, err));
        if (before == 0 && n_differ > 0)
            storage = pieces[i].storage;
    }
    c->rounding->n_compared += n_compared;
    c->rounding->n_differ += n_differ;
    c->rounding->n_packed += packed;
    double share = n_compared ? (double)n_differ / (double)n_compared : 0;
    if (share > c->rounding->worst_share) {
        c->rounding->worst_share = share;
        c->rounding->worst_tensor = index;
        c->rounding->worst_storage = storage;
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
    int rc = uz_check_pieces(model, err);
    if (rc == UZ_OK)
        rc = uz_gather_init(&c->gather, model, c->ops, BUFFER_NBYTES, uz_fd_slots_for(1), err);
    for (uint32_t i = 0; i < model->n_tensors && rc == UZ_OK; i++)
        rc = compare_tensor(c, i, err);
    uz_gather_free(&c->gather);
    uz_copies_free(&c->copies);
    free(c);
    return rc;
}
