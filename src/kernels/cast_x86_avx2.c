/* SPDX-License-Identifier: Apache-2.0 */
/* The casts with AVX2 and F16C; nothing on other machines than x86. */

#include "cast.h"

#if defined(__x86_64__) || defined(__i386__)

#include <immintrin.h>
#include <string.h>

/*
 * Blocks of 64 elements, in four steps of 16. A step that narrows casts numbers of ordinary size
 * and keeps the largest magnitude it saw; if that says that the block holds a NaN, an infinity or
 * an overflow, which is rare in weights, the scalar code casts the block again and counts. So the
 * loop pays two instructions for 16 elements, and the rare rules are written only once.
 *
 * Not VCVTNEPS2BF16: it flushes denormals to zero.
 *
 * The results of VCVTPS2PH and VCVTPH2PS do not depend on MXCSR here: rounding comes from the
 * immediate, FTZ is ignored, DAZ is ignored by VCVTPH2PS, and can't matter to VCVTPS2PH, where an
 * fp32 denormal rounds to zero anyway. Their exceptions do: see MXCSR_DEFAULT.
 */
#define AVX2        __attribute__((target("avx2,f16c")))
#define AVX2_INLINE static inline __attribute__((always_inline)) AVX2

enum { STEP = 16, BLOCK = 4 * STEP };

/* For VPBLENDW: takes the odd words from the second operand. */
#define ODD_WORDS 0xaa

/* Casts STEP elements, and raises the lanes of *top to the doubled magnitudes of its fp16 or bf16
 * side (doubled, for that shifts the sign out). Steps that widen leave *top alone. */
typedef void (*step_fn)(unsigned char *dst, const unsigned char *src, __m256i *top);

/* The doubled magnitudes from which a step leaves the block to the scalar code. For bf16 it is
 * that of the truncated number: the largest finite one, which may round to infinity. */
enum { NEVER = 0x10000, BF16_LIMIT = 2 * 0x7f7f, F16_LIMIT = 2 * 0x7c00 };

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

/* What the loop needs to know of a cast; always a constant, so that it folds away. */
struct kernel {
    step_fn step;
    enum uz_cast_id id;
    int limit;
    size_t src_size, dst_size; /* bytes an element */
};

AVX2_INLINE uint64_t cast_block(struct kernel k, unsigned char *dst, const unsigned char *src)
{
    __m256i top = _mm256_setzero_si256();

    /* By hand: gcc -O2 would keep a loop of four. */
    k.step(dst, src, &top);
    k.step(dst + STEP * k.dst_size, src + STEP * k.src_size, &top);
    k.step(dst + 2 * STEP * k.dst_size, src + 2 * STEP * k.src_size, &top);
    k.step(dst + 3 * STEP * k.dst_size, src + 3 * STEP * k.src_size, &top);
    if (k.limit != NEVER) {
        __m256i below = _mm256_subs_epu16(_mm256_set1_epi16((short)k.limit), top);
        __m256i reached = _mm256_cmpeq_epi16(below, _mm256_setzero_si256());

        if (__builtin_expect(_mm256_movemask_epi8(reached) != 0, 0)) {
            return uz_cast_ops_scalar.fn[k.id](dst, src, BLOCK);
        }
    }
    return 0;
}

AVX2_INLINE uint64_t cast_array(struct kernel k, unsigned char *dst, const unsigned char *src,
                                size_t n_elems)
{
    uint64_t n_overflows = 0;

    for (; n_elems >= BLOCK; n_elems -= BLOCK) {
        n_overflows += cast_block(k, dst, src);
        src += BLOCK * k.src_size;
        dst += BLOCK * k.dst_size;
    }
    if (n_elems != 0) {
        unsigned char in[BLOCK * 4] = {0}; /* zeros cast to zeros, and count as nothing */
        unsigned char out[BLOCK * 4];

        memcpy(in, src, n_elems * k.src_size);
        n_overflows += cast_block(k, out, in);
        memcpy(dst, out, n_elems * k.dst_size);
    }
    return n_overflows;
}

/* Sizes and limits by dtype, for the rows below. */
enum { SIZE_F32 = 4, SIZE_BF16 = 2, SIZE_F16 = 2 };
enum { LIMIT_F32 = NEVER, LIMIT_BF16 = BF16_LIMIT, LIMIT_F16 = F16_LIMIT };

/*
 * MXCSR as a process starts with it: all exceptions masked, to nearest, no FTZ, no DAZ. A program
 * may have unmasked exceptions, and F16C would then trap on rounding; so its MXCSR is set aside
 * for the call, which also keeps its sticky flags as they were.
 */
#define MXCSR_DEFAULT 0x1f80u

/* The array function is not inlined: the compiler does not know that the instructions in it depend
 * on MXCSR, and could move them across its change. */
#define UZ_CAST_ROW(FROM, TO, from, to)                                                            \
    AVX2 static __attribute__((noinline))                                                          \
    uint64_t array_##from##_to_##to(void *restrict dst, const void *restrict src, size_t n_elems)  \
    {                                                                                              \
        const struct kernel k = {                                                                  \
            .step = from##_to_##to##_step,                                                         \
            .id = UZ_CAST_##FROM##_TO_##TO,                                                        \
            .limit = LIMIT_##TO,                                                                   \
            .src_size = SIZE_##FROM,                                                               \
            .dst_size = SIZE_##TO,                                                                 \
        };                                                                                         \
                                                                                                   \
        return cast_array(k, dst, src, n_elems);                                                   \
    }                                                                                              \
                                                                                                   \
    AVX2 static uint64_t avx2_##from##_to_##to(void *restrict dst, const void *restrict src,       \
                                               size_t n_elems)                                     \
    {                                                                                              \
        unsigned int saved = _mm_getcsr();                                                         \
        uint64_t n_overflows;                                                                      \
                                                                                                   \
        _mm_setcsr(MXCSR_DEFAULT);                                                                 \
        n_overflows = array_##from##_to_##to(dst, src, n_elems);                                   \
        _mm_setcsr(saved);                                                                         \
        return n_overflows;                                                                        \
    }
#include "cast.def"
#undef UZ_CAST_ROW

const struct uz_cast_ops uz_cast_ops_avx2 = {
    .level = "avx2+f16c",
    .fn =
        {
#define UZ_CAST_ROW(FROM, TO, from, to) [UZ_CAST_##FROM##_TO_##TO] = avx2_##from##_to_##to,
#include "cast.def"
#undef UZ_CAST_ROW
        },
};

#endif
