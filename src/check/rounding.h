/* SPDX-License-Identifier: Apache-2.0 */
/* Do the high- and low-precision copies of the parameters belong together? */
#ifndef UZ_CHECK_ROUNDING_H
#define UZ_CHECK_ROUNDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout/model.h"

/* What a comparison found. */
struct uz_rounding {
    uint64_t n_compared;    /* elements */
    uint64_t n_differ;      /* elements whose rounded master is not the low-precision copy */
    uint32_t worst_tensor;  /* the tensor with the largest share of differing elements */
    double worst_share;     /* that share, 0 to 1 */
    uint32_t worst_storage; /* the storage of its first piece with such elements */
    uint64_t n_packed;      /* parameters passed over: they are compressed */
};

/*
 * ZeRO 1 and 2 keep a low-precision copy of every parameter beside the partitions of its master:
 * the copy must be the master, rounded. Compares up to `max_elems` elements at the beginning of
 * every piece of every parameter that has both (`max_elems` UINT64_MAX: all), none twice, on
 * `threads` threads. What is compressed is passed over.
 */
int uz_check_rounding(const struct uz_model *model, uint64_t max_elems, unsigned threads,
                      struct uz_rounding *rounding, struct uz_error *err);

/*
 * How many of n elements of a castable dtype differ, rounded masters from their copy. A NaN equals
 * any NaN: frameworks choose their own.
 */
uint64_t uz_rounding_differences(const void *rounded, const void *lp, size_t n_elems,
                                 enum uz_dtype dtype);

/*
 * Whether that many elements that differ are more than single ones: the copies are of different
 * saves or ranks.
 */
bool uz_rounding_is_bad(uint64_t n_differ, uint64_t n_compared);

#endif
