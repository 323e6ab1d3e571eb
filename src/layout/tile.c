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
        };
    }
    return UZ_OK;
}

/* First of the pieces that may reach past element lo; those without a map never overlap. */
static uint64_t first_piece_after(const struct uz_piece *pieces, uint64_t n_pieces, uint64_t lo)
{
    uint64_t low = 0, high = n_pieces;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        if (!pieces[mid].map && pieces[mid].lo + pieces[mid].n_elems <= lo)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int uz_compose(const struct uz_piece *pieces, uint64_t n_pieces, uint64_t lo, uint64_t hi,
               uint64_t dst_first, uint32_t tag, struct uz_tiles *tiles, struct uz_error *err)
{
    bool mapped = n_pieces > 0 && pieces[0].map;
    uint64_t i = mapped ? 0 : first_piece_after(pieces, n_pieces, lo);
    for (; i < n_pieces; i++) {
        if (!pieces[i].map && pieces[i].lo >= hi)
            break;
        UZ_TRY(add_piece(&pieces[i], lo, hi, dst_first, tag, tiles, err));
    }
    return UZ_OK;
}
