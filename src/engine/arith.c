/* SPDX-License-Identifier: Apache-2.0 */
/* Elements are worked on in blocks of fp32 or fp64. */
#include "engine/arith.h"

#include <string.h>

enum { BLOCK_ELEMS = 1024 };

enum op { ADD, DIVIDE };

bool uz_arith_knows(enum uz_dtype dtype)
{
    return dtype == UZ_DTYPE_F32 || dtype == UZ_DTYPE_F64 || dtype == UZ_DTYPE_BF16 ||
           dtype == UZ_DTYPE_F16;
}

/* To fp32, from one of the three dtypes that fit it. */
static void widen(const struct uz_cast_ops *ops, enum uz_dtype dtype, float *to, const void *from,
                  size_t n)
{
    if (dtype == UZ_DTYPE_F32)
        memcpy(to, from, n * sizeof *to);
    else
        ops->fn[dtype == UZ_DTYPE_BF16 ? UZ_CAST_BF16_TO_F32 : UZ_CAST_F16_TO_F32](to, from, n);
}

static void narrow(const struct uz_cast_ops *ops, enum uz_dtype dtype, void *to, const float *from,
                   size_t n)
{
    if (dtype == UZ_DTYPE_F32)
        memcpy(to, from, n * sizeof *from);
    else
        ops->fn[dtype == UZ_DTYPE_BF16 ? UZ_CAST_F32_TO_BF16 : UZ_CAST_F32_TO_F16](to, from, n);
}

/* x op y, where y is an array or, if that is NULL, one number. */
static void block_f32(enum op op, float *x, const float *y, float number, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float operand = y ? y[i] : number;
        x[i] = op == ADD ? x[i] + operand : x[i] / operand;
    }
}

static void all_f64(enum op op, unsigned char *x, const unsigned char *y, double number, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double value, operand = number;
        memcpy(&value, x + i * sizeof value, sizeof value);
        if (y)
            memcpy(&operand, y + i * sizeof operand, sizeof operand);
        value = op == ADD ? value + operand : value / operand;
        memcpy(x + i * sizeof value, &value, sizeof value);
    }
}

static void apply(const struct uz_cast_ops *ops, enum uz_dtype dtype, enum op op, unsigned char *x,
                  const unsigned char *y, double number, size_t n_elems)
{
    float a[BLOCK_ELEMS], b[BLOCK_ELEMS];
    size_t size = uz_dtype_size(dtype);
    if (dtype == UZ_DTYPE_F64) {
        all_f64(op, x, y, number, n_elems);
        return;
    }
    for (size_t done = 0, n; done < n_elems; done += n) {
        n = n_elems - done < BLOCK_ELEMS ? n_elems - done : BLOCK_ELEMS;
        widen(ops, dtype, a, x + done * size, n);
        if (y)
            widen(ops, dtype, b, y + done * size, n);
        block_f32(op, a, y ? b : NULL, (float)number, n);
        narrow(ops, dtype, x + done * size, a, n);
    }
}

void uz_arith_add(const struct uz_cast_ops *ops, enum uz_dtype dtype, void *restrict sum,
                  const void *restrict x, size_t n)
{
    apply(ops, dtype, ADD, sum, x, 0, n);
}

void uz_arith_add_number(const struct uz_cast_ops *ops, enum uz_dtype dtype, void *x, size_t n,
                         double number)
{
    apply(ops, dtype, ADD, x, NULL, number, n);
}

void uz_arith_divide(const struct uz_cast_ops *ops, enum uz_dtype dtype, void *x, size_t n,
                     double divisor)
{
    apply(ops, dtype, DIVIDE, x, NULL, divisor, n);
}
