/* SPDX-License-Identifier: Apache-2.0 */
/* The counts with AVX2; nothing on other machines than x86. */
#include "kernels/census.h"

#if defined(__x86_64__) || defined(__i386__)

#define LEVEL         avx2
#define LEVEL_TARGET  __attribute__((target("avx2")))
#define VECTOR_NBYTES 32

#include "kernels/census_vectors.h"

#endif
