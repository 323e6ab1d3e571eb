/* SPDX-License-Identifier: Apache-2.0 */
/* Sums and quotients of elements in the dtype they are stored in, as PyTorch forms them. */
#ifndef UZ_ENGINE_ARITH_H
#define UZ_ENGINE_ARITH_H

#include <stddef.h>

#include <unzero/dtype.h>

#include "kernels/cast.h"

/*
 * Each works in place on n elements of any alignment in the machine's byte order. fp32 and fp64
 * are computed as they are; bf16 and fp16 in fp32, each result rounded to nearest, ties to even.
 * Other dtypes are a caller's mistake (uz_arith_knows).
 */
bool uz_arith_knows(enum uz_dtype dtype);

/* sum[i] += x[i] */
void uz_arith_add(const struct uz_cast_ops *ops, enum uz_dtype dtype, void *restrict sum,
                  const void *restrict x, size_t n);

/* x[i] += number */
void uz_arith_add_number(const struct uz_cast_ops *ops, enum uz_dtype dtype, void *x, size_t n,
                         double number);

/* x[i] /= divisor, which is rounded to fp32 first unless the elements are fp64. */
void uz_arith_divide(const struct uz_cast_ops *ops, enum uz_dtype dtype, void *x, size_t n,
                     double divisor);

#endif
