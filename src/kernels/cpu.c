/* SPDX-License-Identifier: Apache-2.0 */
/* Detects what the running CPU, and its operating system, can do. */

#include "cast.h"

#if defined(__x86_64__) || defined(__i386__)

#include <cpuid.h>

/* Leaf 1: clang 14 has no __builtin_cpu_supports("f16c"). */
#define CPUID_1_ECX_F16C (1u << 29)

unsigned uz_cpu_features(void)
{
    unsigned eax, ebx, ecx, edx;
    unsigned features = 0;

    /* The builtin also asks whether the OS saves the AVX registers, which F16C needs too. */
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 &&
        (ecx & CPUID_1_ECX_F16C) != 0) {
        features |= UZ_CPU_AVX2_F16C;
        /* And here whether it saves the masks and the upper parts of registers. */
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512vl")) {
            features |= UZ_CPU_AVX512;
        }
    }
    return features;
}

#elif defined(__aarch64__) && !defined(__AARCH64EB__)

unsigned uz_cpu_features(void)
{
    return UZ_CPU_NEON; /* part of the architecture */
}

#else

unsigned uz_cpu_features(void)
{
    return 0;
}

#endif
