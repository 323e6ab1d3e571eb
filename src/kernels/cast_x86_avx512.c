/* SPDX-License-Identifier: Apache-2.0 */
/* The casts with AVX-512 (F, BW, VL); nothing on other machines than x86. */

#include "cast.h"

#if defined(__x86_64__) || defined(__i386__)

#include <immintrin.h>

#include "cast_x86_env.h"

/*
 * Steps of 32 elements (see cast_blocks.h). A step that narrows notes in a mask which lanes are
 * too large. As with AVX2, not VCVTNEPS2BF16, which flushes denormals, and nothing that is used
 * here depends on MXCSR but for its exceptions.
 */
#define LEVEL         avx512
#define LEVEL_NAME    "avx512"
#define LEVEL_TARGET  __attribute__((target("avx512f,avx512bw,avx512vl,avx2,f16c")))
#define AVX512_INLINE static inline __attribute__((always_inline)) LEVEL_TARGET

enum { STEP = 32 };

/* A bit is set if a lane saw a magnitude from which the scalar code must do the work. */
typedef __mmask32 seen_t;

/* Each step has its own limit. */
enum { LIMIT_F32, LIMIT_BF16, LIMIT_F16 };

/* Doubled, which shifts the sign out. For bf16: from the largest finite number on, as it may round
 * to infinity. */
enum { LARGE_F16 = 2 * 0x7c00 };
#define LARGE_FOR_BF16 (2 * INT64_C(0x7f7f0000))

AVX512_INLINE seen_t nothing_seen(void)
{
    return 0;
}

AVX512_INLINE int is_rare(seen_t seen, int limit)
{
    (void)limit;
    return seen != 0;
}

AVX512_INLINE __m512i load(const unsigned char *p)
{
    return _mm512_loadu_si512((const void *)p);
}

AVX512_INLINE __m256i load_half(const unsigned char *p)
{
    return _mm256_loadu_si256((const void *)p);
}

AVX512_INLINE void store(unsigned char *p, __m512i v)
{
    _mm512_storeu_si512((void *)p, v);
}

/* The rounded number is in the upper half of each lane. */
AVX512_INLINE __m512i round_to_bf16(__m512i x, seen_t *seen)
{
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(x, 16), _mm512_set1_epi32(1));

    *seen |= _mm512_cmpge_epu32_mask(_mm512_add_epi32(x, x),
                                     _mm512_set1_epi32((int)(uint32_t)LARGE_FOR_BF16));
    return _mm512_add_epi32(x, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
}

AVX512_INLINE void f32_to_bf16_regs(unsigned char *dst, __m512i a, __m512i b, seen_t *seen)
{
    __m256i lo = _mm512_cvtepi32_epi16(_mm512_srli_epi32(round_to_bf16(a, seen), 16));
    __m256i hi = _mm512_cvtepi32_epi16(_mm512_srli_epi32(round_to_bf16(b, seen), 16));

    store(dst, _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1));
}

AVX512_INLINE void f32_to_bf16_step(unsigned char *dst, const unsigned char *src, seen_t *seen)
{
    f32_to_bf16_regs(dst, load(src), load(src + 64), seen);
}

AVX512_INLINE void f32_to_f16_regs(unsigned char *dst, __m512i a, __m512i b, seen_t *seen)
{
    __m256i lo = _mm512_cvtps_ph(_mm512_castsi512_ps(a), _MM_FROUND_TO_NEAREST_INT);
    __m256i hi = _mm512_cvtps_ph(_mm512_castsi512_ps(b), _MM_FROUND_TO_NEAREST_INT);
    __m512i v = _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1);

    *seen |= _mm512_cmpge_epu16_mask(_mm512_add_epi16(v, v), _mm512_set1_epi16((short)LARGE_F16));
    store(dst, v);
}

AVX512_INLINE void f32_to_f16_step(unsigned char *dst, const unsigned char *src, seen_t *seen)
{
    f32_to_f16_regs(dst, load(src), load(src + 64), seen);
}

AVX512_INLINE __m512i bf16_to_f32_regs(__m256i v)
{
    __m256i mag = _mm256_and_si256(v, _mm256_set1_epi16(0x7fff));
    __mmask16 nan = _mm256_cmpgt_epi16_mask(mag, _mm256_set1_epi16(0x7f80));
    __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16);

    return _mm512_mask_or_epi32(wide, nan, wide, _mm512_set1_epi32(0x00400000));
}

AVX512_INLINE void bf16_to_f32_step(unsigned char *dst, const unsigned char *src, seen_t *seen)
{
    (void)seen;
    store(dst, bf16_to_f32_regs(load_half(src)));
    store(dst + 64, bf16_to_f32_regs(load_half(src + 32)));
}

AVX512_INLINE __m512i f16_to_f32_regs(__m256i v)
{
    return _mm512_castps_si512(_mm512_cvtph_ps(v));
}

AVX512_INLINE void f16_to_f32_step(unsigned char *dst, const unsigned char *src, seen_t *seen)
{
    (void)seen;
    store(dst, f16_to_f32_regs(load_half(src)));
    store(dst + 64, f16_to_f32_regs(load_half(src + 32)));
}

AVX512_INLINE void bf16_to_f16_step(unsigned char *dst, const unsigned char *src, seen_t *seen)
{
    f32_to_f16_regs(dst, bf16_to_f32_regs(load_half(src)), bf16_to_f32_regs(load_half(src + 32)),
                    seen);
}

AVX512_INLINE void f16_to_bf16_step(unsigned char *dst, const unsigned char *src, seen_t *seen)
{
    f32_to_bf16_regs(dst, f16_to_f32_regs(load_half(src)), f16_to_f32_regs(load_half(src + 32)),
                     seen);
}

#include "cast_blocks.h"

#endif
