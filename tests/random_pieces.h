/* SPDX-License-Identifier: Apache-2.0 */
/* Random logical tensors, cut into shards and partitions of shards, with a plain-loop truth. */
#ifndef UZ_TESTS_RANDOM_PIECES_H
#define UZ_TESTS_RANDOM_PIECES_H

#include <stdlib.h>
#include <string.h>

#include "layout/piece.h"
#include "rng.h"

enum { RP_MAX_NDIM = 4, RP_MAX_BOXES = 12, RP_MAX_PIECES = 64, RP_MAX_STORAGES = 64 };

/* A sub-box of the tensor: what one tensor-parallel rank holds. */
struct rp_box {
    uint64_t at[RP_MAX_NDIM], size[RP_MAX_NDIM];
};

struct rp_tensor {
    unsigned ndim;
    uint64_t shape[RP_MAX_NDIM];
    uint64_t stride[RP_MAX_NDIM];
    uint64_t numel;
    struct rp_box boxes[RP_MAX_BOXES];
    size_t n_boxes;
    struct uz_piece pieces[RP_MAX_PIECES]; /* sorted; none is empty */
    size_t n_pieces;
    struct uz_shard_map maps[RP_MAX_BOXES];
    uint64_t numbers[RP_MAX_BOXES][3 * RP_MAX_NDIM];
    uint64_t storage_numel[RP_MAX_STORAGES];
    size_t n_storages;
};

/* What the generator may make. */
enum {
    RP_PLAIN = 1,   /* pieces without a map, as plain data parallelism has them */
    RP_STRIDED = 2, /* shards whose storage is transposed or has gaps */
    RP_EMPTY = 4,   /* tensors without elements */
    RP_WHOLE = 8    /* tensors that are not cut into shards */
};

static inline uint64_t rp_box_numel(const struct rp_tensor *t, const struct rp_box *box)
{
    uint64_t n = 1;
    for (unsigned j = 0; j < t->ndim; j++)
        n *= box->size[j];
    return n;
}

static inline void rp_make_shape(struct rp_tensor *t, unsigned flags)
{
    static const uint64_t most[] = {0, 600, 40, 12, 7};
    t->ndim = (unsigned)rng_range(1, RP_MAX_NDIM);
    t->numel = 1;
    for (unsigned j = 0; j < t->ndim; j++)
        t->shape[j] = rng_one_in(6) ? 1 : rng_range(1, most[t->ndim]);
    if ((flags & RP_EMPTY) && rng_one_in(8))
        t->shape[rng_below(t->ndim)] = 0;
    for (unsigned j = t->ndim; j-- > 0;) {
        t->stride[j] = t->numel;
        t->numel *= t->shape[j];
    }
}

/* Cuts boxes in two, anywhere along any dimension: uneven and empty parts come up. */
static inline void rp_make_boxes(struct rp_tensor *t)
{
    for (size_t n_cuts = rng_below(RP_MAX_BOXES); n_cuts > 0; n_cuts--) {
        struct rp_box *box = &t->boxes[rng_below(t->n_boxes)];
        struct rp_box *other = &t->boxes[t->n_boxes++];
        unsigned j = (unsigned)rng_below(t->ndim);
        uint64_t cut = rng_range(0, box->size[j]);
        *other = *box;
        box->size[j] = cut;
        other->at[j] += cut;
        other->size[j] -= cut;
    }
}

/* Strides of a storage that keeps the shard's dimensions in any order, perhaps with gaps. */
static inline void rp_any_strides(const struct rp_tensor *t, const struct rp_box *box,
                                  uint64_t *stride)
{
    unsigned order[RP_MAX_NDIM] = {0, 1, 2, 3};
    uint64_t step = rng_one_in(4) ? rng_range(1, 3) : 1;
    for (unsigned j = t->ndim; j-- > 1;) {
        unsigned k = (unsigned)rng_below(j + 1), swap = order[j];
        order[j] = order[k];
        order[k] = swap;
    }
    for (unsigned j = t->ndim; j-- > 0;) {
        stride[order[j]] = step;
        step = step * box->size[order[j]] + (rng_one_in(5) ? rng_below(4) : 0);
    }
}

/* The storage offset of the shard's flat element m, relative to its first; plain arithmetic. */
static inline uint64_t rp_offset(const struct uz_shard_map *map, uint64_t m, const uint64_t *stride)
{
    uint64_t offset = 0;
    for (unsigned j = map->ndim; j-- > 0;) {
        offset += m % map->shape[j] * stride[j];
        m /= map->shape[j];
    }
    return offset;
}

static inline const struct uz_shard_map *rp_make_map(struct rp_tensor *t, size_t i, bool strided)
{
    const struct rp_box *box = &t->boxes[i];
    uint64_t *numbers = t->numbers[i];
    uint64_t step = 1;
    struct uz_shard_map *map = &t->maps[i];
    *map = (struct uz_shard_map){.ndim = t->ndim,
                                 .shape = numbers,
                                 .dst_stride = numbers + RP_MAX_NDIM,
                                 .src_stride = numbers + 2 * RP_MAX_NDIM};
    for (unsigned j = t->ndim; j-- > 0;) {
        numbers[j] = box->size[j];
        numbers[RP_MAX_NDIM + j] = t->stride[j];
        numbers[2 * RP_MAX_NDIM + j] = step;
        step *= box->size[j];
        map->dst_first += box->at[j] * t->stride[j];
    }
    if (strided)
        rp_any_strides(t, box, numbers + 2 * RP_MAX_NDIM);
    return map;
}

/* Where flat element m of shard i lies in a storage that holds the whole shard. */
static inline uint64_t rp_shard_src(const struct uz_shard_map *map, uint64_t m)
{
    return map ? rp_offset(map, m, map->src_stride) : m;
}

/*
 * Cuts shard i into ZeRO-like intervals. The shard lies whole in one storage, always if strided; or
 * each interval has a storage of its own, as a rank's partition has.
 */
static inline void rp_add_box(struct rp_tensor *t, size_t i, unsigned flags)
{
    uint64_t n = rp_box_numel(t, &t->boxes[i]), base = rng_below(9), extent = 0;
    bool strided = (flags & RP_STRIDED) && rng_one_in(2);
    bool whole = strided || rng_one_in(3);
    bool plain = (flags & RP_PLAIN) && t->n_boxes == 1 && !strided;
    const struct uz_shard_map *map = plain ? NULL : rp_make_map(t, i, strided);
    for (uint64_t m = 0; m < n; m++)
        if (rp_shard_src(map, m) > extent)
            extent = rp_shard_src(map, m);
    for (uint64_t lo = 0, n_left = rng_range(1, 5); lo < n; n_left--) {
        uint64_t n_elems = n_left <= 1 ? n - lo : rng_range(1, n - lo);
        struct uz_piece *piece = &t->pieces[t->n_pieces++];
        *piece = (struct uz_piece){.storage = (uint32_t)t->n_storages,
                                   .lo = lo,
                                   .n_elems = n_elems,
                                   .src = whole ? base + rp_shard_src(map, lo) : rng_below(9),
                                   .map = map};
        if (!whole)
            t->storage_numel[t->n_storages++] = piece->src + n_elems + rng_below(9);
        lo += n_elems;
    }
    if (whole && n > 0)
        t->storage_numel[t->n_storages++] = base + extent + 1 + rng_below(9);
}

/* Where element k of a piece is in the tensor, by the definition in layout/piece.h. */
static inline uint64_t rp_dst(const struct uz_piece *piece, uint64_t k)
{
    const struct uz_shard_map *map = piece->map;
    if (!map)
        return piece->lo + k;
    return map->dst_first + rp_offset(map, piece->lo + k, map->dst_stride);
}

/* Where it is in its storage. */
static inline uint64_t rp_src(const struct uz_piece *piece, uint64_t k)
{
    const struct uz_shard_map *map = piece->map;
    if (!map)
        return piece->src + k;
    return piece->src + rp_offset(map, piece->lo + k, map->src_stride) -
           rp_offset(map, piece->lo, map->src_stride);
}

static inline int rp_by_begin(const void *a, const void *b)
{
    uint64_t x = rp_dst(a, 0), y = rp_dst(b, 0);
    return x < y ? -1 : x > y;
}

static inline void rp_make(struct rp_tensor *t, unsigned flags)
{
    memset(t, 0, sizeof *t);
    rp_make_shape(t, flags);
    t->n_boxes = 1;
    memcpy(t->boxes[0].size, t->shape, sizeof t->shape);
    if (!(flags & RP_WHOLE) && (!(flags & RP_PLAIN) || !rng_one_in(4)))
        rp_make_boxes(t);
    for (size_t i = 0; i < t->n_boxes; i++)
        rp_add_box(t, i, flags);
    qsort(t->pieces, t->n_pieces, sizeof *t->pieces, rp_by_begin);
}

#endif
