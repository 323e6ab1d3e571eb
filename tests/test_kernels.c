/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of src/kernels: each cast, at each level this CPU has, against an independent oracle. */

#include "cast_oracle.h"
#include "check.h"
#include "guard.h"
#include "kernels/cast.h"

#include <limits.h>
#include <stdlib.h>
#include <time.h>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

/* ---- The casts under test ---- */

/* Values worked out by hand or taken from F16C hardware; every row of cast.def has a list. */
struct known {
    uint32_t in, out;
    bool overflow;
};

static const struct known known_f32_to_bf16[] = {
    {0x00000000, 0x0000, false}, {0x80000000, 0x8000, false}, /* zeros */
    {0x3f800000, 0x3f80, false}, {0xc0490fdb, 0xc049, false}, /* 1, -pi */
    {0x3f808000, 0x3f80, false}, {0x3f818000, 0x3f82, false}, /* ties: down, up */
    {0x3f808001, 0x3f81, false}, {0x3f817fff, 0x3f81, false}, /* next to ties */
    {0x00000001, 0x0000, false}, {0x00008000, 0x0000, false}, /* denormals, a tie at 0 */
    {0x00008001, 0x0001, false}, {0x807fffff, 0x8080, false}, /* kept; up to normal */
    {0x00400000, 0x0040, false}, {0x7f7f7fff, 0x7f7f, false}, /* kept; largest that stays */
    {0x7f7f8000, 0x7f80, true},  {0xff7fffff, 0xff80, true},  /* overflow */
    {0x7f800000, 0x7f80, false}, {0xff800000, 0xff80, false}, /* infinities */
    {0x7f800001, 0x7fc0, false}, {0xff812345, 0xffc1, false}, /* signalling NaN */
    {0x7fffffff, 0x7fff, false}, {0xffffffff, 0xffff, false}, /* rounding would wrap */
};

static const struct known known_f32_to_f16[] = {
    {0x00000000, 0x0000, false}, {0x80000000, 0x8000, false}, /* zeros */
    {0x3f800000, 0x3c00, false}, {0xc0490fdb, 0xc248, false}, /* 1, -pi */
    {0x3f801000, 0x3c00, false}, {0x3f803000, 0x3c02, false}, /* ties: down, up */
    {0x3f801001, 0x3c01, false}, {0x3f802fff, 0x3c01, false}, /* next to ties */
    {0x38800000, 0x0400, false}, {0x387fffff, 0x0400, false}, /* least normal, just below */
    {0x387fc000, 0x03ff, false}, {0x33800000, 0x0001, false}, /* denormals */
    {0x33000000, 0x0000, false}, {0x33000001, 0x0001, false}, /* 2^-25 is a tie at 0 */
    {0x00000001, 0x0000, false}, {0x807fffff, 0x8000, false}, /* fp32 denormals */
    {0x477fe000, 0x7bff, false}, {0x477fefff, 0x7bff, false}, /* 65504; largest that stays */
    {0x477ff000, 0x7c00, true},  {0xff7fffff, 0xfc00, true},  /* overflow */
    {0x7f800000, 0x7c00, false}, {0xff800000, 0xfc00, false}, /* infinities */
    {0x7f800001, 0x7e00, false}, {0xffc12345, 0xfe09, false}, /* NaN */
    {0x7fffffff, 0x7fff, false}, {0xffffffff, 0xffff, false}, /* NaN */
};

static const struct known known_bf16_to_f32[] = {
    {0x0000, 0x00000000, false}, {0x8000, 0x80000000, false}, {0x3f80, 0x3f800000, false},
    {0x0001, 0x00010000, false}, {0x7f80, 0x7f800000, false}, {0xff80, 0xff800000, false},
    {0x7f81, 0x7fc10000, false}, {0xffff, 0xffff0000, false},
};

static const struct known known_f16_to_f32[] = {
    {0x0000, 0x00000000, false}, {0x8000, 0x80000000, false}, {0x3c00, 0x3f800000, false},
    {0x0001, 0x33800000, false}, {0x83ff, 0xb87fc000, false}, {0x7bff, 0x477fe000, false},
    {0x7c00, 0x7f800000, false}, {0xfc00, 0xff800000, false}, {0x7c01, 0x7fc02000, false},
    {0xffff, 0xffffe000, false},
};

static const struct known known_bf16_to_f16[] = {
    {0x0000, 0x0000, false}, {0x8000, 0x8000, false}, {0x3f80, 0x3c00, false},
    {0x3300, 0x0000, false}, {0x3301, 0x0001, false}, {0x0001, 0x0000, false},
    {0x477f, 0x7bf8, false}, {0x4780, 0x7c00, true},  {0xff7f, 0xfc00, true},
    {0x7f80, 0x7c00, false}, {0x7f81, 0x7e08, false}, {0xffff, 0xfff8, false},
};

static const struct known known_f16_to_bf16[] = {
    {0x0000, 0x0000, false}, {0x8000, 0x8000, false}, {0x3c00, 0x3f80, false},
    {0x3c04, 0x3f80, false}, {0x3c0c, 0x3f82, false}, {0x0001, 0x3380, false},
    {0x7bff, 0x4780, false}, {0x7c00, 0x7f80, false}, {0xfc00, 0xff80, false},
    {0x7c01, 0x7fc0, false}, {0xffff, 0xffff, false},
};

struct row {
    enum uz_cast_id id;
    size_t from, to; /* indices into formats */
    const char *name;
    const struct known *known;
    size_t n_known;
};

static const struct row rows[] = {
#define UZ_CAST_ROW(FROM, TO, from, to)                                                            \
    {                                                                                              \
        UZ_CAST_##FROM##_TO_##TO,                                                                  \
        FORMAT_##FROM,                                                                             \
        FORMAT_##TO,                                                                               \
        #from "_to_" #to,                                                                          \
        known_##from##_to_##to,                                                                    \
        sizeof(known_##from##_to_##to) / sizeof(known_##from##_to_##to[0]),                        \
    },
#include "kernels/cast.def"
#undef UZ_CAST_ROW
};

static const struct uz_cast_ops *levels[8];
static size_t n_levels;

/* Masks that allow ever more, one level after another. */
static void find_levels(void)
{
    unsigned mask = 0;

    printf("levels:");
    do {
        const struct uz_cast_ops *ops = uz_cast_ops_for(mask);

        if (n_levels == 0 || ops != levels[n_levels - 1]) {
            levels[n_levels++] = ops;
            printf(" %s", ops->level);
        }
        mask = mask << 1 | 1u;
    } while (mask != UINT_MAX && n_levels < sizeof(levels) / sizeof(levels[0]));
    printf("\n");
}

/* ---- Random numbers: xorshift64*, by Vigna ---- */

static uint64_t rng_state;

static uint32_t rng_u32(void)
{
    rng_state ^= rng_state >> 12;
    rng_state ^= rng_state << 25;
    rng_state ^= rng_state >> 27;
    return (uint32_t)((rng_state * 0x2545f4914f6cdd1dull) >> 32);
}

static void rng_seed(void)
{
    const char *given = getenv("UZ_TEST_SEED");

    rng_state = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    printf("seed: UZ_TEST_SEED=%llu\n", (unsigned long long)rng_state);
    rng_state = rng_state * 2 + 1; /* never 0, where the generator would stay */
}

/* ---- Batches of values ---- */

enum { BATCH = 4096 };

static void put(void *array, size_t i, size_t nbytes, uint32_t value)
{
    uint16_t half = (uint16_t)value;
    const void *from = nbytes == 2 ? (const void *)&half : (const void *)&value;

    memcpy((unsigned char *)array + i * nbytes, from, nbytes);
}

static uint32_t get(const void *array, size_t i, size_t nbytes)
{
    uint32_t value = 0;
    uint16_t half;

    if (nbytes == 4) {
        memcpy(&value, (const unsigned char *)array + i * nbytes, nbytes);
        return value;
    }
    memcpy(&half, (const unsigned char *)array + i * nbytes, nbytes);
    return half;
}

/* Casts the n <= BATCH values at `in` at every level: all must give `want` and `n_overflows`. */
static bool check_batch(const struct row *r, const void *in, const void *want, size_t n,
                        uint64_t n_overflows)
{
    static unsigned char got[BATCH * 4];
    size_t size = formats[r->to].nbytes;
    bool good = true;

    for (size_t l = 0; l < n_levels; l++) {
        uint64_t n_got = levels[l]->fn[r->id](got, in, n);

        good &= CHECK_F(n_got == n_overflows, "%s %s: got %" PRIu64 " overflows, want %" PRIu64,
                        r->name, levels[l]->level, n_got, n_overflows);
        for (size_t i = 0; memcmp(got, want, n * size) != 0 && i < n; i++) {
            uint32_t a = get(got, i, size);
            uint32_t b = get(want, i, size);

            if (a != b) {
                good = CHECK_F(false, "%s %s: %x: got %x, want %x", r->name, levels[l]->level,
                               get(in, i, formats[r->from].nbytes), a, b);
                break;
            }
        }
    }
    return good;
}

/* A batch under construction, of inputs for row r and what the oracle says. After a few bad ones
 * it goes unchecked, for CUnit gets very slow with many failures. */
struct batch {
    const struct row *r;
    unsigned n_bad;
    size_t n;
    uint64_t n_overflows;
    unsigned char in[BATCH * 4], want[BATCH * 4];
};

static void batch_flush(struct batch *b)
{
    if (b->n_bad < 50 && !check_batch(b->r, b->in, b->want, b->n, b->n_overflows)) {
        b->n_bad++;
    }
    b->n = 0;
    b->n_overflows = 0;
}

static void batch_add(struct batch *b, uint32_t bits)
{
    bool overflow;
    uint32_t want = oracle(b->r->from, b->r->to, bits, &overflow);

    put(b->in, b->n, formats[b->r->from].nbytes, bits);
    put(b->want, b->n, formats[b->r->to].nbytes, want);
    b->n_overflows += overflow;
    if (++b->n == BATCH) {
        batch_flush(b);
    }
}

/* ---- Tests ---- */

static void test_known_values(void)
{
    for (size_t i = 0; i < UZ_CAST_COUNT; i++) {
        const struct row *r = &rows[i];

        for (size_t k = 0; k < r->n_known; k++) {
            unsigned char in[4], want[4];
            bool overflow;
            uint32_t out = oracle(r->from, r->to, r->known[k].in, &overflow);

            CHECK_F(out == r->known[k].out && overflow == r->known[k].overflow,
                    "oracle %s: %x: got %x, want %x", r->name, r->known[k].in, out,
                    r->known[k].out);
            put(in, 0, formats[r->from].nbytes, r->known[k].in);
            put(want, 0, formats[r->to].nbytes, r->known[k].out);
            check_batch(r, in, want, 1, r->known[k].overflow);
        }
    }
}

/* All 2^16 values of the 16-bit types. */
static void test_all_halves(void)
{
    static struct batch b;

    for (size_t i = 0; i < UZ_CAST_COUNT; i++) {
        b.r = &rows[i];
        for (uint32_t bits = 0; formats[b.r->from].nbytes == 2 && bits < 0x10000; bits++) {
            batch_add(&b, bits);
        }
        batch_flush(&b);
    }
}

/*
 * fp32 for each sign and exponent: mantissas with a short head, and below it a tail of every
 * length that is nothing, little, or about a half. That has the ties of both targets at each
 * exponent, of denormals too, and their neighbours.
 */
static void add_edge_floats(struct batch *b)
{
    for (uint32_t top = 0; top < 512; top++) {
        for (unsigned n_tail = 1; n_tail <= 23; n_tail++) {
            const uint32_t full = 1u << n_tail;
            const uint32_t tails[] = {0, 1, full / 2 - 1, full / 2, full / 2 + 1, full - 1};
            const uint32_t heads[] = {0, 1, 2, 3, (1u << (23 - n_tail)) - 1};

            for (size_t h = 0; h < sizeof(heads) / sizeof(heads[0]); h++) {
                for (size_t t = 0; t < sizeof(tails) / sizeof(tails[0]); t++) {
                    uint32_t mantissa = (heads[h] << n_tail | tails[t]) & 0x7fffff;

                    batch_add(b, top << 23 | mantissa);
                }
            }
        }
    }
}

static void test_sampled_floats(void)
{
    static struct batch b;

    for (size_t i = 0; i < UZ_CAST_COUNT; i++) {
        b.r = &rows[i];
        if (b.r->from != FORMAT_F32) {
            continue;
        }
        add_edge_floats(&b);
        for (uint32_t n = 0; n < 1u << 22; n++) {
            batch_add(&b, rng_u32());
        }
        batch_flush(&b);
    }
}

enum { MAX_LEN = 300, MAX_OFFSET = 64 };

/* Inputs of ordinary size (`wild` = 0), which never leave the fast path, or of any kind. */
static uint32_t random_input(const struct format *f, bool wild)
{
    uint32_t bits = rng_u32();
    uint32_t mantissa = bits & ((1u << f->mantissa_bits) - 1);
    uint32_t sign = (bits >> 31) != 0 ? f->sign : 0;
    uint32_t exponent = (uint32_t)f->bias - 8 + rng_u32() % 16;

    if (!wild) {
        return sign | exponent << f->mantissa_bits | mantissa;
    }
    if (rng_u32() % 16 == 0) {
        return sign | f->inf | (bits >> 30 == 1 ? mantissa : 0);
    }
    return f->nbytes == 2 ? bits & 0xffff : bits;
}

/* One page for each side; `want_page` is what the destination's page must look like afterwards. */
struct place {
    struct guard_buf src, dst;
    unsigned char *want_page;
};

enum { CANARY = 0xa5 };

static bool cast_at(const struct place *p, uz_cast_fn fn, const struct batch *b, size_t src_at,
                    size_t dst_at, size_t n, uint64_t n_overflows)
{
    size_t src_nbytes = n * formats[b->r->from].nbytes;
    size_t dst_nbytes = n * formats[b->r->to].nbytes;

    memcpy(p->src.data + src_at, b->in, src_nbytes);
    memset(p->dst.data, CANARY, p->dst.nbytes);
    memset(p->want_page, CANARY, p->dst.nbytes);
    memcpy(p->want_page + dst_at, b->want, dst_nbytes);
    return fn(p->dst.data + dst_at, p->src.data + src_at, n) == n_overflows &&
           memcmp(p->dst.data, p->want_page, p->dst.nbytes) == 0;
}

/*
 * All offsets of the source, and with them all of the destination, for its offset is a
 * permutation of the source's, another one for each length. Each from the first byte after a
 * guard page, and as far before the next one.
 */
static bool check_offsets(const struct place *p, const struct uz_cast_ops *ops,
                          const struct batch *b, size_t n, uint64_t n_overflows)
{
    size_t src_nbytes = n * formats[b->r->from].nbytes;
    size_t dst_nbytes = n * formats[b->r->to].nbytes;
    uz_cast_fn fn = ops->fn[b->r->id];

    for (size_t s = 0; s < MAX_OFFSET; s++) {
        size_t d = (s * 37 + n) % MAX_OFFSET;
        bool head = cast_at(p, fn, b, s, d, n, n_overflows);
        bool tail = cast_at(p, fn, b, p->src.nbytes - src_nbytes - s,
                            p->dst.nbytes - dst_nbytes - d, n, n_overflows);

        if (!CHECK_F(head && tail, "%s %s: %zu elements, offsets %zu and %zu: %s", b->r->name,
                     ops->level, n, s, d, head ? "at the end" : "at the start")) {
            return false;
        }
    }
    return true;
}

static void check_lengths(const struct place *p, const struct uz_cast_ops *ops, struct batch *b,
                          bool wild)
{
    uint64_t n_overflows[MAX_LEN + 1];

    b->n = 0;
    b->n_overflows = 0;
    for (size_t n = 0; n < MAX_LEN; n++) {
        n_overflows[n] = b->n_overflows;
        batch_add(b, random_input(&formats[b->r->from], wild));
    }
    n_overflows[MAX_LEN] = b->n_overflows;
    for (size_t n = 0; n <= MAX_LEN; n++) {
        if (!check_offsets(p, ops, b, n, n_overflows[n])) {
            return;
        }
    }
}

static void test_lengths_and_offsets(void)
{
    static struct batch b;
    struct place p = {0};

    if (!CHECK(guard_alloc(&p.src, 2048)) || !CHECK(guard_alloc(&p.dst, 2048))) {
        return;
    }
    p.want_page = malloc(p.dst.nbytes);
    if (CHECK(p.want_page != NULL)) {
        for (size_t i = 0; i < n_levels * UZ_CAST_COUNT; i++) {
            b.r = &rows[i % UZ_CAST_COUNT];
            check_lengths(&p, levels[i / UZ_CAST_COUNT], &b, false);
            check_lengths(&p, levels[i / UZ_CAST_COUNT], &b, true);
        }
    }
    free(p.want_page);
    guard_free(&p.src);
    guard_free(&p.dst);
}

/* No elements: nothing is touched, not even a pointer. */
static void test_empty(void)
{
    for (size_t i = 0; i < n_levels * UZ_CAST_COUNT; i++) {
        CHECK_EQ_U64(levels[i / UZ_CAST_COUNT]->fn[i % UZ_CAST_COUNT](NULL, NULL, 0), 0);
    }
}

#if defined(__SSE__)

/* As at start; FTZ and DAZ; round down, up, to zero; all exceptions unmasked. */
static const unsigned settings[] = {0x1f80, 0x9fc0, 0x3f80, 0x5f80, 0x7f80, 0x0000};

static unsigned get_environment(void)
{
    return _mm_getcsr();
}

static void set_environment(unsigned setting)
{
    _mm_setcsr(setting);
}

#elif defined(__aarch64__)

/* As at start; flush to zero; default NaN; other half precision; round up, down, to zero. */
static const unsigned settings[] = {0, 1u << 24, 1u << 25, 1u << 26, 1u << 22, 2u << 22, 3u << 22};

static unsigned get_environment(void)
{
    uint64_t fpcr;

    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return (unsigned)fpcr;
}

static void set_environment(unsigned setting)
{
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)setting) : "memory");
}

#endif

/* Neither results nor the environment depend on each other. */
static void test_floating_point_environment(void)
{
#if defined(__SSE__) || defined(__aarch64__)
    static struct batch b;
    static unsigned char got[BATCH * 4];

    for (size_t i = 0; i < UZ_CAST_COUNT; i++) {
        b.r = &rows[i];
        b.n = 0;
        while (b.n < BATCH - 1) {
            batch_add(&b, random_input(&formats[b.r->from], b.n % 256 < 128));
        }
        for (size_t k = 0; k < n_levels * (sizeof(settings) / sizeof(settings[0])); k++) {
            const struct uz_cast_ops *ops = levels[k % n_levels];
            unsigned saved = get_environment();
            unsigned before, after;

            set_environment(settings[k / n_levels]);
            before =
                get_environment(); /* not what was set under valgrind, which has no FTZ or DAZ */
            (void)ops->fn[b.r->id](got, b.in, b.n);
            after = get_environment();
            set_environment(saved);
            CHECK_EQ_U64(after, before);
            CHECK_EQ_MEM(got, b.want, b.n * formats[b.r->to].nbytes);
        }
    }
#endif
    CHECK(n_levels > 0);
}

static void test_dispatch(void)
{
    CHECK(uz_cast_ops_for(0) == &uz_cast_ops_scalar);
    CHECK(uz_cast_ops_for(UINT_MAX) == uz_cast_ops_for(uz_cpu_features()));
    CHECK(uz_cast_ops_for(UINT_MAX) == levels[n_levels - 1]);
    CHECK(uz_cast_ops_for(~uz_cpu_features()) == &uz_cast_ops_scalar);
    for (size_t i = 0; i < n_levels * UZ_CAST_COUNT; i++) {
        CHECK(levels[i / UZ_CAST_COUNT]->fn[i % UZ_CAST_COUNT] != NULL);
    }
    for (size_t i = 0; i < UZ_CAST_COUNT; i++) {
        CHECK_EQ_STR(uz_cast_name(rows[i].id), rows[i].name);
    }
    CHECK_EQ_STR(uz_cast_name(UZ_CAST_COUNT), "unknown");
}

/* ---- --exhaustive: all 2^32 floats ---- */

/* Adds a finite fp32 as batch_add() does, but without a search: numbers come in the order of their
 * magnitudes, so that *n_below only grows. */
static void batch_add_next(struct batch *b, uint32_t bits, uint32_t *n_below)
{
    const struct format *t = &formats[b->r->to];
    const double *midpoint = midpoints[b->r->to];
    uint32_t mag = bits & 0x7fffffff;
    uint32_t code;
    uint16_t want;
    float v;

    memcpy(&v, &mag, sizeof(v));
    while (*n_below < t->inf && midpoint[*n_below] < (double)v) {
        (*n_below)++;
    }
    code = settle(b->r->to, (double)v, *n_below);
    want = (uint16_t)(code | (bits >> 16 & 0x8000));
    memcpy(b->in + b->n * sizeof(bits), &bits, sizeof(bits));
    memcpy(b->want + b->n * sizeof(want), &want, sizeof(want));
    b->n++;
    b->n_overflows += code == t->inf;
}

static void check_all_floats(struct batch *b)
{
    for (uint32_t sign = 0; sign < 2; sign++) {
        uint32_t n_below = 0;

        for (uint32_t mag = 0; mag < 0x80000000; mag++) {
            uint32_t bits = sign << 31 | mag;

            if (mag < 0x7f800000) {
                batch_add_next(b, bits, &n_below);
                if (b->n == BATCH) {
                    batch_flush(b);
                }
            } else {
                batch_add(b, bits);
            }
        }
    }
    batch_flush(b);
}

static void test_all_floats(void)
{
    static struct batch b;

    for (size_t i = 0; i < UZ_CAST_COUNT; i++) {
        b.r = &rows[i];
        if (b.r->from == FORMAT_F32) {
            check_all_floats(&b);
        }
    }
}

int main(int argc, char **argv)
{
    CU_TestInfo tests[] = {
        {"dispatch", test_dispatch},
        {"known values", test_known_values},
        {"all 2^16 values of 16-bit types", test_all_halves},
        {"sampled fp32", test_sampled_floats},
        {"lengths and offsets", test_lengths_and_offsets},
        {"no elements", test_empty},
        {"floating-point environment", test_floating_point_environment},
        CU_TEST_INFO_NULL,
    };
    CU_TestInfo slow_tests[] = {
        {"all 2^32 floats", test_all_floats},
        CU_TEST_INFO_NULL,
    };
    bool exhaustive = argc > 1 && strcmp(argv[1], "--exhaustive") == 0;

    if (argc > (exhaustive ? 2 : 1)) {
        (void)fprintf(stderr, "usage: test_kernels [--exhaustive]\n");
        return 2;
    }
    rng_seed();
    find_levels();
    make_midpoints();
    return check_run("kernels", exhaustive ? slow_tests : tests);
}
