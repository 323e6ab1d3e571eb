/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers that can be had again: the seed is printed, and UZ_TEST_SEED sets it. */
#ifndef UZ_TESTS_RNG_H
#define UZ_TESTS_RNG_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t rng_state;

/* Prints the seed; call it once, first in main(). */
static inline void rng_init(void)
{
    const char *seed = getenv("UZ_TEST_SEED");
    rng_state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) ^ ((uint64_t)clock() << 32);
    printf("UZ_TEST_SEED=0x%" PRIx64 "\n", rng_state);
}

/* 64 random bits (splitmix64). */
static inline uint64_t rng_u64(void)
{
    uint64_t z = rng_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* A number below n; n > 0. */
static inline uint64_t rng_below(uint64_t n)
{
    return rng_u64() % n;
}

/* A number from lo to hi, both included. */
static inline uint64_t rng_range(uint64_t lo, uint64_t hi)
{
    return lo + rng_below(hi - lo + 1);
}

/* True once in n times. */
static inline bool rng_one_in(uint64_t n)
{
    return rng_below(n) == 0;
}

#endif
