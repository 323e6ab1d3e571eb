/* SPDX-License-Identifier: Apache-2.0 */
/* XXH3 with the hash so far as its seed. */
#include "base/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t uz_hash_bytes(uint64_t hash, const void *data, size_t nbytes)
{
    return XXH3_64bits_withSeed(data, nbytes, hash);
}

uint64_t uz_hash_u64(uint64_t hash, uint64_t number)
{
    return XXH3_64bits_withSeed(&number, sizeof number, hash);
}
