/* SPDX-License-Identifier: Apache-2.0 */
/* The floating-point environment that casts on x86 run in. */

#ifndef UZ_KERNELS_CAST_X86_ENV_H
#define UZ_KERNELS_CAST_X86_ENV_H

#include <immintrin.h>

/*
 * MXCSR as a process starts with it: all exceptions masked, to nearest, no FTZ, no DAZ. A program
 * may have unmasked exceptions, and F16C would then trap on rounding; so its MXCSR is set aside
 * for the call, which also keeps its sticky flags as they were.
 */
enum { MXCSR_DEFAULT = 0x1f80 };

typedef unsigned int environment_t;

static inline environment_t set_environment(void)
{
    unsigned int saved = _mm_getcsr();

    _mm_setcsr(MXCSR_DEFAULT);
    return saved;
}

static inline void restore_environment(environment_t saved)
{
    _mm_setcsr(saved);
}

#endif
