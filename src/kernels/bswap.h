/* SPDX-License-Identifier: Apache-2.0 */
/* Turns round the bytes of each element of an array. */

#ifndef UZ_KERNELS_BSWAP_H
#define UZ_KERNELS_BSWAP_H

#include <stddef.h>

/*
 * Copies `n_elems` elements of `elem_nbytes` bytes (1, 2, 4 or 8) from `src` to `dst`, each with
 * its bytes in the opposite order. Any alignment of both; they must not overlap; no byte outside
 * the two arrays is read or written. `n_elems` may be 0, and then the pointers may be NULL. Safe to
 * call from any thread.
 */
void uz_bswap_copy(void *restrict dst, const void *restrict src, size_t elem_nbytes,
                   size_t n_elems);

#endif
