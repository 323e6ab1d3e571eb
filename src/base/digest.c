/* SPDX-License-Identifier: Apache-2.0 */
/* The library's streaming state. */
#include "base/digest.h"

#include <stdio.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct uz_digest {
    XXH3_state_t *state;
};

struct uz_digest *uz_digest_new(void)
{
    struct uz_digest *digest = calloc(1, sizeof *digest);
    if (digest)
        digest->state = XXH3_createState();
    if (digest && !digest->state) {
        free(digest);
        return NULL;
    }
    if (digest)
        uz_digest_begin(digest);
    return digest;
}

void uz_digest_free(struct uz_digest *digest)
{
    if (digest)
        XXH3_freeState(digest->state);
    free(digest);
}

void uz_digest_begin(struct uz_digest *digest)
{
    (void)XXH3_128bits_reset(digest->state); /* fails for NULL alone */
}

void uz_digest_add(struct uz_digest *digest, const void *data, size_t nbytes)
{
    (void)XXH3_128bits_update(digest->state, data, nbytes);
}

void uz_digest_text(const struct uz_digest *digest, char text[UZ_DIGEST_TEXT])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(digest->state));
    for (size_t i = 0; i < sizeof canonical.digest; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", canonical.digest[i]);
}
