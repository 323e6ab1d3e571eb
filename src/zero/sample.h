/* SPDX-License-Identifier: Apache-2.0 */
/* A few elements of a stored tensor, to tell by their values what it is. */
#ifndef UZ_ZERO_SAMPLE_H
#define UZ_ZERO_SAMPLE_H

#include "torch/file.h"

enum { UZ_SAMPLE_ELEMS = 256, UZ_SAMPLE_ELEM_NBYTES = 8 };

/* The first elements of a tensor, in the byte order of this machine. */
struct uz_sample {
    uint32_t n_elems;
    unsigned char bytes[UZ_SAMPLE_ELEMS * UZ_SAMPLE_ELEM_NBYTES];
};

/*
 * Reads n elements (at most UZ_SAMPLE_ELEMS) of a tensor, the first after `skip`, row-major; only
 * of a contiguous one can some be skipped.
 */
int uz_sample_read(struct uz_torch_file *file, const struct uz_view *view, uint64_t skip,
                   uint32_t n, unsigned char *bytes, struct uz_error *err);

#endif
