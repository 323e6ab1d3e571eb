/* SPDX-License-Identifier: Apache-2.0 */
/* Counts the unusual values of an array: NaN, infinities, denormals, and whether all are zero. */
#ifndef UZ_KERNELS_CENSUS_H
#define UZ_KERNELS_CENSUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uz_unusual {
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
 * UZ_CENSUS_BYTES n_elems bytes) to *unusual. Safe to call from any thread.
 */
typedef void (*uz_census_fn)(struct uz_unusual *unusual, enum uz_census_kind kind, const void *data,
                             size_t n_elems);

/* The best that the CPU has and a mask of enum uz_cpu_feature allows; see uz_cast_ops_for(). */
uz_census_fn uz_census_for(unsigned feature_mask);

/* The levels, for uz_census_for(): on a CPU without its features, one is an illegal instruction. */
void uz_census_plain(struct uz_unusual *unusual, enum uz_census_kind kind, const void *data,
                     size_t n_elems);
void uz_census_avx2(struct uz_unusual *unusual, enum uz_census_kind kind, const void *data,
                    size_t n_elems);

#endif
