/* SPDX-License-Identifier: Apache-2.0 */
/* Casts between fp32, bf16 and fp16 for arrays, with the instruction set chosen at run time. */

#ifndef UZ_KERNELS_CAST_H
#define UZ_KERNELS_CAST_H

#include <stddef.h>
#include <stdint.h>

/*
 * What every cast does, at every level, bit for bit:
 * - it rounds to nearest, ties to even; denormals are kept, infinities stay, -0 stays -0;
 * - a finite value beyond the largest finite target becomes an infinity, and is counted;
 * - a NaN stays a NaN with its sign and the top bits of its payload, and becomes quiet;
 * - bf16 <-> fp16 widens to fp32, which is exact, and then rounds once.
 * Nothing depends on the floating-point environment (rounding mode, flush to zero, denormals are
 * zero, unmasked exceptions), and nothing in it is changed. The scalar code is the specification.
 *
 * Elements are in the byte order of the host.
 */

enum uz_cast_id {
#define UZ_CAST_ROW(FROM, TO, from, to) UZ_CAST_##FROM##_TO_##TO,
#include "cast.def"
#undef UZ_CAST_ROW
    UZ_CAST_COUNT
};

/*
 * Casts `n_elems` elements at `src` to `n_elems` elements at `dst`. Any alignment of both; they
 * must not overlap; no byte outside the two arrays is read or written. `n_elems` may be 0, and
 * then the pointers may be NULL. Safe to call from any thread.
 *
 * Returns how many finite inputs became infinite; always 0 where the target has the wider range.
 */
typedef uint64_t (*uz_cast_fn)(void *restrict dst, const void *restrict src, size_t n_elems);

/* One function a cast; none is NULL. */
struct uz_cast_ops {
    const char *level; /* what it runs on, for messages: "scalar", "avx2+f16c", "avx512", "neon" */
    uz_cast_fn fn[UZ_CAST_COUNT];
};

/* Bits of a feature mask. One bit is one level, set only if all its parts are there. */
enum uz_cpu_feature {
    UZ_CPU_AVX2_F16C = 1u << 0, /* x86: AVX2 and F16C, and an OS that saves their registers */
    UZ_CPU_AVX512 = 1u << 1,    /* x86: the same and AVX-512 F, BW and VL */
    UZ_CPU_NEON = 1u << 2,      /* AArch64: always there */
};

/*
 * The features of the running CPU. Asks the CPU each time (microseconds in a virtual machine), so
 * look once and keep the answer. Safe to call from any thread.
 */
unsigned uz_cpu_features(void);

/*
 * The best table among the levels that the CPU has and `feature_mask` allows: UINT_MAX for the
 * best there is, 0 for scalar code. A mask can only lower. Never NULL; the table is constant and
 * lives as long as the program. Safe to call from any thread; see uz_cpu_features() for its cost.
 */
const struct uz_cast_ops *uz_cast_ops_for(unsigned feature_mask);

/* The name of a cast, such as "f32_to_bf16"; "unknown" for what is no cast. Constant. */
const char *uz_cast_name(enum uz_cast_id id);

/* The levels, for uz_cast_ops_for() and for one another. Others get theirs from uz_cast_ops_for():
 * on a CPU without its features, a level ends in an illegal instruction. */
extern const struct uz_cast_ops uz_cast_ops_scalar;
#if defined(__x86_64__) || defined(__i386__)
extern const struct uz_cast_ops uz_cast_ops_avx2;
extern const struct uz_cast_ops uz_cast_ops_avx512;
#elif defined(__aarch64__) && !defined(__AARCH64EB__)
extern const struct uz_cast_ops uz_cast_ops_neon;
#endif

#endif
