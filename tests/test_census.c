/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the kernel that counts unusual values: each level, against one element at a time. */
#include <limits.h>
#include <stdlib.h>

#include "check.h"
#include "guard.h"
#include "kernels/cast.h"
#include "kernels/census.h"
#include "rng.h"

/* How a kind's elements are built. */
struct format {
    enum uz_census_kind kind;
    const char *name;
    unsigned nbytes, exponent_bits, mantissa_bits;
};

static const struct format formats[] = {
    {UZ_CENSUS_F16, "f16", 2, 5, 10},    {UZ_CENSUS_BF16, "bf16", 2, 8, 7},
    {UZ_CENSUS_F32, "f32", 4, 8, 23},    {UZ_CENSUS_F64, "f64", 8, 11, 52},
    {UZ_CENSUS_BYTES, "bytes", 1, 0, 8},
};

enum { N_FORMATS = sizeof formats / sizeof formats[0], N_OFFSETS = 33, N_LENGTHS = 300 };

static struct {
    const char *name;
    uz_census_fn fn;
} levels[2] = {{"plain", uz_census_plain}};
static size_t n_levels = 1;

static void find_levels(void)
{
    if (uz_census_for(UINT_MAX) != uz_census_plain) {
        levels[n_levels].name = "best";
        levels[n_levels++].fn = uz_census_for(UINT_MAX);
    }
}

/* By what IEEE 754 says of exponent and mantissa. */
static void count_one(struct uz_unusual *want, const struct format *f, uint64_t bits)
{
    uint64_t top = ((uint64_t)1 << f->exponent_bits) - 1;
    uint64_t mantissa = bits & (((uint64_t)1 << f->mantissa_bits) - 1);
    uint64_t exponent = bits >> f->mantissa_bits & top;
    if (f->kind != UZ_CENSUS_BYTES) {
        want->n_nan += exponent == top && mantissa != 0;
        want->n_inf += exponent == top && mantissa == 0;
        want->n_denormal += exponent == 0 && mantissa != 0;
    }
    want->has_nonzero |= exponent != 0 || mantissa != 0;
}

/* An element: zeros, denormals, specials and what is next to them often, others too. */
static uint64_t make(const struct format *f)
{
    uint64_t top = ((uint64_t)1 << f->exponent_bits) - 1;
    uint64_t full = ((uint64_t)1 << f->mantissa_bits) - 1;
    const uint64_t exponents[] = {0, 1, top - (top > 0), top, rng_u64() & top};
    const uint64_t mantissas[] = {0, 1, full, rng_u64() & full};
    uint64_t sign = f->kind == UZ_CENSUS_BYTES ? 0 : rng_u64() & 1;
    return sign << (f->exponent_bits + f->mantissa_bits) |
           exponents[rng_below(5)] << f->mantissa_bits | mantissas[rng_below(4)];
}

static void put(unsigned char *to, const struct format *f, uint64_t bits)
{
    uint16_t two = (uint16_t)bits;
    uint32_t four = (uint32_t)bits;
    *to = (unsigned char)bits;
    if (f->nbytes == 2)
        memcpy(to, &two, sizeof two);
    else if (f->nbytes == 4)
        memcpy(to, &four, sizeof four);
    else if (f->nbytes == 8)
        memcpy(to, &bits, sizeof bits);
}

static bool counts_as(const struct format *f, const unsigned char *data, size_t n,
                      const struct uz_unusual *want)
{
    bool good = true;
    for (size_t l = 0; l < n_levels; l++) {
        struct uz_unusual got = {.n_nan = 5};
        levels[l].fn(&got, f->kind, data, n);
        good &=
            CHECK_F(got.n_nan == want->n_nan + 5 && got.n_inf == want->n_inf &&
                        got.n_denormal == want->n_denormal && got.has_nonzero == want->has_nonzero,
                    "%s, %s, %zu elements: %llu NaN, %llu Inf, %llu denormals, not %llu, %llu, "
                    "%llu",
                    levels[l].name, f->name, n, (unsigned long long)got.n_nan - 5,
                    (unsigned long long)got.n_inf, (unsigned long long)got.n_denormal,
                    (unsigned long long)want->n_nan, (unsigned long long)want->n_inf,
                    (unsigned long long)want->n_denormal);
    }
    return good;
}

/* n elements that `one` makes, which end `gap` bytes before a page that cannot be read. */
static bool check(const struct guard_buf *buf, const struct format *f, size_t n, size_t gap,
                  uint64_t (*one)(const struct format *))
{
    unsigned char *data = guard_tail(buf, n * f->nbytes, gap);
    struct uz_unusual want = {0};
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = one(f);
        put(data + i * f->nbytes, f, bits);
        count_one(&want, f, bits);
    }
    return counts_as(f, data, n, &want);
}

static uint64_t zero(const struct format *f)
{
    return f->kind == UZ_CENSUS_BYTES ? 0
                                      : (rng_u64() & 1) << (f->exponent_bits + f->mantissa_bits);
}

static uint64_t denormal(const struct format *f)
{
    (void)f;
    return 1;
}

static void test_lengths(void)
{
    struct guard_buf buf = {0};
    CU_ASSERT_TRUE_FATAL(guard_alloc(&buf, (size_t)8 * N_LENGTHS + N_OFFSETS));
    for (size_t f = 0; f < N_FORMATS; f++)
        for (size_t n = 0; n < N_LENGTHS; n++)
            if (!check(&buf, &formats[f], n, n % N_OFFSETS, make) ||
                !check(&buf, &formats[f], n, 0, zero))
                break;
    guard_free(&buf);
}

/* Long enough for lanes of 16 bits to overflow, if they were added up to the end. */
static void test_long(void)
{
    enum { N = 70000 * 16 + 3 };
    struct guard_buf buf = {0};
    CU_ASSERT_TRUE_FATAL(guard_alloc(&buf, (size_t)8 * N));
    for (size_t f = 0; f < N_FORMATS; f++) {
        check(&buf, &formats[f], N, 0, denormal);
        check(&buf, &formats[f], N, 0, zero);
    }
    guard_free(&buf);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"all lengths and alignments", test_lengths},
        {"many denormals", test_long},
        CU_TEST_INFO_NULL,
    };
    rng_init();
    find_levels();
    return check_run("census", tests);
}
