/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame of a level's casts: included once, at the end, by the file of a level. Arrays are cast
 * in blocks of four steps. A step that narrows casts numbers of ordinary size and notes what it
 * saw; if that says that the block holds a NaN, an infinity or an overflow, which is rare in
 * weights, the scalar code casts the block again and counts. So the rare rules are written only
 * once.
 *
 * The file has defined:
 *   LEVEL, LEVEL_NAME, LEVEL_TARGET   for uz_cast_ops_LEVEL: its name, the attribute of functions
 *   STEP                              elements a step casts
 *   seen_t, nothing_seen(), is_rare(seen, limit)
 *   <from>_to_<to>_step(dst, src, &seen)   for each row of cast.def
 *   LIMIT_F32, LIMIT_BF16, LIMIT_F16  what is_rare() gets, by the dtype cast to
 *   environment_t, set_environment(), restore_environment(saved)
 */

#include <string.h>

#define LEVEL_INLINE         static inline __attribute__((always_inline)) LEVEL_TARGET
#define NAME_OF(level, name) level##_##name
#define NAME_IN(level, name) NAME_OF(level, name)
#define TABLE_OF(level)      uz_cast_ops_##level
#define TABLE_IN(level)      TABLE_OF(level)

enum { BLOCK = 4 * STEP };

/* Bytes of an element, by dtype. */
enum { SIZE_F32 = 4, SIZE_BF16 = 2, SIZE_F16 = 2 };

typedef void (*step_fn)(unsigned char *dst, const unsigned char *src, seen_t *seen);

/* What the loop needs to know of a cast; always a constant, so that it folds away. */
struct kernel {
    step_fn step;
    enum uz_cast_id id;
    int narrows; /* to a dtype of a smaller range or precision */
    int limit;
    size_t src_size, dst_size; /* bytes an element */
};

LEVEL_INLINE uint64_t cast_block(struct kernel k, unsigned char *dst, const unsigned char *src)
{
    seen_t seen = nothing_seen();

    /* By hand: gcc -O2 would keep a loop of four. */
    k.step(dst, src, &seen);
    k.step(dst + STEP * k.dst_size, src + STEP * k.src_size, &seen);
    k.step(dst + 2 * STEP * k.dst_size, src + 2 * STEP * k.src_size, &seen);
    k.step(dst + 3 * STEP * k.dst_size, src + 3 * STEP * k.src_size, &seen);
    if (k.narrows && __builtin_expect(is_rare(seen, k.limit), 0)) {
        return uz_cast_ops_scalar.fn[k.id](dst, src, BLOCK);
    }
    return 0;
}

LEVEL_INLINE uint64_t cast_array(struct kernel k, unsigned char *dst, const unsigned char *src,
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

/* The array function is not inlined: the compiler does not know that the instructions in it depend
 * on the environment, and could move them across its change. */
#define UZ_CAST_ROW(FROM, TO, from, to)                                                            \
    LEVEL_TARGET static __attribute__((noinline))                                                  \
    uint64_t array_##from##_to_##to(void *restrict dst, const void *restrict src, size_t n_elems)  \
    {                                                                                              \
        const struct kernel k = {                                                                  \
            .step = from##_to_##to##_step,                                                         \
            .id = UZ_CAST_##FROM##_TO_##TO,                                                        \
            .narrows = SIZE_##TO == 2,                                                             \
            .limit = LIMIT_##TO,                                                                   \
            .src_size = SIZE_##FROM,                                                               \
            .dst_size = SIZE_##TO,                                                                 \
        };                                                                                         \
                                                                                                   \
        return cast_array(k, dst, src, n_elems);                                                   \
    }                                                                                              \
                                                                                                   \
    LEVEL_TARGET static uint64_t NAME_IN(LEVEL, from##_to_##to)(                                   \
        void *restrict dst, const void *restrict src, size_t n_elems)                              \
    {                                                                                              \
        environment_t saved = set_environment();                                                   \
        uint64_t n_overflows = array_##from##_to_##to(dst, src, n_elems);                          \
                                                                                                   \
        restore_environment(saved);                                                                \
        return n_overflows;                                                                        \
    }
#include "cast.def"
#undef UZ_CAST_ROW

const struct uz_cast_ops TABLE_IN(LEVEL) = {
    .level = LEVEL_NAME,
    .fn =
        {
#define UZ_CAST_ROW(FROM, TO, from, to) [UZ_CAST_##FROM##_TO_##TO] = NAME_IN(LEVEL, from##_to_##to),
#include "cast.def"
#undef UZ_CAST_ROW
        },
};
