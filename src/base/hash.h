/* SPDX-License-Identifier: Apache-2.0 */
/* A running 64-bit hash (XXH3) for telling whether two pieces of metadata are equal. */
#ifndef UZ_BASE_HASH_H
#define UZ_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Mixes nbytes of data into the hash so far; start with 0. */
uint64_t uz_hash_bytes(uint64_t hash, const void *data, size_t nbytes);

/* Mixes a number into the hash so far. */
uint64_t uz_hash_u64(uint64_t hash, uint64_t number);

#endif
