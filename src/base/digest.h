/* SPDX-License-Identifier: Apache-2.0 */
/* XXH3-128 of a stream of bytes. */
#ifndef UZ_BASE_DIGEST_H
#define UZ_BASE_DIGEST_H

#include <stddef.h>

enum { UZ_DIGEST_TEXT = 33 }; /* 32 hexadecimal digits, as xxhsum and Python's xxhash print them */

struct uz_digest;

/* NULL without memory. */
struct uz_digest *uz_digest_new(void);

/* NULL is allowed. */
void uz_digest_free(struct uz_digest *digest);

/* Begins anew, with seed 0. */
void uz_digest_begin(struct uz_digest *digest);

void uz_digest_add(struct uz_digest *digest, const void *data, size_t nbytes);

/* Of all bytes since the beginning; more may be added afterwards. */
void uz_digest_text(const struct uz_digest *digest, char text[UZ_DIGEST_TEXT]);

#endif
