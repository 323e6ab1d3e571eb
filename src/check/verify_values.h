/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at values in memory: census, and comparison with the low-precision copy. */
#ifndef UZ_CHECK_VERIFY_VALUES_H
#define UZ_CHECK_VERIFY_VALUES_H

#include "check/verify_spans.h"
#include "engine/fd_cache.h"
#include "kernels/cast.h"
#include "kernels/census.h"

enum { UZ_VALUES_BLOCK = 256 << 10, UZ_VALUES_MAX_ELEM = 8 };

/* What one thread needs; large: keep it on the heap. */
struct uz_values {
    struct uz_verify_run *run;
    const struct uz_cast_ops *ops;
    uz_census_fn census;
    struct uz_fd_cache fds; /* by record */
    unsigned char block[UZ_VALUES_BLOCK];
    unsigned char swapped[UZ_VALUES_BLOCK];
    unsigned char lp[UZ_VALUES_BLOCK];
    unsigned char lp_swapped[UZ_VALUES_BLOCK];
    unsigned char rounded[UZ_VALUES_BLOCK];
};

/* Bytes [at, at + nbytes) of a storage, at most UZ_VALUES_BLOCK, `at` a multiple of 8. */
struct uz_block {
    uint64_t storage, at;
    size_t nbytes;
    const unsigned char *data;
    bool big_endian;
};

/* Looks at all values of the file's spans in the block. */
int uz_values_look(struct uz_values *values, const struct uz_spans *spans,
                   const struct uz_block *block, struct uz_error *err);

#endif
