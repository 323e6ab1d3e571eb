/* SPDX-License-Identifier: Apache-2.0 */
/* Elements from one dtype to another, or as they are. */
#ifndef UZ_ENGINE_CONVERT_H
#define UZ_ENGINE_CONVERT_H

#include <stddef.h>
#include <stdint.h>

#include <unzero/dtype.h>

#include "kernels/cast.h"

/*
 * Puts n_elems elements of dtype `from` at src as dtype `to` to dst; the two must be equal or both
 * castable. Returns how many finite values became infinite.
 */
uint64_t uz_convert_elems(const struct uz_cast_ops *ops, void *restrict dst, enum uz_dtype to,
                          const void *restrict src, enum uz_dtype from, size_t n_elems);

#endif
