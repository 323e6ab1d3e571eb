/* SPDX-License-Identifier: Apache-2.0 */
/* A part of a tensor, named as numpy names it: an index or a range for each dimension. */
#ifndef UZ_LAYOUT_SLICE_H
#define UZ_LAYOUT_SLICE_H

#include <stdint.h>

#include "base/error.h"

enum { UZ_SLICE_MAX_NDIM = 64 };

/*
 * Of dimension j of the tensor elements start[j] + i * step[j], i < count[j], are in the part. The
 * part's own shape leaves out dimensions that an index was given for.
 */
struct uz_slice {
    unsigned ndim;
    uint64_t start[UZ_SLICE_MAX_NDIM], step[UZ_SLICE_MAX_NDIM], count[UZ_SLICE_MAX_NDIM];
    uint64_t stride[UZ_SLICE_MAX_NDIM]; /* of the tensor, row-major */
    unsigned out_ndim;
    uint64_t out_shape[UZ_SLICE_MAX_NDIM];
    uint64_t numel; /* of the part */
    /* Trailing dimensions from `inner` on make runs of run_elems elements run_step apart. */
    unsigned inner;
    uint64_t run_elems, run_step;
};

/*
 * Reads "0", ":", "2:10", "-5:", "::2", with commas between, for a tensor of this shape. NULL or ""
 * is all of it. Negative numbers count from the end; a range is cut to the dimension, as in Python.
 * UZ_ARG, with the dimension, for what does not fit.
 */
int uz_slice_parse(struct uz_slice *slice, const char *text, unsigned ndim, const uint64_t *shape,
                   struct uz_error *err);

/* UZ_ARG for what fits no tensor, whatever its shape. */
int uz_slice_check(const char *text, struct uz_error *err);

/* Elements that follow one another in the part and lie `step` apart in the tensor. */
struct uz_slice_run {
    uint64_t first; /* element of the tensor */
    uint64_t n_elems, step;
};

/* The run that begins with element `first` < numel of the part, counted row-major. */
struct uz_slice_run uz_slice_run_at(const struct uz_slice *slice, uint64_t first);

#endif
