/* SPDX-License-Identifier: Apache-2.0 */
/* Do the high- and low-precision copies of the parameters belong together? */
#ifndef UZ_CHECK_ROUNDING_H
#define UZ_CHECK_ROUNDING_H

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
 * every piece of every parameter that has both (`max_elems` UINT64_MAX: all). What is
 * compressed is passed over.
 */
int uz_check_rounding(const struct uz_model *model, uint64_t max_elems,
                      struct uz_rounding *rounding, struct uz_error *err);

#endif
