/* SPDX-License-Identifier: Apache-2.0 */
/* The casts with AVX2 and F16C; nothing on other machines than x86. */

#include "cast.h"

#if defined(__x86_64__) || defined(__i386__)

#include <immintrin.h>

#include "cast_x86_env.h"

/*
 * Steps of 16 elements (see cast_blocks.h). A step that narrows keeps the largest magnitude it saw,
 * which costs two instructions.
 *
 * Not VCVTNEPS2BF16: it flushes denormals to zero.
 *
 * The results of VCVTPS2PH and VCVTPH2PS do not depend on MXCSR here: rounding comes from the
 * immediate, FTZ is ignored, DAZ is ignored by VCVTPH2PS, and can't matter to VCVTPS2PH, where an
 * fp32 denormal rounds to zero anyway. Their exceptions do: see MXCSR_DEFAULT.
 */
#define LEVEL        avx2
#define LEVEL_NAME   "avx2+f16c"
#define LEVEL_TARGET __attribute__((target("avx2,f16c")))
#define AVX2_INLINE  static inline __attribute__((always_inline)) LEVEL_TARGET

enum { STEP = 16 };

/* For VPBLENDW: takes the odd words from the second operand. */
#define ODD_WORDS 0xaa

/* The largest doubled magnitudes, by lane, of the steps' fp16 or bf16 side (doubled, for that
 * shifts the sign out). Steps that widen leave it alone. */
typedef __m256i seen_t;

/* The doubled magnitudes from which a step leaves the block to the scalar code. For bf16 it is
 * that of the truncated number: the largest finite one, which may round to infinity. */
enum { LIMIT_BF16 = 2 * 0x7f7f, LIMIT_F16 = 2 * 0x7c00, LIMIT_F32 = 0x10000 };

AVX2_INLINE seen_t nothing_seen(void)
{
    return _mm256_setzero_si256();
}

AVX2_INLINE int is_rare(seen_t top, int limit)
{
    __m256i below = _mm256_subs_epu16(_mm256_set1_epi16((short)limit), top);

    return _mm256_movemask_epi8(_mm256_cmpeq_epi16(below, _mm256_setzero_si256())) != 0;
}

AVX2_INLINE __m256i load(const unsigned char *p)
{
    return _mm256_loadu_si256((const void *)p);
}

AVX2_INLINE void store(unsigned char *p, __m256i v)
{
    _mm256_storeu_si256((void *)p, v);
}

AVX2_INLINE void raise_top(__m256i *top, __m256i v)
{
    *top = _mm256_max_epu16(*top, _mm256_add_epi16(v, v));
}

/*
 * Rounds 16 numbers cut in half: in both arguments, elements 0-7 are the even words and elements
 * 8-15 the odd words. The result is in order.
 */
AVX2_INLINE __m256i round_to_bf16(__m256i lo, __m256i hi, __m256i *top)
{
    /* In each lane, the even words to the first 64 bits and the odd words to the second. */
    const __m256i split = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
    __m256i odd = _mm256_and_si256(hi, _mm256_set1_epi16(1));
    __m256i carry, v;

    raise_top(top, hi);
    /* Round up if lo + 0x7fff + odd carries; PAVGW adds one more and keeps the carry as bit 15. */
    carry = _mm256_avg_epu16(lo, _mm256_add_epi16(odd, _mm256_set1_epi16(0x7ffe)));
    v = _mm256_sub_epi16(hi, _mm256_cmpgt_epi16(_mm256_setzero_si256(), carry));
    return _mm256_permute4x64_epi64(_mm256_shuffle_epi8(v, split), _MM_SHUFFLE(3, 1, 2, 0));
}

/* Words are moved by loading two bytes off: the load ports are less busy than the shuffles. */
AVX2_INLINE void f32_to_bf16_step(unsigned char *dst, const unsigned char *src, __m256i *top)
{
    __m256i lo = _mm256_blend_epi16(load(src), load(src + 30), ODD_WORDS);
    __m256i hi = _mm256_blend_epi16(load(src + 2), load(src + 32), ODD_WORDS);

    store(dst, round_to_bf16(lo, hi, top));
}

AVX2_INLINE __m256i f32_to_f16_step_regs(__m256i a, __m256i b, __m256i *top)
{
    __m128i lo = _mm256_cvtps_ph(_mm256_castsi256_ps(a), _MM_FROUND_TO_NEAREST_INT);
    __m128i hi = _mm256_cvtps_ph(_mm256_castsi256_ps(b), _MM_FROUND_TO_NEAREST_INT);
    __m256i v = _mm256_inserti128_si256(_mm256_castsi128_si256(lo), hi, 1);

    raise_top(top, v);
    return v;
}

AVX2_INLINE void f32_to_f16_step(unsigned char *dst, const unsigned char *src, __m256i *top)
{
    store(dst, f32_to_f16_step_regs(load(src), load(src + 32), top));
}

/* Elements 0-7 to *a, 8-15 to *b. */
AVX2_INLINE void bf16_to_f32_step_regs(__m256i v, __m256i *a, __m256i *b)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i mag = _mm256_and_si256(v, _mm256_set1_epi16(0x7fff));
    __m256i nan = _mm256_cmpgt_epi16(mag, _mm256_set1_epi16(0x7f80));

    v = _mm256_or_si256(v, _mm256_and_si256(nan, _mm256_set1_epi16(0x0040)));
    v = _mm256_permute4x64_epi64(v, _MM_SHUFFLE(3, 1, 2, 0)); /* unpacking works in lanes, too */
    *a = _mm256_unpacklo_epi16(zero, v);
    *b = _mm256_unpackhi_epi16(zero, v);
}

AVX2_INLINE void bf16_to_f32_step(unsigned char *dst, const unsigned char *src, __m256i *top)
{
    __m256i a, b;

    (void)top;
    bf16_to_f32_step_regs(load(src), &a, &b);
    store(dst, a);
    store(dst + 32, b);
}

AVX2_INLINE __m256i f16_to_f32_regs(__m128i v)
{
    return _mm256_castps_si256(_mm256_cvtph_ps(v));
}

AVX2_INLINE void f16_to_f32_step(unsigned char *dst, const unsigned char *src, __m256i *top)
{
    (void)top;
    store(dst, f16_to_f32_regs(_mm_loadu_si128((const void *)src)));
    store(dst + 32, f16_to_f32_regs(_mm_loadu_si128((const void *)(src + 16))));
}

AVX2_INLINE void bf16_to_f16_step(unsigned char *dst, const unsigned char *src, __m256i *top)
{
    __m256i a, b;

    bf16_to_f32_step_regs(load(src), &a, &b);
    store(dst, f32_to_f16_step_regs(a, b, top));
}

AVX2_INLINE void f16_to_bf16_step(unsigned char *dst, const unsigned char *src, __m256i *top)
{
    __m256i a = f16_to_f32_regs(_mm_loadu_si128((const void *)src));
    __m256i b = f16_to_f32_regs(_mm_loadu_si128((const void *)(src + 16)));
    __m256i lo = _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), ODD_WORDS);
    __m256i hi = _mm256_blend_epi16(_mm256_srli_epi32(a, 16), b, ODD_WORDS);

    store(dst, round_to_bf16(lo, hi, top));
}

#include "cast_blocks.h"

#endif
