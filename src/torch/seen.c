/* SPDX-License-Identifier: Apache-2.0 */
#include "torch/seen.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

int uz_seen_init(struct uz_seen *seen, struct uz_error *err)
{
    seen->n = 0;
    int sys_errno = pthread_mutex_init(&seen->lock, NULL);
    return sys_errno ? uz_fail_errno(err, sys_errno, NULL, "cannot make a lock") : UZ_OK;
}

void uz_seen_free(struct uz_seen *seen)
{
    pthread_mutex_destroy(&seen->lock);
}

struct uz_pickle_digest uz_pickle_digest(const void *pickle, uint64_t nbytes)
{
    XXH128_hash_t hash = XXH3_128bits(pickle, (size_t)nbytes);
    return (struct uz_pickle_digest){hash.low64, hash.high64};
}

static bool has(const struct uz_seen *seen, const struct uz_pickle_digest *digest)
{
    for (size_t i = 0; i < seen->n; i++)
        if (seen->digests[i].low == digest->low && seen->digests[i].high == digest->high)
            return true;
    return false;
}

bool uz_seen_has(struct uz_seen *seen, const struct uz_pickle_digest *digest)
{
    pthread_mutex_lock(&seen->lock);
    bool found = has(seen, digest);
    pthread_mutex_unlock(&seen->lock);
    return found;
}

void uz_seen_add(struct uz_seen *seen, const struct uz_pickle_digest *digest)
{
    pthread_mutex_lock(&seen->lock);
    if (seen->n < UZ_MAX_SEEN && !has(seen, digest))
        seen->digests[seen->n++] = *digest;
    pthread_mutex_unlock(&seen->lock);
}
