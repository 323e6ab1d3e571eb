/* SPDX-License-Identifier: Apache-2.0 */
/* Compares arrays of elements of two dtypes: unzero/diff.h says how. */
#ifndef UZ_CHECK_COMPARE_H
#define UZ_CHECK_COMPARE_H

#include <unzero/diff.h>

/* How elements of two dtypes can be compared. */
enum uz_comparison {
    UZ_COMPARE_NOT,     /* values of different kinds */
    UZ_COMPARE_BITS,    /* one dtype without arithmetic: fp8 */
    UZ_COMPARE_REAL,    /* fp16, bf16, fp32, fp64 */
    UZ_COMPARE_INTEGER, /* integers and bool */
};

struct uz_comparer {
    enum uz_comparison how;
    enum uz_dtype a, b;
    enum uz_dtype coarse; /* of reals: the one with fewer bits of precision */
    bool any_tolerance, has_ulp;
    double atol, rtol;
    uint64_t ulp;
};

/* What was found in some elements. */
struct uz_difference {
    uint64_t n_differ, n_beyond, n_nan;
    uint64_t n_unrounded; /* not equal even after rounding to the coarse dtype */
    uint64_t max_ulp;
    uint64_t first; /* UINT64_MAX: none */
    double first_a, first_b;
    double max_abs, max_rel;
};

void uz_comparer_init(struct uz_comparer *comparer, enum uz_dtype a, enum uz_dtype b,
                      const struct uz_diff_options *options);

/* No difference at all. */
void uz_difference_init(struct uz_difference *difference);

/* Compares n elements, of which the first has index `at`, and adds what it finds. */
void uz_compare(const struct uz_comparer *comparer, const void *a, const void *b, size_t n,
                uint64_t at, struct uz_difference *difference);

/* Adds what was found in other elements; the result does not depend on the order. */
void uz_difference_merge(struct uz_difference *into, const struct uz_difference *from);

#endif
