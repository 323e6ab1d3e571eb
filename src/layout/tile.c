/* SPDX-License-Identifier: Apache-2.0 */
/* Composes a region of a tensor out of pieces. */
#include "layout/tile.h"

#include <stdlib.h>

#include "base/mem.h"

void uz_tiles_free(struct uz_tiles *tiles)
{
    free(tiles->items);
    *tiles = (struct uz_tiles){0};
}

/* True if the run is the next row of the tile, which then has it. */
static bool extend(struct uz_tile *tile, const struct uz_run *run, uint64_t dst)
{
    if (tile->n_elems != run->n_elems)
        return false;
    if (tile->n_rows == 1) {
        /* mod 2^64: a storage may be walked backwards or forwards, steps stay the same */
        tile->src_stride = run->src - tile->src;
        tile->dst_stride = dst - tile->dst;
    } else if (run->src != tile->src + tile->n_rows * tile->src_stride ||
               dst != tile->dst + tile->n_rows * tile->dst_stride) {
        return false;
    }
    tile->n_rows++;
    return true;
}

static int add_piece(const struct uz_piece *piece, uint64_t lo, uint64_t hi, uint64_t dst_first,
                     uint32_t tag, struct uz_tiles *tiles, struct uz_error *err)
{
    struct uz_runs runs;
    struct uz_run run;
    size_t n_before = tiles->n;
    uz_runs_begin(&runs, piece, lo, hi);
    while (uz_runs_next(&runs, &run)) {
        uint64_t dst = dst_first + (run.dst - lo);
        if (tiles->n > n_before && extend(&tiles->items[tiles->n - 1], &run, dst))
            continue;
        UZ_TRY(uz_reserve(&tiles->items, &tiles->cap, (uint64_t)tiles->n + 1, sizeof *tiles->items,
                          err));
        tiles->items[tiles->n++] = (struct uz_tile){
            .storage = piece->storage,
            .tag = tag,
            .src = run.src,
            .dst = dst,
            .n_elems = run.n_elems,
            .n_rows = 1,
            .divisor = piece->map ? piece->map->divisor : 0,
        };
    }
    return UZ_OK;
}

int uz_compose(const struct uz_piece *pieces, uint64_t n_pieces, uint64_t lo, uint64_t hi,
               uint64_t dst_first, uint32_t tag, struct uz_tiles *tiles, struct uz_error *err)
{
    for (uint64_t i = 0; i < n_pieces; i++) {
        const struct uz_piece *piece = &pieces[i];
        if (!piece->map && piece->lo >= hi)
            break; /* sorted: none of the others begins earlier */
        if (!piece->map && piece->lo + piece->n_elems <= lo)
            continue;
        UZ_TRY(add_piece(piece, lo, hi, dst_first, tag, tiles, err));
    }
    return UZ_OK;
}
