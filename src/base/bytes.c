/* SPDX-License-Identifier: Apache-2.0 */
/* The growing buffer. */
#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Where the next n bytes go; NULL if there is no memory for them. */
static char *grow(struct uz_bytes *bytes, size_t n)
{
    uint64_t need;
    if (bytes->failed || !uz_add_u64(bytes->n, n, &need) ||
        uz_reserve(&bytes->data, &bytes->cap, need, 1, NULL) < 0) {
        bytes->failed = true;
        return NULL;
    }
    char *at = bytes->data + bytes->n;
    bytes->n += n;
    return at;
}

void uz_bytes_add(struct uz_bytes *bytes, const void *data, size_t nbytes)
{
    char *at = nbytes ? grow(bytes, nbytes) : NULL;
    if (at)
        memcpy(at, data, nbytes);
}

void uz_bytes_text(struct uz_bytes *bytes, const char *text)
{
    uz_bytes_add(bytes, text, strlen(text));
}

void uz_bytes_le(struct uz_bytes *bytes, uint64_t number, unsigned n_bytes)
{
    unsigned char raw[8];
    for (unsigned i = 0; i < n_bytes; i++)
        raw[i] = (unsigned char)(number >> 8 * i);
    uz_bytes_add(bytes, raw, n_bytes);
}

void uz_bytes_fill(struct uz_bytes *bytes, unsigned char byte, size_t n)
{
    char *at = n ? grow(bytes, n) : NULL;
    if (at)
        memset(at, byte, n);
}

int uz_bytes_check(const struct uz_bytes *bytes, struct uz_error *err)
{
    return bytes->failed ? uz_fail_nomem(err, bytes->n) : UZ_OK;
}

void uz_bytes_free(struct uz_bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct uz_bytes){0};
}
