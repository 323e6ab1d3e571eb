/* SPDX-License-Identifier: Apache-2.0 */
/* Bounded reads of untrusted bytes. */
#include "base/cursor.h"

#include <string.h>

void uz_cursor_init(struct uz_cursor *cur, const void *data, uint64_t nbytes, const char *file,
                    uint64_t file_offset)
{
    cur->data = data;
    cur->nbytes = nbytes;
    cur->pos = 0;
    cur->file = file;
    cur->file_offset = file_offset;
}

int uz_get_bytes(struct uz_cursor *cur, uint64_t nbytes, const uint8_t **out, struct uz_error *err)
{
    if (nbytes > uz_cursor_left(cur))
        return uz_fail_at(err, UZ_CORRUPT, cur->file, uz_cursor_offset(cur),
                          "ends too early: %llu bytes are needed, %llu are left",
                          (unsigned long long)nbytes, (unsigned long long)uz_cursor_left(cur));
    *out = cur->data + cur->pos;
    cur->pos += nbytes;
    return UZ_OK;
}

static int get_le(struct uz_cursor *cur, size_t nbytes, uint64_t *out, struct uz_error *err)
{
    const uint8_t *p;
    UZ_TRY(uz_get_bytes(cur, nbytes, &p, err));
    uint64_t value = 0;
    for (size_t i = 0; i < nbytes; i++)
        value |= (uint64_t)p[i] << (8 * i);
    *out = value;
    return UZ_OK;
}

int uz_get_u8(struct uz_cursor *cur, uint8_t *out, struct uz_error *err)
{
    const uint8_t *p;
    UZ_TRY(uz_get_bytes(cur, 1, &p, err));
    *out = *p;
    return UZ_OK;
}

int uz_get_le16(struct uz_cursor *cur, uint16_t *out, struct uz_error *err)
{
    uint64_t value;
    UZ_TRY(get_le(cur, 2, &value, err));
    *out = (uint16_t)value;
    return UZ_OK;
}

int uz_get_le32(struct uz_cursor *cur, uint32_t *out, struct uz_error *err)
{
    uint64_t value;
    UZ_TRY(get_le(cur, 4, &value, err));
    *out = (uint32_t)value;
    return UZ_OK;
}

int uz_get_le64(struct uz_cursor *cur, uint64_t *out, struct uz_error *err)
{
    return get_le(cur, 8, out, err);
}

int uz_get_be64(struct uz_cursor *cur, uint64_t *out, struct uz_error *err)
{
    uint64_t value;
    UZ_TRY(get_le(cur, 8, &value, err));
    *out = __builtin_bswap64(value);
    return UZ_OK;
}

int uz_get_line(struct uz_cursor *cur, const uint8_t **out, uint64_t *nbytes, struct uz_error *err)
{
    const uint8_t *start = cur->data + cur->pos;
    const uint8_t *end = NULL;
    if (uz_cursor_left(cur) > 0)
        end = memchr(start, '\n', (size_t)uz_cursor_left(cur));
    if (!end)
        return uz_fail_at(err, UZ_CORRUPT, cur->file, uz_cursor_offset(cur),
                          "a line of text has no end");
    *out = start;
    *nbytes = (uint64_t)(end - start);
    cur->pos += *nbytes + 1;
    return UZ_OK;
}
