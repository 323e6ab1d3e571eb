/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses a table of casts for the running CPU, and names the casts. */

#include "cast.h"

/*
 * Best first, scalar last. Each table is complete and constant (a level without a kernel of its
 * own for some cast would name the one below), so nothing is filled in at run time and threads
 * need no lock.
 */
static const struct {
    unsigned needs;
    const struct uz_cast_ops *ops;
} levels[] = {
#if defined(__x86_64__) || defined(__i386__)
    {UZ_CPU_AVX512, &uz_cast_ops_avx512},
    {UZ_CPU_AVX2_F16C, &uz_cast_ops_avx2},
#elif defined(__aarch64__) && !defined(__AARCH64EB__)
    {UZ_CPU_NEON, &uz_cast_ops_neon},
#endif
    {0, &uz_cast_ops_scalar},
};

const struct uz_cast_ops *uz_cast_ops_for(unsigned feature_mask)
{
    unsigned usable = uz_cpu_features() & feature_mask;
    size_t i = 0;

    while ((levels[i].needs & ~usable) != 0) {
        i++;
    }
    return levels[i].ops;
}

const char *uz_cast_name(enum uz_cast_id id)
{
    switch (id) {
#define UZ_CAST_ROW(FROM, TO, from, to)                                                            \
    case UZ_CAST_##FROM##_TO_##TO:                                                                 \
        return #from "_to_" #to;
#include "cast.def"
#undef UZ_CAST_ROW
    case UZ_CAST_COUNT:
        break;
    }
    return "unknown";
}
