/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The counts of one level, which defines before it includes this:
 *   LEVEL          its name; the function is uz_census_LEVEL
 *   LEVEL_TARGET   what functions with its instructions are marked with
 *   VECTOR_NBYTES  the size of its vectors
 *
 * With the compiler's vectors: magnitudes at or above the exponent's mask are special, those below
 * the smallest normal one and not zero are denormal. Specials are rare and are told apart one by
 * one.
 */
#include <string.h>

#include "kernels/census.h"

typedef int16_t vec16 __attribute__((vector_size(VECTOR_NBYTES)));
typedef int32_t vec32 __attribute__((vector_size(VECTOR_NBYTES)));
typedef int64_t vec64 __attribute__((vector_size(VECTOR_NBYTES)));

#define CONCATENATE(a, b)   a##b
#define LEVEL_NAME_OF(a, b) CONCATENATE(a, b)

/* Steps after which a lane of 16 bits could overflow. */
enum { MAX_STEPS = 16384 };

#define DEFINE_CENSUS(NAME, BITS, EXPONENT, MANTISSA)                                              \
    static void one_##NAME(struct uz_unusual *unusual, uint##BITS##_t bits)                        \
    {                                                                                              \
        uint##BITS##_t magnitude = bits & (uint##BITS##_t)((EXPONENT) | (MANTISSA));               \
        unusual->n_nan += magnitude > (EXPONENT);                                                  \
        unusual->n_inf += magnitude == (EXPONENT);                                                 \
        unusual->n_denormal += magnitude <= (MANTISSA) && magnitude != 0;                          \
        unusual->has_nonzero |= magnitude != 0;                                                    \
    }                                                                                              \
                                                                                                   \
    static void rest_##NAME(struct uz_unusual *unusual, const unsigned char *data, size_t n_elems) \
    {                                                                                              \
        for (size_t i = 0; i < n_elems; i++) {                                                     \
            uint##BITS##_t bits;                                                                   \
            memcpy(&bits, data + i * sizeof bits, sizeof bits);                                    \
            one_##NAME(unusual, bits);                                                             \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    /* n_steps <= MAX_STEPS vectors */                                                             \
    LEVEL_TARGET static void steps_##NAME(struct uz_unusual *unusual, const unsigned char *data,   \
                                          size_t n_steps)                                          \
    {                                                                                              \
        enum { LANES = 8 * VECTOR_NBYTES / BITS };                                                 \
        const vec##BITS zero = {0};                                                                \
        const vec##BITS magnitude_mask = zero + (int##BITS##_t)((EXPONENT) | (MANTISSA));          \
        const vec##BITS below_special = zero + (int##BITS##_t)((EXPONENT)-1);                      \
        const vec##BITS below_normal = zero + (int##BITS##_t)((MANTISSA) + 1);                     \
        vec##BITS any = zero, special = zero, denormal = zero;                                     \
        for (size_t i = 0; i < n_steps; i++) {                                                     \
            vec##BITS v;                                                                           \
            memcpy(&v, data + i * sizeof v, sizeof v);                                             \
            v &= magnitude_mask;                                                                   \
            any |= v;                                                                              \
            special |= v > below_special;                                                          \
            denormal -= (v < below_normal) & (v > zero);                                           \
        }                                                                                          \
        bool has_special = false;                                                                  \
        for (int lane = 0; lane < LANES; lane++)                                                   \
            has_special |= special[lane] != 0;                                                     \
        if (has_special) {                                                                         \
            rest_##NAME(unusual, data, n_steps *LANES);                                            \
            return;                                                                                \
        }                                                                                          \
        for (int lane = 0; lane < LANES; lane++) {                                                 \
            unusual->n_denormal += (uint64_t)denormal[lane];                                       \
            unusual->has_nonzero |= any[lane] != 0;                                                \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    static void count_##NAME(struct uz_unusual *unusual, const unsigned char *data,                \
                             size_t n_elems)                                                       \
    {                                                                                              \
        enum { LANES = 8 * VECTOR_NBYTES / BITS };                                                 \
        for (size_t n; (n = n_elems / LANES) > 0;                                                  \
             n_elems -= n * LANES, data += n * VECTOR_NBYTES) {                                    \
            n = n < MAX_STEPS ? n : MAX_STEPS;                                                     \
            steps_##NAME(unusual, data, n);                                                        \
        }                                                                                          \
        rest_##NAME(unusual, data, n_elems);                                                       \
    }

DEFINE_CENSUS(f16, 16, UINT16_C(0x7c00), UINT16_C(0x03ff))
DEFINE_CENSUS(bf16, 16, UINT16_C(0x7f80), UINT16_C(0x007f))
DEFINE_CENSUS(f32, 32, UINT32_C(0x7f800000), UINT32_C(0x007fffff))
DEFINE_CENSUS(f64, 64, UINT64_C(0x7ff0000000000000), UINT64_C(0x000fffffffffffff))

static void count_bytes(struct uz_unusual *unusual, const unsigned char *data, size_t nbytes)
{
    for (size_t i = 0; i < nbytes && !unusual->has_nonzero; i++)
        unusual->has_nonzero = data[i] != 0;
}

void LEVEL_NAME_OF(uz_census_, LEVEL)(struct uz_unusual *unusual, enum uz_census_kind kind,
                                      const void *data, size_t n_elems)
{
    switch (kind) {
    case UZ_CENSUS_F16:
        count_f16(unusual, data, n_elems);
        break;
    case UZ_CENSUS_BF16:
        count_bf16(unusual, data, n_elems);
        break;
    case UZ_CENSUS_F32:
        count_f32(unusual, data, n_elems);
        break;
    case UZ_CENSUS_F64:
        count_f64(unusual, data, n_elems);
        break;
    default:
        count_bytes(unusual, data, n_elems);
        break;
    }
}
