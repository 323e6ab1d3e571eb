/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sixteen bytes at a time with the compiler's vectors, which every target has: magnitudes at or
 * above the exponent's mask are special, those below the smallest normal one and not zero are
 * denormal. Specials are rare and are told apart one by one.
 */
#include "kernels/census.h"

#include <string.h>

typedef int16_t vec16 __attribute__((vector_size(16)));
typedef int32_t vec32 __attribute__((vector_size(16)));
typedef int64_t vec64 __attribute__((vector_size(16)));

/* Steps after which a lane of 16 bits could overflow. */
enum { MAX_STEPS = 16384 };

#define DEFINE_CENSUS(NAME, BITS, EXPONENT, MANTISSA)                                              \
    static void one_##NAME(struct uz_census *census, uint##BITS##_t bits)                          \
    {                                                                                              \
        uint##BITS##_t magnitude = bits & (uint##BITS##_t)((EXPONENT) | (MANTISSA));               \
        census->n_nan += magnitude > (EXPONENT);                                                   \
        census->n_inf += magnitude == (EXPONENT);                                                  \
        census->n_denormal += magnitude <= (MANTISSA) && magnitude != 0;                           \
        census->has_nonzero |= magnitude != 0;                                                     \
    }                                                                                              \
                                                                                                   \
    static void rest_##NAME(struct uz_census *census, const unsigned char *data, size_t n_elems)   \
    {                                                                                              \
        for (size_t i = 0; i < n_elems; i++) {                                                     \
            uint##BITS##_t bits;                                                                   \
            memcpy(&bits, data + i * sizeof bits, sizeof bits);                                    \
            one_##NAME(census, bits);                                                              \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    /* n_steps <= MAX_STEPS vectors */                                                             \
    static void steps_##NAME(struct uz_census *census, const unsigned char *data, size_t n_steps)  \
    {                                                                                              \
        enum { LANES = 128 / BITS };                                                               \
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
            rest_##NAME(census, data, n_steps *LANES);                                             \
            return;                                                                                \
        }                                                                                          \
        for (int lane = 0; lane < LANES; lane++) {                                                 \
            census->n_denormal += (uint64_t)denormal[lane];                                        \
            census->has_nonzero |= any[lane] != 0;                                                 \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    static void count_##NAME(struct uz_census *census, const unsigned char *data, size_t n_elems)  \
    {                                                                                              \
        enum { LANES = 128 / BITS };                                                               \
        for (size_t n; (n = n_elems / LANES) > 0; n_elems -= n * LANES, data += n * 16) {          \
            n = n < MAX_STEPS ? n : MAX_STEPS;                                                     \
            steps_##NAME(census, data, n);                                                         \
        }                                                                                          \
        rest_##NAME(census, data, n_elems);                                                        \
    }

DEFINE_CENSUS(f16, 16, UINT16_C(0x7c00), UINT16_C(0x03ff))
DEFINE_CENSUS(bf16, 16, UINT16_C(0x7f80), UINT16_C(0x007f))
DEFINE_CENSUS(f32, 32, UINT32_C(0x7f800000), UINT32_C(0x007fffff))
DEFINE_CENSUS(f64, 64, UINT64_C(0x7ff0000000000000), UINT64_C(0x000fffffffffffff))

static void count_bytes(struct uz_census *census, const unsigned char *data, size_t nbytes)
{
    for (size_t i = 0; i < nbytes && !census->has_nonzero; i++)
        census->has_nonzero = data[i] != 0;
}

void uz_census_count(struct uz_census *census, enum uz_census_kind kind, const void *data,
                     size_t n_elems)
{
    switch (kind) {
    case UZ_CENSUS_F16:
        count_f16(census, data, n_elems);
        break;
    case UZ_CENSUS_BF16:
        count_bf16(census, data, n_elems);
        break;
    case UZ_CENSUS_F32:
        count_f32(census, data, n_elems);
        break;
    case UZ_CENSUS_F64:
        count_f64(census, data, n_elems);
        break;
    default:
        count_bytes(census, data, n_elems);
        break;
    }
}
