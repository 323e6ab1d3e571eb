/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON reader on the bounded cursor. */
#include "input/json_pull.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

void uz_json_init(struct uz_json *json, const void *data, uint64_t nbytes, const char *file,
                  uint64_t file_offset)
{
    *json = (struct uz_json){0};
    uz_cursor_init(&json->cur, data, nbytes, file, file_offset);
}

void uz_json_free(struct uz_json *json)
{
    free(json->text);
    *json = (struct uz_json){0};
}

#define fail(json, err, ...)                                                                       \
    uz_fail_at((err), UZ_CORRUPT, (json)->cur.file, uz_cursor_offset(&(json)->cur), __VA_ARGS__)

/* The next byte, which stays; 0 at the end. */
static uint8_t peek(const struct uz_json *json)
{
    return uz_cursor_left(&json->cur) > 0 ? json->cur.data[json->cur.pos] : 0;
}

static bool take(struct uz_json *json, uint8_t byte)
{
    if (uz_cursor_left(&json->cur) == 0 || peek(json) != byte)
        return false;
    json->cur.pos++;
    return true;
}

static void skip_blanks(struct uz_json *json)
{
    while (take(json, ' ') || take(json, '\t') || take(json, '\n') || take(json, '\r'))
        ;
}

static int expect(struct uz_json *json, uint8_t byte, struct uz_error *err)
{
    skip_blanks(json);
    if (!take(json, byte))
        return fail(json, err, "not proper JSON: a '%c' is missing", byte);
    return UZ_OK;
}

static int open_level(struct uz_json *json, uint8_t byte, struct uz_error *err)
{
    UZ_TRY(expect(json, byte, err));
    if (json->depth == UZ_JSON_MAX_DEPTH)
        return fail(json, err, "JSON nested more than %d deep", UZ_JSON_MAX_DEPTH);
    json->filled[json->depth++] = false;
    return UZ_OK;
}

/* Past the comma before the next item, or past the end of the level. */
static int next(struct uz_json *json, uint8_t end, bool *more, struct uz_error *err)
{
    skip_blanks(json);
    *more = !take(json, end);
    if (!*more) {
        json->depth--;
        return UZ_OK;
    }
    if (json->filled[json->depth - 1])
        UZ_TRY(expect(json, ',', err));
    json->filled[json->depth - 1] = true;
    return UZ_OK;
}

int uz_json_open_object(struct uz_json *json, struct uz_error *err)
{
    return open_level(json, '{', err);
}

int uz_json_next_key(struct uz_json *json, bool *more, struct uz_error *err)
{
    UZ_TRY(next(json, '}', more, err));
    if (!*more)
        return UZ_OK;
    UZ_TRY(uz_json_text(json, err));
    return expect(json, ':', err);
}

int uz_json_open_list(struct uz_json *json, struct uz_error *err)
{
    return open_level(json, '[', err);
}

int uz_json_next_item(struct uz_json *json, bool *more, struct uz_error *err)
{
    return next(json, ']', more, err);
}

static int append(struct uz_json *json, const void *bytes, size_t nbytes, struct uz_error *err)
{
    UZ_TRY(
        uz_reserve(&json->text, &json->text_cap, (uint64_t)json->text_nbytes + nbytes + 1, 1, err));
    memcpy(json->text + json->text_nbytes, bytes, nbytes);
    json->text_nbytes += nbytes;
    json->text[json->text_nbytes] = '\0';
    return UZ_OK;
}

static int hex4(struct uz_json *json, uint32_t *value, struct uz_error *err)
{
    const uint8_t *digits;
    UZ_TRY(uz_get_bytes(&json->cur, 4, &digits, err));
    *value = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = digits[i];
        uint8_t digit = c >= '0' && c <= '9'   ? (uint8_t)(c - '0')
                        : c >= 'a' && c <= 'f' ? (uint8_t)(c - 'a' + 10)
                        : c >= 'A' && c <= 'F' ? (uint8_t)(c - 'A' + 10)
                                               : 16;
        if (digit == 16)
            return fail(json, err, "not proper JSON: \\u without four hexadecimal digits");
        *value = *value << 4 | digit;
    }
    return UZ_OK;
}

/* What follows "\u"; characters beyond 16 bits are two of them, a surrogate pair. */
static int unicode_escape(struct uz_json *json, struct uz_error *err)
{
    uint32_t code, low;
    UZ_TRY(hex4(json, &code, err));
    if (code >= 0xd800 && code <= 0xdbff && take(json, '\\') && take(json, 'u')) {
        UZ_TRY(hex4(json, &low, err));
        if (low < 0xdc00 || low > 0xdfff)
            return fail(json, err, "not proper JSON: half a surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xd800 && code <= 0xdfff) {
        return fail(json, err, "not proper JSON: half a surrogate pair");
    }
    uint8_t utf8[4];
    size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        utf8[i] = (uint8_t)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    utf8[0] = (uint8_t)(lead[n] | code);
    return append(json, utf8, n, err);
}

static int escape(struct uz_json *json, struct uz_error *err)
{
    static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    uint8_t byte;
    UZ_TRY(uz_get_u8(&json->cur, &byte, err));
    if (byte == 'u')
        return unicode_escape(json, err);
    const char *at = byte ? strchr(escapes, byte) : NULL;
    if (!at)
        return fail(json, err, "not proper JSON: an unknown escape in a string");
    return append(json, &meanings[at - escapes], 1, err);
}

/* Bytes up to the next quote, escape, or control character. */
static int plain_part(struct uz_json *json, struct uz_error *err)
{
    const uint8_t *from = json->cur.data + json->cur.pos;
    uint64_t left = uz_cursor_left(&json->cur), n = 0;
    while (n < left && from[n] != '"' && from[n] != '\\' && from[n] >= 0x20)
        n++;
    if (!uz_utf8_valid((const char *)from, (size_t)n))
        return fail(json, err, "not proper JSON: a string is not UTF-8");
    UZ_TRY(append(json, from, (size_t)n, err));
    json->cur.pos += n;
    return UZ_OK;
}

int uz_json_text(struct uz_json *json, struct uz_error *err)
{
    json->text_nbytes = 0;
    UZ_TRY(expect(json, '"', err));
    for (;;) {
        UZ_TRY(plain_part(json, err));
        if (take(json, '"'))
            return UZ_OK;
        if (!take(json, '\\'))
            return fail(json, err,
                        "not proper JSON: a string without an end, or with a control "
                        "character");
        UZ_TRY(escape(json, err));
    }
}

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

int uz_json_u64(struct uz_json *json, uint64_t *value, struct uz_error *err)
{
    skip_blanks(json);
    uint64_t start = json->cur.pos;
    *value = 0;
    while (is_digit(peek(json)))
        if (!uz_mul_u64(*value, 10, value) ||
            !uz_add_u64(*value, (uint64_t)(json->cur.data[json->cur.pos++] - '0'), value))
            return fail(json, err, "a number does not fit 64 bits");
    uint64_t n = json->cur.pos - start;
    uint8_t after = peek(json);
    if (n == 0 || (n > 1 && json->cur.data[start] == '0') || after == '.' || after == 'e' ||
        after == 'E')
        return fail(json, err, "a whole number, not negative, must stand here");
    return UZ_OK;
}

static uint64_t skip_digits(struct uz_json *json)
{
    uint64_t start = json->cur.pos;
    while (is_digit(peek(json)))
        json->cur.pos++;
    return json->cur.pos - start;
}

static int skip_number(struct uz_json *json, struct uz_error *err)
{
    bool good;
    (void)take(json, '-');
    good = take(json, '0') || skip_digits(json) > 0;
    if (good && take(json, '.'))
        good = skip_digits(json) > 0;
    if (good && (take(json, 'e') || take(json, 'E'))) {
        if (!take(json, '+'))
            (void)take(json, '-');
        good = skip_digits(json) > 0;
    }
    if (!good)
        return fail(json, err, "not proper JSON: no value stands here");
    return UZ_OK;
}

static int skip_scalar(struct uz_json *json, struct uz_error *err)
{
    static const char *const words[] = {"true", "false", "null"};
    if (peek(json) == '"')
        return uz_json_text(json, err);
    for (size_t i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if (uz_cursor_left(&json->cur) >= n &&
            !memcmp(json->cur.data + json->cur.pos, words[i], n)) {
            json->cur.pos += n;
            return UZ_OK;
        }
    }
    return skip_number(json, err);
}

int uz_json_skip(struct uz_json *json, struct uz_error *err)
{
    bool is_object[UZ_JSON_MAX_DEPTH];
    unsigned outside = json->depth;
    do {
        skip_blanks(json);
        uint8_t byte = peek(json);
        if (byte == '{' || byte == '[') {
            UZ_TRY(open_level(json, byte, err));
            is_object[json->depth - 1] = byte == '{';
        } else {
            UZ_TRY(skip_scalar(json, err));
        }
        /* to the next value: leave all levels that end here */
        for (bool more = false; !more && json->depth > outside;)
            UZ_TRY(is_object[json->depth - 1] ? uz_json_next_key(json, &more, err)
                                              : uz_json_next_item(json, &more, err));
    } while (json->depth > outside);
    return UZ_OK;
}

int uz_json_end(struct uz_json *json, struct uz_error *err)
{
    skip_blanks(json);
    if (uz_cursor_left(&json->cur) > 0)
        return fail(json, err, "bytes follow the end of the JSON");
    return UZ_OK;
}
