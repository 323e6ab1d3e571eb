/* SPDX-License-Identifier: Apache-2.0 */
/* Elements from one dtype to another, or as they are, from either byte order. */
#ifndef UZ_ENGINE_CONVERT_H
#define UZ_ENGINE_CONVERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <unzero/dtype.h>

#include "kernels/cast.h"
#include "layout/piece.h"

/* What happens to elements on their way. */
struct uz_conversion {
    enum uz_dtype from, to; /* equal, or both castable */
    bool swap;              /* the bytes of each element at `src` are in the opposite order */
    double divisor;         /* elements are divided by it, rounded to `from`; 0: they are not */
};

/*
 * Puts n_elems converted elements from src to dst, which must not overlap; src is left as it is.
 * Returns how many finite values became infinite.
 */
uint64_t uz_convert_elems(const struct uz_cast_ops *ops, struct uz_conversion how,
                          void *restrict dst, const void *restrict src, size_t n_elems);

#endif
