/* SPDX-License-Identifier: Apache-2.0 */
/* The casts with Advanced SIMD ("NEON"); nothing on other machines than little-endian AArch64. */

#include "cast.h"

#if defined(__aarch64__) && !defined(__AARCH64EB__)

#include <arm_neon.h>

/*
 * Steps of 16 elements (see cast_blocks.h). A step that narrows keeps the largest magnitudes it
 * saw. Not BFCVTN, which is not on every AArch64 and whose NaN follows FPCR.
 */
#define LEVEL      neon
#define LEVEL_NAME "neon"
#define LEVEL_TARGET
#define NEON_INLINE static inline __attribute__((always_inline))

enum { STEP = 16 };

/* By lane, the largest doubled magnitudes (which shifts the sign out) on the steps' fp16 or, cut
 * off, bf16 side. */
typedef uint16x8_t seen_t;

/* From which on the scalar code must do the work; for bf16 from the largest finite number on, as
 * it may round to infinity. */
enum { LIMIT_BF16 = 2 * 0x7f7f, LIMIT_F16 = 2 * 0x7c00, LIMIT_F32 = 0x10000 };

/*
 * FPCR as a process starts with it: to nearest, no flushing to zero, IEEE half precision, NaNs keep
 * their payload, no traps. FPSR, with its sticky flags, is kept too.
 */
typedef struct {
    uint64_t fpcr, fpsr;
} environment_t;

static inline environment_t set_environment(void)
{
    environment_t saved;

    __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr\n\tmsr fpcr, xzr"
                     : "=r"(saved.fpcr), "=r"(saved.fpsr)
                     :
                     : "memory");
    return saved;
}

static inline void restore_environment(environment_t saved)
{
    __asm__ volatile("msr fpsr, %1\n\tmsr fpcr, %0"
                     :
                     : "r"(saved.fpcr), "r"(saved.fpsr)
                     : "memory");
}

NEON_INLINE seen_t nothing_seen(void)
{
    return vdupq_n_u16(0);
}

NEON_INLINE int is_rare(seen_t top, int limit)
{
    return vmaxvq_u16(top) >= limit;
}

NEON_INLINE uint32x4_t load32(const unsigned char *p)
{
    return vreinterpretq_u32_u8(vld1q_u8(p));
}

NEON_INLINE uint16x8_t load16(const unsigned char *p)
{
    return vreinterpretq_u16_u8(vld1q_u8(p));
}

NEON_INLINE void store16(unsigned char *p, uint16x8_t v)
{
    vst1q_u8(p, vreinterpretq_u8_u16(v));
}

NEON_INLINE void store32(unsigned char *p, uint32x4_t v)
{
    vst1q_u8(p, vreinterpretq_u8_u32(v));
}

NEON_INLINE void raise_top(seen_t *top, uint16x8_t v)
{
    *top = vmaxq_u16(*top, vaddq_u16(v, v));
}

/* Each lane plus what makes its upper half the rounded number. */
NEON_INLINE uint32x4_t round_up(uint32x4_t x)
{
    uint32x4_t odd = vandq_u32(vshrq_n_u32(x, 16), vdupq_n_u32(1));

    return vaddq_u32(x, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
}

/* The upper halves of the lanes of both. */
NEON_INLINE uint16x8_t upper_halves(uint32x4_t a, uint32x4_t b)
{
    return vuzp2q_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b));
}

NEON_INLINE void f32_to_bf16_regs(unsigned char *dst, uint32x4_t a, uint32x4_t b, seen_t *top)
{
    raise_top(top, upper_halves(a, b));
    store16(dst, upper_halves(round_up(a), round_up(b)));
}

NEON_INLINE void f32_to_bf16_step(unsigned char *dst, const unsigned char *src, seen_t *top)
{
    f32_to_bf16_regs(dst, load32(src), load32(src + 16), top);
    f32_to_bf16_regs(dst + 16, load32(src + 32), load32(src + 48), top);
}

NEON_INLINE void f32_to_f16_regs(unsigned char *dst, uint32x4_t a, uint32x4_t b, seen_t *top)
{
    float16x4_t lo = vcvt_f16_f32(vreinterpretq_f32_u32(a));
    uint16x8_t v = vreinterpretq_u16_f16(vcvt_high_f16_f32(lo, vreinterpretq_f32_u32(b)));

    raise_top(top, v);
    store16(dst, v);
}

NEON_INLINE void f32_to_f16_step(unsigned char *dst, const unsigned char *src, seen_t *top)
{
    f32_to_f16_regs(dst, load32(src), load32(src + 16), top);
    f32_to_f16_regs(dst + 16, load32(src + 32), load32(src + 48), top);
}

/* Lanes 0-3 to *a, 4-7 to *b. */
NEON_INLINE void bf16_to_f32_regs(uint16x8_t v, uint32x4_t *a, uint32x4_t *b)
{
    uint16x8_t mag = vandq_u16(v, vdupq_n_u16(0x7fff));
    uint16x8_t nan = vcgtq_u16(mag, vdupq_n_u16(0x7f80));
    uint16x8_t zero = vdupq_n_u16(0);

    v = vorrq_u16(v, vandq_u16(nan, vdupq_n_u16(0x0040)));
    *a = vreinterpretq_u32_u16(vzip1q_u16(zero, v));
    *b = vreinterpretq_u32_u16(vzip2q_u16(zero, v));
}

NEON_INLINE void bf16_to_f32_step(unsigned char *dst, const unsigned char *src, seen_t *top)
{
    (void)top;
    for (unsigned i = 0; i < 2; i++) {
        uint32x4_t a, b;

        bf16_to_f32_regs(load16(src + 16 * i), &a, &b);
        store32(dst + 32 * i, a);
        store32(dst + 32 * i + 16, b);
    }
}

NEON_INLINE void f16_to_f32_regs(uint16x8_t v, uint32x4_t *a, uint32x4_t *b)
{
    float16x8_t x = vreinterpretq_f16_u16(v);

    *a = vreinterpretq_u32_f32(vcvt_f32_f16(vget_low_f16(x)));
    *b = vreinterpretq_u32_f32(vcvt_high_f32_f16(x));
}

NEON_INLINE void f16_to_f32_step(unsigned char *dst, const unsigned char *src, seen_t *top)
{
    (void)top;
    for (unsigned i = 0; i < 2; i++) {
        uint32x4_t a, b;

        f16_to_f32_regs(load16(src + 16 * i), &a, &b);
        store32(dst + 32 * i, a);
        store32(dst + 32 * i + 16, b);
    }
}

NEON_INLINE void bf16_to_f16_step(unsigned char *dst, const unsigned char *src, seen_t *top)
{
    for (unsigned i = 0; i < 2; i++) {
        uint32x4_t a, b;

        bf16_to_f32_regs(load16(src + 16 * i), &a, &b);
        f32_to_f16_regs(dst + 16 * i, a, b, top);
    }
}

NEON_INLINE void f16_to_bf16_step(unsigned char *dst, const unsigned char *src, seen_t *top)
{
    for (unsigned i = 0; i < 2; i++) {
        uint32x4_t a, b;

        f16_to_f32_regs(load16(src + 16 * i), &a, &b);
        f32_to_bf16_regs(dst + 16 * i, a, b, top);
    }
}

#include "cast_blocks.h"

#endif
