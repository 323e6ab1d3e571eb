/* SPDX-License-Identifier: Apache-2.0 */
/* A growing buffer of bytes that formats are written into. */
#ifndef UZ_BASE_BYTES_H
#define UZ_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Start with all zero. Without memory the buffer is marked and takes nothing more, so that a row of
 * additions needs one check at its end.
 */
struct uz_bytes {
    char *data;
    size_t n, cap;
    bool failed;
};

void uz_bytes_add(struct uz_bytes *bytes, const void *data, size_t nbytes);

/* Adds a terminated text without its terminator. */
void uz_bytes_text(struct uz_bytes *bytes, const char *text);

/* Adds the low n_bytes bytes of a number, little-endian; at most 8. */
void uz_bytes_le(struct uz_bytes *bytes, uint64_t number, unsigned n_bytes);

/* Adds one byte n times. */
void uz_bytes_fill(struct uz_bytes *bytes, unsigned char byte, size_t n);

/* UZ_NOMEM if the buffer has failed. */
int uz_bytes_check(const struct uz_bytes *bytes, struct uz_error *err);

void uz_bytes_free(struct uz_bytes *bytes);

#endif
