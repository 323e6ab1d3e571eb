/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Times each cast, at each level the CPU has, against memcpy of as many bytes as the cast reads and
 * writes, from sizes of the first cache to main memory. Prints a JSON array: for each cast, level
 * and size the quartiles of (time of memcpy / time of cast) over alternating pairs.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/cast.h"

enum { MAX_PAIRS = 64, MAX_LEVELS = 8 };

/* Bytes read and written together; the first fit a first-level cache of 32 KiB. */
static const size_t sizes[] = {24u << 10,   96u << 10, 256u << 10,
                               1536u << 10, 12u << 20, 192u << 20};

struct bench {
    unsigned n_pairs;
    double seconds; /* of one measurement, at least */
    unsigned char *from, *to;
};

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static size_t elem_nbytes(enum uz_cast_id id, bool of_source)
{
    switch (id) {
    case UZ_CAST_F32_TO_BF16:
    case UZ_CAST_F32_TO_F16:
        return of_source ? 4 : 2;
    case UZ_CAST_BF16_TO_F32:
    case UZ_CAST_F16_TO_F32:
        return of_source ? 2 : 4;
    default:
        return 2;
    }
}

/* Weights: fp32 of about 0.02 in both signs, cut to the source's size. */
static void fill(unsigned char *from, enum uz_cast_id id, size_t n_elems)
{
    const struct uz_cast_ops *scalar = uz_cast_ops_for(0);
    size_t size = elem_nbytes(id, true);
    uint64_t state = 1;
    for (size_t i = 0; i < n_elems; i++) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
        float x = (float)((double)(int64_t)state / 9.3e18 * 0.04);
        if (size == 4)
            memcpy(from + 4 * i, &x, 4);
        else if (id == UZ_CAST_BF16_TO_F32 || id == UZ_CAST_BF16_TO_F16)
            (void)scalar->fn[UZ_CAST_F32_TO_BF16](from + 2 * i, &x, 1);
        else
            (void)scalar->fn[UZ_CAST_F32_TO_F16](from + 2 * i, &x, 1);
    }
}

typedef void (*copy_fn)(const struct bench *bench, const void *what, size_t n);

static void run_memcpy(const struct bench *bench, const void *what, size_t n)
{
    (void)what;
    memcpy(bench->to, bench->from, n);
    __asm__ volatile("" : : "r"(bench->to) : "memory");
}

static void run_cast(const struct bench *bench, const void *what, size_t n)
{
    const uz_cast_fn *fn = what;
    (void)(*fn)(bench->to, bench->from, n);
    __asm__ volatile("" : : "r"(bench->to) : "memory");
}

/* Seconds of one call. */
static double time_of(const struct bench *bench, copy_fn fn, const void *what, size_t n,
                      unsigned *n_calls)
{
    for (;;) {
        double begin = now();
        for (unsigned i = 0; i < *n_calls; i++)
            fn(bench, what, n);
        double took = now() - begin;
        if (took >= bench->seconds)
            return took / *n_calls;
        *n_calls *= 2;
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(const struct bench *bench, const struct uz_cast_ops *ops, enum uz_cast_id id,
                    size_t touched, bool *is_first)
{
    double ratios[MAX_PAIRS], rates[MAX_PAIRS];
    size_t n_elems = touched / (elem_nbytes(id, true) + elem_nbytes(id, false));
    unsigned casts = 1, copies = 1;
    fill(bench->from, id, n_elems);
    for (unsigned i = 0; i < bench->n_pairs; i++) {
        double cast = time_of(bench, run_cast, &ops->fn[id], n_elems, &casts);
        double copy = time_of(bench, run_memcpy, NULL, touched / 2, &copies);
        ratios[i] = copy / cast;
        rates[i] = (double)touched / cast / 1e9;
    }
    qsort(ratios, bench->n_pairs, sizeof ratios[0], by_size);
    qsort(rates, bench->n_pairs, sizeof rates[0], by_size);
    unsigned n = bench->n_pairs;
    printf(
        "%s\n {\"cast\": \"%s\", \"level\": \"%s\", \"bytes\": %zu, \"ratio\": %.3f, \"q1\": %.3f,"
        " \"q3\": %.3f, \"gb_per_s\": %.2f}",
        *is_first ? "[" : ",", uz_cast_name(id), ops->level, touched, ratios[n / 2], ratios[n / 4],
        ratios[3 * n / 4], rates[n / 2]);
    *is_first = false;
}

int main(int argc, char **argv)
{
    const struct uz_cast_ops *levels[MAX_LEVELS];
    size_t n_levels = 0, largest = sizes[sizeof sizes / sizeof sizes[0] - 1];
    struct bench bench = {.n_pairs = 15, .seconds = 2e-3};
    bool is_first = true;
    if (argc > 1 && strcmp(argv[1], "--quick") == 0)
        bench = (struct bench){.n_pairs = 7, .seconds = 5e-4};
    for (unsigned mask = 0, i = 0; i < MAX_LEVELS; i++, mask = mask << 1 | 1u) {
        const struct uz_cast_ops *ops = uz_cast_ops_for(mask);
        if (n_levels == 0 || ops != levels[n_levels - 1])
            levels[n_levels++] = ops;
    }
    bench.from = aligned_alloc(4096, largest);
    bench.to = aligned_alloc(4096, largest);
    if (bench.from == NULL || bench.to == NULL) {
        (void)fputs("kernels: no memory\n", stderr);
        return 1;
    }
    memset(bench.to, 0, largest);
    for (size_t l = 0; l < n_levels; l++)
        for (unsigned id = 0; id < UZ_CAST_COUNT; id++)
            for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
                if (levels[l] != uz_cast_ops_for(0) || s == 1) /* scalar code: one size tells */
                    measure(&bench, levels[l], (enum uz_cast_id)id, sizes[s], &is_first);
    printf("\n]\n");
    free(bench.from);
    free(bench.to);
    return 0;
}
