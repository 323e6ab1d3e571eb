/* SPDX-License-Identifier: Apache-2.0 */
/* The bounded cursor: the only way untrusted bytes in memory are read. */
#ifndef UZ_BASE_CURSOR_H
#define UZ_BASE_CURSOR_H

#include <stdint.h>

#include "base/error.h"

/*
 * A window of bytes that lies at `file_offset` of `file`. Every get fails with UZ_CORRUPT and the
 * offset in the file when fewer bytes are left than it needs, and then moves nothing.
 */
struct uz_cursor {
    const uint8_t *data;
    uint64_t nbytes;
    uint64_t pos;
    const char *file;
    uint64_t file_offset;
};

void uz_cursor_init(struct uz_cursor *cur, const void *data, uint64_t nbytes, const char *file,
                    uint64_t file_offset);

static inline uint64_t uz_cursor_left(const struct uz_cursor *cur)
{
    return cur->nbytes - cur->pos;
}

/* Offset in the file of the next byte. */
static inline uint64_t uz_cursor_offset(const struct uz_cursor *cur)
{
    return cur->file_offset + cur->pos;
}

int uz_get_u8(struct uz_cursor *cur, uint8_t *out, struct uz_error *err);
int uz_get_le16(struct uz_cursor *cur, uint16_t *out, struct uz_error *err);
int uz_get_le32(struct uz_cursor *cur, uint32_t *out, struct uz_error *err);
int uz_get_le64(struct uz_cursor *cur, uint64_t *out, struct uz_error *err);
int uz_get_be64(struct uz_cursor *cur, uint64_t *out, struct uz_error *err);

/* Borrows the next nbytes from the window. */
int uz_get_bytes(struct uz_cursor *cur, uint64_t nbytes, const uint8_t **out, struct uz_error *err);

/* Borrows the bytes before the next '\n', which is consumed too. */
int uz_get_line(struct uz_cursor *cur, const uint8_t **out, uint64_t *nbytes, struct uz_error *err);

#endif
