/* SPDX-License-Identifier: Apache-2.0 */
/* Counts the unusual values of an array: NaN, infinities, denormals, and whether all are zero. */
#ifndef UZ_KERNELS_CENSUS_H
#define UZ_KERNELS_CENSUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uz_census {
    uint64_t n_nan, n_inf, n_denormal;
    bool has_nonzero; /* an element that is neither 0 nor -0 */
};

/* How the elements are built; those without an exponent are only held against zero. */
enum uz_census_kind {
    UZ_CENSUS_F16,
    UZ_CENSUS_BF16,
    UZ_CENSUS_F32,
    UZ_CENSUS_F64,
    UZ_CENSUS_BYTES, /* integers and what else has no NaN that matters */
};

/*
 * Adds the counts of n_elems elements at `data` (any alignment, the host's byte order; for
 * UZ_CENSUS_BYTES n_elems bytes) to *census. Safe to call from any thread.
 */
void uz_census_count(struct uz_census *census, enum uz_census_kind kind, const void *data,
                     size_t n_elems);

#endif
