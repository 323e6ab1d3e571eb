/* SPDX-License-Identifier: Apache-2.0 */
/* Swaps eight bytes at a time, in loops that compilers turn into vector code. */

#include "bswap.h"

#include <stdint.h>
#include <string.h>

/* Swaps the bytes in each half, quarter or whole of a word: elements that came eight bytes at a
 * time, whatever the byte order of the host. */
static inline uint64_t swap_2(uint64_t word)
{
    const uint64_t low = 0x00ff00ff00ff00ffu;

    return (word & low) << 8 | (word >> 8 & low);
}

static inline uint64_t swap_4(uint64_t word)
{
    uint64_t swapped = __builtin_bswap64(word);

    return swapped << 32 | swapped >> 32;
}

static inline uint64_t swap_8(uint64_t word)
{
    return __builtin_bswap64(word);
}

/* The elements after the last whole word. */
static void copy_reversed(unsigned char *restrict dst, const unsigned char *restrict src,
                          size_t elem_nbytes, size_t n_elems)
{
    for (size_t i = 0; i < n_elems; i++) {
        for (size_t b = 0; b < elem_nbytes; b++) {
            dst[i * elem_nbytes + b] = src[(i + 1) * elem_nbytes - 1 - b];
        }
    }
}

#define SWAP_WORDS(swap)                                                                           \
    for (size_t at = 0; at < n_words * sizeof(word); at += sizeof(word)) {                         \
        memcpy(&word, from + at, sizeof(word));                                                    \
        word = swap(word);                                                                         \
        memcpy(to + at, &word, sizeof(word));                                                      \
    }

void uz_bswap_copy(void *restrict dst, const void *restrict src, size_t elem_nbytes, size_t n_elems)
{
    const unsigned char *from = src;
    unsigned char *to = dst;
    uint64_t word;
    size_t n_words = n_elems * elem_nbytes / sizeof(word);
    size_t n_done = n_words * sizeof(word) / elem_nbytes;

    if (n_elems == 0) {
        return;
    }
    switch (elem_nbytes) {
    case 2:
        SWAP_WORDS(swap_2)
        break;
    case 4:
        SWAP_WORDS(swap_4)
        break;
    case 8:
        SWAP_WORDS(swap_8)
        break;
    default:
        n_done = 0;
        break;
    }
    copy_reversed(to + n_done * elem_nbytes, from + n_done * elem_nbytes, elem_nbytes,
                  n_elems - n_done);
}
