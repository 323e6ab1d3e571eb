/* SPDX-License-Identifier: Apache-2.0 */
/* Picks the cast kernel for a pair of dtypes. */
#include "engine/convert.h"

#include <string.h>

static enum uz_cast_id cast_of(enum uz_dtype from, enum uz_dtype to)
{
    switch (from) {
    case UZ_DTYPE_F32:
        return to == UZ_DTYPE_BF16 ? UZ_CAST_F32_TO_BF16 : UZ_CAST_F32_TO_F16;
    case UZ_DTYPE_BF16:
        return to == UZ_DTYPE_F32 ? UZ_CAST_BF16_TO_F32 : UZ_CAST_BF16_TO_F16;
    default:
        return to == UZ_DTYPE_F32 ? UZ_CAST_F16_TO_F32 : UZ_CAST_F16_TO_BF16;
    }
}

uint64_t uz_convert_elems(const struct uz_cast_ops *ops, void *restrict dst, enum uz_dtype to,
                          const void *restrict src, enum uz_dtype from, size_t n_elems)
{
    if (from == to) {
        memcpy(dst, src, n_elems * uz_dtype_size(from));
        return 0;
    }
    return ops->fn[cast_of(from, to)](dst, src, n_elems);
}
