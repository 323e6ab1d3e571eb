/* SPDX-License-Identifier: Apache-2.0 */
/* The counts that every machine can make, and the choice of the best. */
#include "kernels/cast.h"

#define LEVEL plain
#define LEVEL_TARGET
#define VECTOR_NBYTES 16

#include "kernels/census_vectors.h"

uz_census_fn uz_census_for(unsigned feature_mask)
{
#if defined(__x86_64__) || defined(__i386__)
    if (uz_cpu_features() & feature_mask & UZ_CPU_AVX2_F16C)
        return uz_census_avx2;
#else
    (void)feature_mask;
#endif
    return uz_census_plain;
}
