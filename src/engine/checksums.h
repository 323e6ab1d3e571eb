/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32 of targets whose parts come in any order, from several threads. */
#ifndef UZ_ENGINE_CHECKSUMS_H
#define UZ_ENGINE_CHECKSUMS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "out/target.h"

/* The checksum of bytes [first, first + nbytes) of a target. */
struct uz_checksum {
    size_t target; /* index into uz_out.targets */
    uint64_t first, nbytes;
    uint32_t crc;
};

/*
 * What one thread has seen. Parts that follow one another take one record of 32 bytes; at worst
 * there is one for each target in each chunk, and for each stream piece in each block.
 */
struct uz_checksums {
    struct uz_checksum *items;
    size_t n, cap;
};

void uz_checksums_free(struct uz_checksums *checksums);

/* Takes the bytes from byte `first` of a target on into account. */
int uz_checksums_add(struct uz_checksums *checksums, size_t target, uint64_t first,
                     const void *bytes, size_t nbytes, struct uz_error *err);

/* Adds those of `from`, which is emptied. */
int uz_checksums_join(struct uz_checksums *checksums, struct uz_checksums *from,
                      struct uz_error *err);

/*
 * Fills in the slots of all files of `out` and seals these. Checks that the parts cover each target
 * that has a slot exactly: what else was written would not be what the slot vouches for. Sorts the
 * checksums.
 */
int uz_checksums_fill(struct uz_checksums *checksums, const struct uz_out *out,
                      struct uz_error *err);

#endif
