/* SPDX-License-Identifier: Apache-2.0 */
/* Escapes text and words numbers. */
#include "cli/text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Well-formed characters of more than one byte: Unicode's table 3-7. */
static const struct {
    unsigned char first_lo, first_hi, second_lo, second_hi, n_bytes;
} utf8_forms[] = {
    {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
    {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
    {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
};

/* Bytes of the character at p, which a NUL ends at the latest; 0: no UTF-8. */
static size_t utf8_size(const unsigned char *p)
{
    if (p[0] < 0x80)
        return 1;
    for (size_t i = 0; i < sizeof utf8_forms / sizeof utf8_forms[0]; i++) {
        if (p[0] < utf8_forms[i].first_lo || p[0] > utf8_forms[i].first_hi)
            continue;
        if (p[1] < utf8_forms[i].second_lo || p[1] > utf8_forms[i].second_hi)
            return 0;
        size_t n = 2;
        while (n < utf8_forms[i].n_bytes && (p[n] & 0xc0) == 0x80)
            n++;
        return n == utf8_forms[i].n_bytes ? n : 0;
    }
    return 0;
}

static bool is_control(const unsigned char *p)
{
    return p[0] < 0x20 || p[0] == 0x7f || (p[0] == 0xc2 && p[1] < 0xa0);
}

/* Puts the character at `text` into `piece`, escaped if it must be; returns the bytes it took. */
static size_t next_piece(char piece[5], const char *text, bool keep_control)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t n = utf8_size(p);
    if (n == 0 || (is_control(p) && !keep_control)) {
        snprintf(piece, 5, "\\x%02x", p[0]);
        return 1;
    }
    memcpy(piece, text, n);
    piece[n] = '\0';
    return n;
}

const char *text_escape(char *buf, size_t size, const char *text)
{
    char piece[5];
    size_t used = 0;
    while (*text) {
        text += next_piece(piece, text, false);
        size_t n = strlen(piece);
        if (used + n >= size)
            break;
        memcpy(buf + used, piece, n);
        used += n;
    }
    buf[used] = '\0';
    return buf;
}

void text_print(FILE *to, const char *text)
{
    char piece[5];
    while (*text) {
        text += next_piece(piece, text, false);
        fputs(piece, to);
    }
}

char *text_to_utf8(const char *text)
{
    char *copy = calloc(strlen(text) + 1, 4); /* an escaped byte takes four */
    char *end = copy;
    while (copy && *text) {
        char piece[5];
        text += next_piece(piece, text, true);
        size_t n = strlen(piece);
        memcpy(end, piece, n);
        end += n;
    }
    return copy;
}

/* Three digits; the limits are where rounding would make a fourth. */
static void print_digits(char *buf, size_t size, double value, const char *unit)
{
    int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(buf, size, "%.*f %s", decimals, value, unit);
}

static void print_nbytes(char *buf, size_t size, double nbytes)
{
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB", "PB", "EB"};
    size_t i = 0;
    while (nbytes >= 999.5 && i + 1 < sizeof units / sizeof units[0]) {
        nbytes /= 1000;
        i++;
    }
    if (i == 0)
        snprintf(buf, size, "%.0f B", nbytes);
    else
        print_digits(buf, size, nbytes, units[i]);
}

struct text_number text_nbytes(uint64_t nbytes)
{
    struct text_number number;
    print_nbytes(number.text, sizeof number.text, (double)nbytes);
    return number;
}

struct text_number text_rate(uint64_t nbytes, double seconds)
{
    struct text_number number = {"-"};
    char size[24];
    if (seconds > 0) {
        print_nbytes(size, sizeof size, (double)nbytes / seconds);
        snprintf(number.text, sizeof number.text, "%s/s", size);
    }
    return number;
}

struct text_number text_seconds(double seconds)
{
    struct text_number number;
    if (seconds < 59.95) {
        print_digits(number.text, sizeof number.text, seconds, "s");
        return number;
    }
    uint64_t whole = (uint64_t)(seconds + 0.5);
    if (whole < 3600)
        snprintf(number.text, sizeof number.text, "%" PRIu64 " min %02" PRIu64 " s", whole / 60,
                 whole % 60);
    else
        snprintf(number.text, sizeof number.text, "%" PRIu64 " h %02" PRIu64 " min", whole / 3600,
                 whole % 3600 / 60);
    return number;
}

struct text_number text_clock(double seconds)
{
    struct text_number number;
    uint64_t whole = (uint64_t)(seconds + 0.5);
    if (whole < 3600)
        snprintf(number.text, sizeof number.text, "%" PRIu64 ":%02" PRIu64, whole / 60, whole % 60);
    else
        snprintf(number.text, sizeof number.text, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64,
                 whole / 3600, whole % 3600 / 60, whole % 60);
    return number;
}

struct text_number text_count(uint64_t n, const char *noun)
{
    struct text_number number;
    snprintf(number.text, sizeof number.text, "%" PRIu64 " %s%s", n, noun, n == 1 ? "" : "s");
    return number;
}

const char *text_shape(char *buf, size_t size, unsigned ndim, const uint64_t *shape)
{
    size_t used = (size_t)snprintf(buf, size, "[");
    for (unsigned i = 0; i < ndim && used + 24 < size; i++)
        used += (size_t)snprintf(buf + used, size - used, "%s%" PRIu64, i ? ", " : "", shape[i]);
    (void)snprintf(buf + used, size - used, "]");
    return buf;
}
