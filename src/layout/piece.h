/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces: where parts of a logical tensor are stored. */
#ifndef UZ_LAYOUT_PIECE_H
#define UZ_LAYOUT_PIECE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/*
 * An affine map from the elements of a shard (a row-major array of `shape`) to a logical tensor and
 * to a storage. Element m = (m0, m1, ...) of the shard is
 *     element  dst_first + sum(m_j * dst_stride_j)  of the logical tensor, row-major, and lies
 *     sum(m_j * src_stride_j)  elements from where element (0, 0, ...) lies in the storage.
 * Going through the shard in order must go upwards through the logical tensor (true of every
 * sub-box of a row-major array): runs are found by bisection.
 */
struct uz_shard_map {
    unsigned ndim;
    uint64_t dst_first;
    const uint64_t *shape;
    const uint64_t *dst_stride;
    const uint64_t *src_stride;
    double divisor; /* what the stored elements are divided by, in their dtype; 0: nothing */
};

/* True if elements are to be divided. */
static inline bool uz_divides(double divisor)
{
    return divisor > 0 || divisor < 0;
}

/*
 * A flat interval [lo, lo + n_elems) of a shard, seen through an affine map. Without a map the
 * shard is the logical tensor itself, stored without gaps: element lo + i of the tensor is element
 * src + i of the storage. With one, `src` is where the interval's first element lies.
 */
struct uz_piece {
    uint32_t tensor;  /* index of the logical tensor */
    uint32_t storage; /* index of the storage */
    uint64_t lo;
    uint64_t n_elems;
    uint64_t src;
    const struct uz_shard_map *map; /* borrowed; NULL: see above */
};

/* n elements that follow one another on both sides. */
struct uz_run {
    uint64_t dst; /* first element in the logical tensor */
    uint64_t src; /* first element in the storage */
    uint64_t n_elems;
};

/* Walks through the runs of a piece upwards; fields are private. */
struct uz_runs {
    const struct uz_piece *piece;
    uint64_t lo, hi;    /* window on the logical tensor */
    uint64_t row_elems; /* elements of a shard row that are contiguous on both sides */
    unsigned n_outer;   /* dimensions outside of a row */
    uint64_t src_bias;  /* storage offset of shard element 0, relative to piece->src, mod 2^64 */
    uint64_t row, end_row;
};

/* Starts at the first run that reaches into [lo, hi) of the logical tensor. */
void uz_runs_begin(struct uz_runs *runs, const struct uz_piece *piece, uint64_t lo, uint64_t hi);

/* The next run, cut to the window; false after the last. */
bool uz_runs_next(struct uz_runs *runs, struct uz_run *run);

/* First element of the logical tensor in the piece, and one past the last; n_elems > 0. */
void uz_piece_span(const struct uz_piece *piece, uint64_t *first, uint64_t *end);

/*
 * Checks that the pieces of one tensor cover its numel elements exactly: a gap or an overlap is
 * UZ_MISMATCH with the element it begins at. The pieces must be sorted by where they begin (n_elems
 * > 0 each). `name` is for the message.
 */
int uz_pieces_cover(const struct uz_piece *pieces, uint64_t n_pieces, uint64_t numel,
                    const char *name, struct uz_error *err);

#endif
