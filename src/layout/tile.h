/* SPDX-License-Identifier: Apache-2.0 */
/* Tiles: what must be copied from a storage to make a region of a logical tensor. */
#ifndef UZ_LAYOUT_TILE_H
#define UZ_LAYOUT_TILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "layout/piece.h"

/*
 * A 2-D block: n_rows rows of n_elems elements each; row r begins at element src + r * src_stride
 * of the storage and at element dst + r * dst_stride of the region.
 */
struct uz_tile {
    uint32_t storage;
    uint32_t tag; /* the caller's: which target the region belongs to */
    uint64_t src;
    uint64_t dst;
    uint64_t n_elems;
    uint64_t n_rows;
    uint64_t src_stride, dst_stride;
    double divisor; /* see struct uz_shard_map */
};

/* A list that is emptied and filled again for each chunk of work. */
struct uz_tiles {
    struct uz_tile *items;
    size_t n, cap;
};

void uz_tiles_free(struct uz_tiles *tiles);

/*
 * Appends the tiles that make the elements [lo, hi) of a tensor from its pieces (all of them,
 * sorted, covering it exactly). `dst` of a tile counts from `lo` on, plus dst_first. Runs that
 * repeat with constant strides become the rows of one tile.
 */
int uz_compose(const struct uz_piece *pieces, uint64_t n_pieces, uint64_t lo, uint64_t hi,
               uint64_t dst_first, uint32_t tag, struct uz_tiles *tiles, struct uz_error *err);

#endif
