/* SPDX-License-Identifier: Apache-2.0 */
/* The casts in portable integer C: the specification that every other level equals bit for bit. */

#include "cast.h"

#include <string.h>

/* No value is ever held as a float: loading a signalling NaN may change it (x87), and arithmetic
 * would depend on the floating-point environment. */
typedef uint32_t f32_bits;
typedef uint16_t bf16_bits;
typedef uint16_t f16_bits;

static inline unsigned is_inf_f32(f32_bits x)
{
    return (x & 0x7fffffffu) == 0x7f800000u;
}

static inline unsigned is_inf_bf16(bf16_bits x)
{
    return (x & 0x7fffu) == 0x7f80u;
}

static inline unsigned is_inf_f16(f16_bits x)
{
    return (x & 0x7fffu) == 0x7c00u;
}

/* x / 2^shift, to nearest, ties to even; 1 <= shift <= 24. */
static inline uint32_t shift_rne(uint32_t x, unsigned shift)
{
    uint32_t just_below_half = (1u << (shift - 1)) - 1;
    uint32_t odd = (x >> shift) & 1u;

    return (x + just_below_half + odd) >> shift;
}

static inline bf16_bits f32_to_bf16(f32_bits x)
{
    if ((x & 0x7fffffffu) > 0x7f800000u) {
        /* Rounding could carry a NaN into the sign, and truncation could make it an infinity. */
        return (bf16_bits)(x >> 16 | 0x0040u);
    }
    /* A carry out of the mantissa goes up into the exponent, and from the largest to infinity. */
    return (bf16_bits)shift_rne(x, 16);
}

static inline f16_bits f32_to_f16(f32_bits x)
{
    uint32_t sign = x >> 16 & 0x8000u;
    uint32_t mag = x & 0x7fffffffu;
    uint32_t half;

    if (mag > 0x7f800000u) {
        half = 0x7e00u | (mag >> 13 & 0x03ffu);
    } else if (mag >= 0x47800000u) { /* 2^16 and above */
        half = 0x7c00u;
    } else if (mag >= 0x38800000u) { /* 2^-14 and above: normal; from 65520 up, carries to inf */
        half = shift_rne(mag - 0x38000000u, 13);
    } else if (mag >= 0x33000000u) { /* 2^-25 and above: counted in units of 2^-24 */
        half = shift_rne((mag & 0x007fffffu) | 0x00800000u, 126 - (mag >> 23));
    } else {
        half = 0;
    }
    return (f16_bits)(sign | half);
}

static inline f32_bits bf16_to_f32(bf16_bits x)
{
    uint32_t quiet = (x & 0x7fffu) > 0x7f80u ? 0x0040u : 0;

    return (x | quiet) << 16;
}

static inline f32_bits f16_to_f32(f16_bits x)
{
    uint32_t sign = (x & 0x8000u) << 16;
    uint32_t exponent = x >> 10 & 0x1fu;
    uint32_t mantissa = x & 0x03ffu;

    if (exponent == 0x1f) {
        uint32_t quiet = mantissa != 0 ? 0x00400000u : 0;
        return sign | 0x7f800000u | quiet | mantissa << 13;
    }
    if (exponent == 0) {
        if (mantissa == 0) {
            return sign;
        }
        /* A denormal is normal in fp32: move its first bit up to the place of the hidden bit. */
        exponent = 1;
        while ((mantissa & 0x0400u) == 0) {
            mantissa <<= 1;
            exponent--; /* may wrap; the sum below wraps it back */
        }
        mantissa &= 0x03ffu;
    }
    return sign | (exponent + (127 - 15)) << 23 | mantissa << 13;
}

static inline f16_bits bf16_to_f16(bf16_bits x)
{
    return f32_to_f16(bf16_to_f32(x));
}

static inline bf16_bits f16_to_bf16(f16_bits x)
{
    return f32_to_bf16(f16_to_f32(x));
}

#define UZ_CAST_ROW(FROM, TO, from, to)                                                            \
    static uint64_t scalar_##from##_to_##to(void *restrict dst, const void *restrict src,          \
                                            size_t n_elems)                                        \
    {                                                                                              \
        unsigned char *out = dst;                                                                  \
        const unsigned char *in = src;                                                             \
        uint64_t n_overflows = 0;                                                                  \
                                                                                                   \
        for (size_t i = 0; i < n_elems; i++) {                                                     \
            from##_bits x;                                                                         \
            to##_bits y;                                                                           \
                                                                                                   \
            memcpy(&x, in + i * sizeof(x), sizeof(x));                                             \
            y = from##_to_##to(x);                                                                 \
            memcpy(out + i * sizeof(y), &y, sizeof(y));                                            \
            n_overflows += is_inf_##to(y) & (is_inf_##from(x) ^ 1u);                               \
        }                                                                                          \
        return n_overflows;                                                                        \
    }
#include "cast.def"
#undef UZ_CAST_ROW

const struct uz_cast_ops uz_cast_ops_scalar = {
    .level = "scalar",
    .fn =
        {
#define UZ_CAST_ROW(FROM, TO, from, to) [UZ_CAST_##FROM##_TO_##TO] = scalar_##from##_to_##to,
#include "cast.def"
#undef UZ_CAST_ROW
        },
};
