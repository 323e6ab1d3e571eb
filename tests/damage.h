/* SPDX-License-Identifier: Apache-2.0 */
/* Damage to the bytes of a zip archive, aimed at one of its parts. */
#ifndef UZ_TESTS_DAMAGE_H
#define UZ_TESTS_DAMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "rng.h"

enum { ZIP_MAX_ENTRIES = 256, DAMAGE_MAX_GROWTH = 512 };

/* Bytes [lo, hi) of a file. */
struct range {
    size_t lo, hi;
};

struct zip_map {
    struct range end, directory;
    struct range pickle; /* content of data.pkl */
    size_t pickle_crc;   /* where the directory keeps its CRC; 0: it is not stored plain */
    struct range headers[ZIP_MAX_ENTRIES];
    struct range data[ZIP_MAX_ENTRIES]; /* contents of data/N that are not empty */
    size_t n_headers, n_data;
};

static inline uint64_t le_at(const uint8_t *data, size_t at, unsigned n_bytes)
{
    uint64_t number = 0;
    for (unsigned i = n_bytes; i-- > 0;)
        number = number << 8 | data[at + i];
    return number;
}

/* Size and place of an entry whose directory record is at `at`, from its zip64 field if need be. */
static inline void zip_entry_place(const uint8_t *data, size_t at, uint64_t *nbytes,
                                   uint64_t *header)
{
    uint64_t packed = le_at(data, at + 20, 4);
    size_t extra = at + 46 + (size_t)le_at(data, at + 28, 2) + 4;
    *nbytes = le_at(data, at + 24, 4);
    *header = le_at(data, at + 42, 4);
    if (*nbytes == UINT32_MAX) {
        *nbytes = le_at(data, extra, 8);
        extra += 8;
    }
    if (packed == UINT32_MAX) {
        packed = le_at(data, extra, 8);
        extra += 8;
    }
    if (*header == UINT32_MAX)
        *header = le_at(data, extra, 8);
    if (le_at(data, at + 10, 2) != 0)
        *nbytes = packed;
}

static inline void zip_map_entry(struct zip_map *map, const uint8_t *data, size_t at)
{
    uint64_t nbytes, header;
    size_t name_nbytes = (size_t)le_at(data, at + 28, 2);
    zip_entry_place(data, at, &nbytes, &header);
    size_t begin =
        (size_t)(header + 30 + le_at(data, header + 26, 2) + le_at(data, header + 28, 2));
    struct range content = {begin, begin + (size_t)nbytes};
    map->headers[map->n_headers++] = (struct range){(size_t)header, begin};
    if (name_nbytes > 9 && memcmp(data + at + 46 + name_nbytes - 9, "/data.pkl", 9) == 0) {
        map->pickle = content;
        map->pickle_crc = le_at(data, at + 10, 2) == 0 ? at + 16 : 0;
    } else if (nbytes > 8) {
        map->data[map->n_data++] = content;
    }
}

/* Maps a sound archive; false if it is none. */
static inline bool zip_map_make(struct zip_map *map, const uint8_t *data, size_t nbytes)
{
    memset(map, 0, sizeof *map);
    size_t end = nbytes < 22 ? 0 : nbytes - 22;
    while (end > 0 && memcmp(data + end, "PK\5\6", 4) != 0)
        end--;
    if (end == 0)
        return false;
    uint64_t directory = le_at(data, end + 16, 4);
    if (directory == UINT32_MAX) /* the zip64 end record comes before its locator of 20 bytes */
        directory = le_at(data, (size_t)le_at(data, end - 12, 8) + 48, 8);
    size_t at = (size_t)directory;
    while (memcmp(data + at, "PK\1\2", 4) == 0 && map->n_headers < ZIP_MAX_ENTRIES) {
        zip_map_entry(map, data, at);
        at += 46 +
              (size_t)(le_at(data, at + 28, 2) + le_at(data, at + 30, 2) + le_at(data, at + 32, 2));
    }
    map->directory = (struct range){(size_t)directory, at};
    map->end = (struct range){at, nbytes};
    return map->pickle.hi > 0;
}

static inline uint32_t crc32_of(const uint8_t *data, size_t nbytes)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < nbytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? UINT32_C(0xedb88320) : 0);
    }
    return ~crc;
}

/* The kinds of damage; those from CUT on change the length of the file. */
enum damage {
    DAMAGE_FLIP,
    DAMAGE_NUMBER, /* an extreme number where one may stand */
    DAMAGE_ZERO,
    DAMAGE_SPLICE, /* bytes of another place of the file */
    DAMAGE_SWAP,
    DAMAGE_CUT,
    DAMAGE_INSERT,
    DAMAGE_REMOVE,
    DAMAGE_DUPLICATE,
    N_DAMAGES
};

static const char *const damage_names[N_DAMAGES] = {
    "bytes flipped", "extreme number", "block zeroed",  "bytes spliced",    "blocks swapped",
    "cut there",     "bytes inserted", "bytes removed", "block duplicated",
};

/* A block of at most `most` bytes in the range, which is not empty. */
static inline struct range damage_block(struct range in, size_t most)
{
    size_t lo = in.lo + (size_t)rng_below(in.hi - in.lo);
    size_t room = in.hi - lo;
    return (struct range){lo, lo + (size_t)rng_range(1, room < most ? room : most)};
}

static inline void damage_flip(uint8_t *data, struct range in)
{
    for (uint64_t n = rng_range(1, 8); n > 0; n--)
        data[in.lo + rng_below(in.hi - in.lo)] ^= (uint8_t)rng_range(1, 255);
}

static inline void damage_number(uint8_t *data, struct range in)
{
    static const uint64_t numbers[] = {0,
                                       1,
                                       0x7f,
                                       0x80,
                                       0xff,
                                       0x7fff,
                                       0xffff,
                                       0x7fffffff,
                                       0x80000000,
                                       0xffffffff,
                                       0x100000000,
                                       0x7fffffffffffffff,
                                       0x8000000000000000,
                                       0xffffffffffffffff,
                                       0xfffffffffffffff8};
    struct range at = damage_block(in, (size_t)1 << rng_below(4));
    uint64_t number = numbers[rng_below(sizeof numbers / sizeof numbers[0])];
    for (size_t i = at.lo; i < at.hi; i++, number >>= 8)
        data[i] = (uint8_t)number;
}

static inline void damage_swap(uint8_t *data, struct range in)
{
    struct range a = damage_block(in, 64);
    size_t n = a.hi - a.lo;
    size_t b = in.lo + (size_t)rng_below(in.hi - in.lo - n + 1);
    for (size_t i = 0; i < n; i++) {
        uint8_t keep = data[a.lo + i];
        data[a.lo + i] = data[b + i];
        data[b + i] = keep;
    }
}

/* Makes room for n bytes at `at`. */
static inline void damage_open_gap(uint8_t *data, size_t *nbytes, size_t at, size_t n)
{
    memmove(data + at + n, data + at, *nbytes - at);
    *nbytes += n;
}

/* Damages *nbytes bytes, which may become DAMAGE_MAX_GROWTH more, in a range that is not empty. */
static inline void damage_do(enum damage kind, uint8_t *data, size_t *nbytes, struct range in)
{
    struct range block = damage_block(in, kind == DAMAGE_INSERT ? 64 : 256);
    size_t n = block.hi - block.lo;
    switch (kind) {
    case DAMAGE_FLIP:
        damage_flip(data, in);
        break;
    case DAMAGE_NUMBER:
        damage_number(data, in);
        break;
    case DAMAGE_ZERO:
        memset(data + block.lo, 0, n);
        break;
    case DAMAGE_SPLICE:
        memmove(data + block.lo, data + rng_below(*nbytes - n + 1), n);
        break;
    case DAMAGE_SWAP:
        damage_swap(data, in);
        break;
    case DAMAGE_CUT:
        *nbytes = block.lo;
        break;
    case DAMAGE_INSERT:
        damage_open_gap(data, nbytes, block.lo, n);
        for (size_t i = block.lo; i < block.hi; i++)
            data[i] = (uint8_t)rng_u64();
        break;
    case DAMAGE_REMOVE:
        memmove(data + block.lo, data + block.hi, *nbytes - block.hi);
        *nbytes -= n;
        break;
    case DAMAGE_DUPLICATE:
    default:
        damage_open_gap(data, nbytes, block.lo, n);
        memcpy(data + block.lo, data + block.hi, n);
        break;
    }
}

#endif
