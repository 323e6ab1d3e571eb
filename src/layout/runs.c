/* SPDX-License-Identifier: Apache-2.0 */
/* Decomposes a piece into runs that are contiguous in the tensor and in the storage. */
#include "layout/piece.h"

/* Offset on one side of the first element of a shard row. */
static uint64_t row_offset(const struct uz_shard_map *map, unsigned n_outer, uint64_t row,
                           const uint64_t *stride)
{
    uint64_t offset = 0;
    for (unsigned j = n_outer; j-- > 0;) {
        offset += row % map->shape[j] * stride[j];
        row /= map->shape[j];
    }
    return offset;
}

/*
 * Splits the dimensions: the trailing ones that are without gaps on both sides make up a row, the
 * others count rows.
 */
static void split_dims(struct uz_runs *runs, const struct uz_shard_map *map)
{
    uint64_t row_elems = 1;
    unsigned n_outer = map->ndim;
    while (n_outer > 0) {
        unsigned j = n_outer - 1;
        bool dense = map->dst_stride[j] == row_elems && map->src_stride[j] == row_elems;
        if (map->shape[j] != 1 && !dense)
            break;
        row_elems *= map->shape[j];
        n_outer--;
    }
    runs->row_elems = row_elems;
    runs->n_outer = n_outer;
}

static uint64_t row_dst(const struct uz_runs *runs, uint64_t row)
{
    const struct uz_shard_map *map = runs->piece->map;
    return map->dst_first + row_offset(map, runs->n_outer, row, map->dst_stride);
}

/* Where the shard's flat element i lies, relative to shard element 0. */
static uint64_t src_offset(const struct uz_runs *runs, uint64_t i)
{
    const struct uz_shard_map *map = runs->piece->map;
    return row_offset(map, runs->n_outer, i / runs->row_elems, map->src_stride) +
           i % runs->row_elems;
}

/* First row of [row, end_row) that ends after element `lo` of the tensor. */
static uint64_t first_row_after(const struct uz_runs *runs, uint64_t lo)
{
    uint64_t low = runs->row, high = runs->end_row;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        if (row_dst(runs, mid) + runs->row_elems <= lo)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

void uz_runs_begin(struct uz_runs *runs, const struct uz_piece *piece, uint64_t lo, uint64_t hi)
{
    *runs = (struct uz_runs){.piece = piece, .lo = lo, .hi = hi};
    if (piece->n_elems == 0 || lo >= hi)
        return; /* no rows */
    if (!piece->map) {
        runs->row_elems = piece->n_elems;
        runs->end_row = 1;
        return;
    }
    split_dims(runs, piece->map);
    runs->src_bias = (uint64_t)0 - src_offset(runs, piece->lo);
    runs->row = piece->lo / runs->row_elems;
    runs->end_row = (piece->lo + piece->n_elems - 1) / runs->row_elems + 1;
    runs->row = first_row_after(runs, lo);
}

/* The part of a shard row that belongs to the piece, before it is cut to the window. */
static void whole_run(const struct uz_runs *runs, uint64_t row, struct uz_run *run)
{
    const struct uz_piece *piece = runs->piece;
    if (!piece->map) {
        *run = (struct uz_run){.dst = piece->lo, .src = piece->src, .n_elems = piece->n_elems};
        return;
    }
    uint64_t begin = row * runs->row_elems;
    uint64_t end = begin + runs->row_elems;
    uint64_t from = begin > piece->lo ? begin : piece->lo;
    uint64_t to = end < piece->lo + piece->n_elems ? end : piece->lo + piece->n_elems;
    run->dst = row_dst(runs, row) + (from - begin);
    run->src = piece->src + runs->src_bias + src_offset(runs, from);
    run->n_elems = to - from;
}

bool uz_runs_next(struct uz_runs *runs, struct uz_run *run)
{
    while (runs->row < runs->end_row) {
        whole_run(runs, runs->row++, run);
        uint64_t end = run->dst + run->n_elems;
        if (run->dst >= runs->hi) {
            runs->row = runs->end_row;
            return false;
        }
        if (end <= runs->lo)
            continue;
        uint64_t from = run->dst > runs->lo ? run->dst : runs->lo;
        uint64_t to = end < runs->hi ? end : runs->hi;
        run->src += from - run->dst;
        run->dst = from;
        run->n_elems = to - from;
        return true;
    }
    return false;
}

void uz_piece_span(const struct uz_piece *piece, uint64_t *first, uint64_t *end)
{
    struct uz_runs runs;
    struct uz_run run = {0};
    uz_runs_begin(&runs, piece, 0, UINT64_MAX);
    whole_run(&runs, runs.row, &run);
    *first = run.dst;
    whole_run(&runs, runs.end_row - 1, &run);
    *end = run.dst + run.n_elems;
}
