/* SPDX-License-Identifier: Apache-2.0 */
/* What must be read from where to have some elements of a tensor in memory. */
#ifndef UZ_PLAN_COPIES_H
#define UZ_PLAN_COPIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout/model.h"
#include "layout/tile.h"

/* A 2-D block to be copied into memory; offsets and strides are in bytes. */
struct uz_copy {
    uint32_t file; /* source file; UZ_NONE: there is none, the elements are zero */
    enum uz_dtype from, to;
    bool swap;    /* the source's elements have their bytes in the opposite order */
    uint64_t src; /* in the source file */
    uint64_t dst; /* in the memory */
    uint64_t n_elems, n_rows;
    uint64_t src_stride, dst_stride;
    double divisor; /* what the elements are divided by before they are cast; 0: nothing */
};

/* A list that is emptied and filled again for each chunk of work. */
struct uz_copies {
    struct uz_copy *items;
    size_t n, cap;
    struct uz_tiles tiles; /* scratch */
};

void uz_copies_free(struct uz_copies *copies);

/* UZ_CORRUPT unless every piece and low-precision copy of the model lies inside its storage. */
int uz_check_pieces(const struct uz_model *model, struct uz_error *err);

/* Elements that are wanted: [lo, hi) of what n_pieces pieces (sorted) cover. */
struct uz_region {
    const struct uz_piece *pieces;
    uint64_t n_pieces;
    enum uz_dtype from; /* of the elements in the pieces */
    uint64_t lo, hi;
};

/*
 * Appends the copies that put a region, as elements of dtype `to`, from byte `dst` of the memory
 * on. No storage of the region may be packed.
 */
int uz_copies_add(struct uz_copies *copies, const struct uz_model *model,
                  const struct uz_region *region, enum uz_dtype to, uint64_t dst,
                  struct uz_error *err);

/* True if elements of the dtype that lie in this place must have their bytes swapped. */
static inline bool uz_place_swaps(const struct uz_place *place, enum uz_dtype dtype)
{
    return place->big_endian && uz_dtype_size(dtype) > 1;
}

#endif
