/* SPDX-License-Identifier: Apache-2.0 */
/* Element by element, where the bytes are not equal anyway. */
#include "check/compare.h"

#include <math.h>
#include <string.h>

#include "kernels/cast.h"

/* ---- Bits and values ---- */

static uint64_t load_bits(const void *elems, size_t i, size_t size)
{
    uint64_t bits = 0;
    uint8_t b1;
    uint16_t b2;
    uint32_t b4;
    const char *at = (const char *)elems + i * size;
    switch (size) {
    case 1:
        memcpy(&b1, at, 1);
        return b1;
    case 2:
        memcpy(&b2, at, 2);
        return b2;
    case 4:
        memcpy(&b4, at, 4);
        return b4;
    default:
        memcpy(&bits, at, 8);
        return bits;
    }
}

static double real_of(enum uz_dtype dtype, uint64_t bits)
{
    uint16_t half = (uint16_t)bits;
    uint32_t single = (uint32_t)bits;
    float f;
    double d;
    switch (dtype) {
    case UZ_DTYPE_F64:
        memcpy(&d, &bits, sizeof d);
        return d;
    case UZ_DTYPE_F32:
        memcpy(&f, &single, sizeof f);
        return (double)f;
    case UZ_DTYPE_BF16:
        (void)uz_cast_ops_scalar.fn[UZ_CAST_BF16_TO_F32](&f, &half, 1);
        return (double)f;
    default:
        (void)uz_cast_ops_scalar.fn[UZ_CAST_F16_TO_F32](&f, &half, 1);
        return (double)f;
    }
}

/*
 * The float from which rounding to 16 bits gives what rounding the double itself would: rounded to
 * odd (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
 */
static float float_to_odd(double value)
{
    float f = (float)value;
    uint32_t bits;
    double back = (double)f;
    if (isnan(value) || !(back < value || back > value))
        return f;
    memcpy(&bits, &f, sizeof bits);
    if (fabs(back) > fabs(value))
        bits--; /* towards zero; from infinity to the largest number */
    bits |= 1;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* The bits of a value rounded to a dtype, to nearest, ties to even. */
static uint64_t round_to(enum uz_dtype dtype, double value)
{
    uint64_t bits;
    uint32_t single;
    uint16_t half;
    float f;
    switch (dtype) {
    case UZ_DTYPE_F64:
        memcpy(&bits, &value, sizeof bits);
        return bits;
    case UZ_DTYPE_F32:
        f = (float)value;
        memcpy(&single, &f, sizeof single);
        return single;
    case UZ_DTYPE_BF16:
        f = float_to_odd(value);
        (void)uz_cast_ops_scalar.fn[UZ_CAST_F32_TO_BF16](&half, &f, 1);
        return half;
    default:
        f = float_to_odd(value);
        (void)uz_cast_ops_scalar.fn[UZ_CAST_F32_TO_F16](&half, &f, 1);
        return half;
    }
}

/* Numbers that rise with the value, one for each value of the dtype; -0 and +0 are both 0. */
static int64_t place_of(enum uz_dtype dtype, uint64_t bits)
{
    unsigned n_bits = 8 * (unsigned)uz_dtype_size(dtype);
    uint64_t sign = UINT64_C(1) << (n_bits - 1);
    int64_t magnitude = (int64_t)(bits & (sign - 1));
    return bits & sign ? -magnitude : magnitude;
}

static uint64_t ulp_distance(enum uz_dtype dtype, uint64_t a, uint64_t b)
{
    int64_t x = place_of(dtype, a), y = place_of(dtype, b);
    return x > y ? (uint64_t)x - (uint64_t)y : (uint64_t)y - (uint64_t)x;
}

/* ---- What can be compared ---- */

static bool is_real(enum uz_dtype dtype)
{
    return uz_dtype_is_castable(dtype) || dtype == UZ_DTYPE_F64;
}

static unsigned precision(enum uz_dtype dtype)
{
    switch (dtype) {
    case UZ_DTYPE_BF16:
        return 8;
    case UZ_DTYPE_F16:
        return 11;
    case UZ_DTYPE_F32:
        return 24;
    default:
        return 53;
    }
}

void uz_comparer_init(struct uz_comparer *comparer, enum uz_dtype a, enum uz_dtype b,
                      const struct uz_diff_options *options)
{
    *comparer = (struct uz_comparer){
        .how = a == b ? UZ_COMPARE_BITS : UZ_COMPARE_NOT,
        .a = a,
        .b = b,
        .coarse = precision(a) < precision(b) ? a : b,
        .any_tolerance = options->has_tolerance || options->has_ulp,
        .has_ulp = options->has_ulp,
        .atol = options->has_tolerance ? options->atol : 0,
        .rtol = options->has_tolerance ? options->rtol : 0,
        .ulp = options->ulp,
    };
    if (is_real(a) && is_real(b))
        comparer->how = UZ_COMPARE_REAL;
    else if (!uz_dtype_is_float(a) && !uz_dtype_is_float(b))
        comparer->how = UZ_COMPARE_INTEGER;
}

/* ---- Differences ---- */

void uz_difference_init(struct uz_difference *difference)
{
    *difference = (struct uz_difference){.first = UINT64_MAX};
}

static void note_first(struct uz_difference *d, uint64_t index, double a, double b)
{
    d->n_differ++;
    if (index < d->first) {
        d->first = index;
        d->first_a = a;
        d->first_b = b;
    }
}

static void note_distance(struct uz_difference *d, double distance, double a, double b)
{
    double larger = fmax(fabs(a), fabs(b));
    double relative = isinf(larger) ? INFINITY : larger > 0 ? distance / larger : 0;
    d->max_abs = fmax(d->max_abs, distance);
    d->max_rel = fmax(d->max_rel, relative);
}

static void compare_real(const struct uz_comparer *c, uint64_t a_bits, uint64_t b_bits,
                         uint64_t index, struct uz_difference *d)
{
    double a = real_of(c->a, a_bits), b = real_of(c->b, b_bits);
    bool both_nan = isnan(a) && isnan(b), any_nan = isnan(a) || isnan(b);
    uint64_t a_coarse = c->a == c->coarse ? a_bits : round_to(c->coarse, a);
    uint64_t b_coarse = c->b == c->coarse ? b_bits : round_to(c->coarse, b);
    bool rounds = both_nan || (!any_nan && a_coarse == b_coarse);
    bool equal =
        c->a == c->b
            ? a_bits == b_bits
            : both_nan || (!any_nan && round_to(UZ_DTYPE_F64, a) == round_to(UZ_DTYPE_F64, b));
    d->n_unrounded += !rounds && !equal;
    if (equal)
        return;
    note_first(d, index, a, b);
    if (any_nan) {
        d->n_nan++;
        d->n_beyond += !(both_nan && c->any_tolerance);
        return;
    }
    double distance = fabs(a - b);
    uint64_t ulp = ulp_distance(c->coarse, a_coarse, b_coarse);
    bool infinite = isinf(a) || isinf(b);
    note_distance(d, distance, a, b);
    d->max_ulp = ulp > d->max_ulp ? ulp : d->max_ulp;
    bool passes = (c->has_ulp && (ulp == 0 || (!infinite && ulp <= c->ulp))) ||
                  (c->any_tolerance && !infinite && distance <= c->atol + c->rtol * fabs(b));
    d->n_beyond += !passes;
}

static bool is_negative(enum uz_dtype dtype, uint64_t bits)
{
    bool is_signed = dtype == UZ_DTYPE_I8 || dtype == UZ_DTYPE_I16 || dtype == UZ_DTYPE_I32 ||
                     dtype == UZ_DTYPE_I64;
    return is_signed && bits >> (8 * uz_dtype_size(dtype) - 1);
}

/* The absolute value; that of the lowest int64 fits, too. */
static uint64_t magnitude(enum uz_dtype dtype, uint64_t bits)
{
    size_t n_bits = 8 * uz_dtype_size(dtype);
    if (!is_negative(dtype, bits))
        return bits;
    uint64_t all = n_bits == 64 ? UINT64_MAX : (UINT64_C(1) << n_bits) - 1;
    return (all - bits) + 1;
}

static void compare_integer(const struct uz_comparer *c, uint64_t a_bits, uint64_t b_bits,
                            uint64_t index, struct uz_difference *d)
{
    bool a_negative = is_negative(c->a, a_bits), b_negative = is_negative(c->b, b_bits);
    uint64_t a = magnitude(c->a, a_bits), b = magnitude(c->b, b_bits);
    if (a == b && a_negative == b_negative)
        return;
    double distance =
        a_negative != b_negative ? (double)a + (double)b : (double)(a > b ? a - b : b - a);
    d->n_unrounded++;
    note_first(d, index, a_negative ? -(double)a : (double)a, b_negative ? -(double)b : (double)b);
    note_distance(d, distance, (double)a, (double)b);
    d->n_beyond += !(c->any_tolerance && distance <= c->atol + c->rtol * (double)b);
}

void uz_compare(const struct uz_comparer *c, const void *a, const void *b, size_t n, uint64_t at,
                struct uz_difference *d)
{
    size_t a_size = uz_dtype_size(c->a), b_size = uz_dtype_size(c->b);
    if (c->a == c->b && memcmp(a, b, n * a_size) == 0)
        return;
    for (size_t i = 0; i < n; i++) {
        uint64_t x = load_bits(a, i, a_size), y = load_bits(b, i, b_size);
        if (c->a == c->b && x == y)
            continue;
        if (c->how == UZ_COMPARE_REAL) {
            compare_real(c, x, y, at + i, d);
        } else if (c->how == UZ_COMPARE_INTEGER) {
            compare_integer(c, x, y, at + i, d);
        } else {
            note_first(d, at + i, (double)x, (double)y);
            d->n_beyond++;
            d->n_unrounded++;
        }
    }
}

void uz_difference_merge(struct uz_difference *into, const struct uz_difference *from)
{
    into->n_differ += from->n_differ;
    into->n_beyond += from->n_beyond;
    into->n_nan += from->n_nan;
    into->n_unrounded += from->n_unrounded;
    into->max_ulp = from->max_ulp > into->max_ulp ? from->max_ulp : into->max_ulp;
    into->max_abs = fmax(into->max_abs, from->max_abs);
    into->max_rel = fmax(into->max_rel, from->max_rel);
    if (from->first < into->first) {
        into->first = from->first;
        into->first_a = from->first_a;
        into->first_b = from->first_b;
    }
}
