/* SPDX-License-Identifier: Apache-2.0 */
/* One block of a storage against the spans that reach into it. */
#include "check/verify_values.h"

#include <string.h>

#include "base/file.h"
#include "check/rounding.h"
#include "engine/convert.h"
#include "kernels/bswap.h"

static enum uz_census_kind census_kind(enum uz_dtype dtype)
{
    switch (dtype) {
    case UZ_DTYPE_F16:
        return UZ_CENSUS_F16;
    case UZ_DTYPE_BF16:
        return UZ_CENSUS_BF16;
    case UZ_DTYPE_F32:
        return UZ_CENSUS_F32;
    case UZ_DTYPE_F64:
        return UZ_CENSUS_F64;
    default:
        return UZ_CENSUS_BYTES;
    }
}

static bool host_is_big_endian(void)
{
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
}

static void add_to(uint64_t *sum, uint64_t n)
{
    if (n)
        __atomic_fetch_add(sum, n, __ATOMIC_RELAXED);
}

/* Counts unusual values of n elements in the host's byte order. */
static void count(const struct uz_values *v, struct uz_span *span, const unsigned char *data,
                  uint64_t n)
{
    struct uz_unusual unusual = {0};
    enum uz_census_kind kind = census_kind(span->dtype);
    size_t unit = kind == UZ_CENSUS_BYTES ? uz_dtype_size(span->dtype) : 1;
    v->census(&unusual, kind, data, (size_t)n * unit);
    add_to(&span->n_nan, unusual.n_nan);
    add_to(&span->n_inf, unusual.n_inf);
    add_to(&span->n_denormal, unusual.n_denormal);
    if (unusual.has_nonzero)
        __atomic_store_n(&span->has_nonzero, true, __ATOMIC_RELAXED);
}

/* ---- The low-precision copy ---- */

/* Compares n masters, elements `first` of their span and on, with the copy, rounding them. */
static int compare_lp(struct uz_values *v, struct uz_span *span, const unsigned char *data,
                      uint64_t first, uint64_t n, struct uz_error *err)
{
    const struct uz_flat_view *view = &span->lp->view;
    size_t size = uz_dtype_size(view->dtype);
    uint32_t record = (uint32_t)(span->lp_record - v->run->records);
    uint64_t at = view->storage.offset + (view->first + span->lp_first + first) * size;
    bool swap = view->storage.big_endian != host_is_big_endian();
    int fd;
    UZ_TRY(uz_fd_cache_get(&v->fds, record, span->lp_record->path, &fd, err));
    UZ_TRY(uz_pread_all(fd, swap ? v->lp_swapped : v->lp, (size_t)n * size, at,
                        span->lp_record->path, err));
    if (swap)
        uz_bswap_copy(v->lp, v->lp_swapped, size, (size_t)n);
    struct uz_conversion round = {.from = span->dtype, .to = view->dtype};
    uz_convert_elems(v->ops, round, v->rounded, data, (size_t)n);
    add_to(&span->n_compared, n);
    add_to(&span->n_differ, uz_rounding_differences(v->rounded, v->lp, (size_t)n, view->dtype));
    return UZ_OK;
}

/* The elements of a span that the block holds whole. */
static int look_at_span(struct uz_values *v, struct uz_span *span, const struct uz_block *block,
                        struct uz_error *err)
{
    size_t size = uz_dtype_size(span->dtype);
    uint64_t span_end = span->at + span->n_elems * size;
    uint64_t lo = span->at > block->at ? span->at : block->at;
    uint64_t end = span_end < block->at + block->nbytes ? span_end : block->at + block->nbytes;
    if (lo >= end)
        return UZ_OK;
    const unsigned char *data = block->data + (lo - block->at);
    uint64_t n = (end - lo) / size;
    if (block->big_endian != host_is_big_endian() && size > 1) {
        uz_bswap_copy(v->swapped, data, size, (size_t)n);
        data = v->swapped;
    }
    count(v, span, data, n);
    add_to(&v->run->n_values, n);
    return span->lp ? compare_lp(v, span, data, (lo - span->at) / size, n, err) : UZ_OK;
}

int uz_values_look(struct uz_values *values, const struct uz_spans *spans,
                   const struct uz_block *block, struct uz_error *err)
{
    size_t first, end;
    uz_spans_of(spans, block->storage, &first, &end);
    size_t low = first, high = end;
    while (low < high) { /* the first that ends behind the block's beginning; ends only rise */
        size_t mid = low + (high - low) / 2;
        if (spans->ends[mid] <= block->at)
            low = mid + 1;
        else
            high = mid;
    }
    for (size_t i = low; i < end && spans->items[i].at < block->at + block->nbytes; i++)
        UZ_TRY(look_at_span(values, &spans->items[i], block, err));
    return UZ_OK;
}
