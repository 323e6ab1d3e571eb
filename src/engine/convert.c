/* SPDX-License-Identifier: Apache-2.0 */
/* Picks the kernels for a pair of dtypes. */
#include "engine/convert.h"

#include <string.h>

#include "engine/arith.h"
#include "kernels/bswap.h"

enum { BLOCK_NBYTES = 4096 }; /* of swapped elements, on the stack and in the first cache */

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

/* Swaps and divides in a block of its own: others may still want the bytes at src as they are. */
static uint64_t convert_in_blocks(const struct uz_cast_ops *ops, struct uz_conversion how,
                                  unsigned char *restrict dst, const unsigned char *restrict src,
                                  size_t n_elems)
{
    unsigned char block[BLOCK_NBYTES];
    size_t from_size = uz_dtype_size(how.from), to_size = uz_dtype_size(how.to);
    size_t elems_at_once = sizeof block / from_size;
    uint64_t n_overflows = 0;
    for (size_t done = 0, n; done < n_elems; done += n) {
        n = n_elems - done < elems_at_once ? n_elems - done : elems_at_once;
        if (how.swap)
            uz_bswap_copy(block, src + done * from_size, from_size, n);
        else
            memcpy(block, src + done * from_size, n * from_size);
        if (uz_divides(how.divisor))
            uz_arith_divide(ops, how.from, block, n, how.divisor);
        if (how.from == how.to)
            memcpy(dst + done * to_size, block, n * to_size);
        else
            n_overflows += ops->fn[cast_of(how.from, how.to)](dst + done * to_size, block, n);
    }
    return n_overflows;
}

uint64_t uz_convert_elems(const struct uz_cast_ops *ops, struct uz_conversion how,
                          void *restrict dst, const void *restrict src, size_t n_elems)
{
    if (uz_divides(how.divisor) || (how.from != how.to && how.swap))
        return convert_in_blocks(ops, how, dst, src, n_elems);
    if (how.from != how.to)
        return ops->fn[cast_of(how.from, how.to)](dst, src, n_elems);
    if (how.swap)
        uz_bswap_copy(dst, src, uz_dtype_size(how.from), n_elems);
    else
        memcpy(dst, src, n_elems * uz_dtype_size(how.from));
    return 0;
}
