/* SPDX-License-Identifier: Apache-2.0 */
/* What a cast between floating-point formats must give, found by search instead of by rounding. */

#ifndef UZ_TESTS_CAST_ORACLE_H
#define UZ_TESTS_CAST_ORACLE_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * It shares no arithmetic with the casts: it lists the values of every finite code of the target
 * as doubles, and of the points half way between neighbours, and looks the number up. All those
 * are exact in a double, also the half-way point between the largest code and the infinity, whose
 * code stands for the power of two that would follow.
 */

struct format {
    const char *name;
    size_t nbytes;
    int mantissa_bits;
    int bias;
    uint32_t inf; /* the code of +infinity: also how many finite codes there are */
    uint32_t sign;
};

enum { FORMAT_F32, FORMAT_BF16, FORMAT_F16, FORMAT_COUNT };

static const struct format formats[FORMAT_COUNT] = {
    [FORMAT_F32] = {"f32", 4, 23, 127, 0x7f800000, 0x80000000},
    [FORMAT_BF16] = {"bf16", 2, 7, 127, 0x7f80, 0x8000},
    [FORMAT_F16] = {"f16", 2, 10, 15, 0x7c00, 0x8000},
};

static double midpoints[FORMAT_COUNT][0x8000]; /* [f][k]: between codes k and k + 1 */

/* The magnitude of a code without its sign; the infinity reads as the next power of two. */
static inline double decode(const struct format *f, uint32_t code)
{
    uint32_t fraction = code & ((1u << f->mantissa_bits) - 1);
    int exponent = (int)(code >> f->mantissa_bits);

    if (exponent == 0) {
        return ldexp(fraction, 1 - f->bias - f->mantissa_bits);
    }
    return ldexp((1u << f->mantissa_bits) + fraction, exponent - f->bias - f->mantissa_bits);
}

static inline void make_midpoints(void)
{
    for (size_t f = 0; f < FORMAT_COUNT; f++) {
        for (uint32_t k = 0; formats[f].nbytes == 2 && k < formats[f].inf; k++) {
            midpoints[f][k] = (decode(&formats[f], k) + decode(&formats[f], k + 1)) / 2;
        }
    }
}

/* The code nearest to v >= 0, given how many midpoints are below v. On a midpoint: the even one. */
static inline uint32_t settle(size_t to, double v, uint32_t n_below)
{
    bool tie = n_below < formats[to].inf && midpoints[to][n_below] <= v;

    return tie && n_below % 2 == 1 ? n_below + 1 : n_below;
}

static inline uint32_t count_below(size_t to, double v)
{
    uint32_t low = 0;
    uint32_t high = formats[to].inf;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (midpoints[to][middle] < v) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* A NaN keeps its sign and the top of its payload, and is quiet. */
static inline uint32_t oracle_nan(size_t from, size_t to, uint32_t bits)
{
    const struct format *f = &formats[from];
    const struct format *t = &formats[to];
    uint64_t payload = bits & ((1u << f->mantissa_bits) - 1);
    uint32_t quiet = 1u << (t->mantissa_bits - 1);

    payload = (payload << 32) >> (32 + f->mantissa_bits - t->mantissa_bits);
    return ((bits & f->sign) != 0 ? t->sign : 0) | t->inf | quiet | (uint32_t)payload;
}

static inline uint32_t oracle(size_t from, size_t to, uint32_t bits, bool *overflow)
{
    const struct format *f = &formats[from];
    const struct format *t = &formats[to];
    uint32_t mag = bits & ~f->sign;
    uint32_t sign = (bits & f->sign) != 0 ? t->sign : 0;
    uint32_t code;

    *overflow = false;
    if (mag > f->inf) {
        return oracle_nan(from, to, bits);
    }
    if (mag == f->inf) {
        return sign | t->inf;
    }
    if (to == FORMAT_F32) {
        float exact = (float)decode(f, mag);

        memcpy(&code, &exact, sizeof(code));
    } else {
        double v = decode(f, mag);

        code = settle(to, v, count_below(to, v));
    }
    *overflow = code == t->inf;
    return sign | code;
}

#endif
