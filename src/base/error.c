/* SPDX-License-Identifier: Apache-2.0 */
/* Fills, extends and prints error objects. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static const char *const status_names[] = {
    "OK",          "NOMEM", "IO",       "FORMAT", "CORRUPT",
    "UNSUPPORTED", "LIMIT", "MISMATCH", "ARG",    "CANCELLED",
};

const char *uz_status_name(int status)
{
    size_t n = sizeof status_names / sizeof status_names[0];
    if (status > 0 || status <= -(int)n)
        return "UNKNOWN";
    return status_names[-status];
}

void uz_error_clear(struct uz_error *err)
{
    if (err) {
        memset(err, 0, sizeof *err);
        err->offset = UZ_NO_OFFSET;
    }
}

const char *uz_error_format(const struct uz_error *err, char *buf, size_t size)
{
    char place[64] = "";
    if (err->offset != UZ_NO_OFFSET)
        snprintf(place, sizeof place, "at byte %llu: ", (unsigned long long)err->offset);
    snprintf(buf, size, "%s%s%s%s", err->file, err->file[0] ? ": " : "", place, err->message);
    return buf;
}

/*
 * Bytes of the character at p. *escaped: each of them is shown as \xNN, one at a time.
 */
static size_t next_char(const unsigned char *p, size_t n_bytes, bool *escaped)
{
    size_t n = uz_utf8_char(p, n_bytes);
    bool control = n == 1 && (p[0] < 0x20 || p[0] == 0x7f);
    bool c1 = n == 2 && p[0] == 0xc2 && p[1] < 0xa0;
    *escaped = n == 0 || control || c1;
    return *escaped ? 1 : n;
}

enum { ESCAPED_NBYTES = 4 };

const char *uz_printable(char *buf, size_t size, const char *text, size_t n_bytes)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t used = 0;
    for (size_t i = 0; i < n_bytes;) {
        bool escaped;
        size_t n = next_char(p + i, n_bytes - i, &escaped);
        size_t n_shown = escaped ? ESCAPED_NBYTES : n;
        if (used + n_shown >= size)
            break;
        if (escaped)
            snprintf(buf + used, size - used, "\\x%02x", p[i]);
        else
            memcpy(buf + used, p + i, n);
        used += n_shown;
        i += n;
    }
    buf[used] = '\0';
    return buf;
}

/* Appends what fits to a message, whole characters only. */
static void append(struct uz_error *err, const char *text)
{
    size_t used = strlen(err->message);
    uz_printable(err->message + used, sizeof err->message - used, text, strlen(text));
}

/* The end of a path tells more than its head: a long one begins with "...". */
static void set_file(struct uz_error *err, const char *file)
{
    const unsigned char *p = (const unsigned char *)(file ? file : "");
    size_t n = strlen((const char *)p), room = sizeof err->file - 1, n_shown = 0, first = 0;
    bool escaped;
    for (size_t i = 0, step; i < n; i += step) {
        step = next_char(p + i, n - i, &escaped);
        n_shown += escaped ? ESCAPED_NBYTES : step;
    }
    err->file[0] = '\0';
    if (n_shown > room) {
        memcpy(err->file, "...", 4);
        for (size_t step; n_shown > room - 3; first += step) {
            step = next_char(p + first, n - first, &escaped);
            n_shown -= escaped ? ESCAPED_NBYTES : step;
        }
    }
    size_t used = strlen(err->file);
    uz_printable(err->file + used, sizeof err->file - used, (const char *)p + first, n - first);
}

static void UZ_PRINTF(2, 0) set_message(struct uz_error *err, const char *fmt, va_list args)
{
    char raw[sizeof err->message];
    vsnprintf(raw, sizeof raw, fmt, args);
    uz_printable(err->message, sizeof err->message, raw, strlen(raw));
}

void uz_fill_error(struct uz_error *err, int status, const char *file, uint64_t offset,
                   const char *fmt, ...)
{
    if (!err)
        return;
    uz_error_clear(err);
    err->status = status;
    err->offset = offset;
    set_file(err, file);
    va_list args;
    va_start(args, fmt);
    set_message(err, fmt, args);
    va_end(args);
}

int uz_fail_errno(struct uz_error *err, int sys_errno, const char *file, const char *fmt, ...)
{
    int status = sys_errno == ENOMEM ? UZ_NOMEM : UZ_IO;
    if (err) {
        uz_error_clear(err);
        err->status = status;
        err->sys_errno = sys_errno;
        set_file(err, file);
        va_list args;
        va_start(args, fmt);
        set_message(err, fmt, args);
        va_end(args);
        char reason[128];
        /* the GNU form of strerror_r, the one that -std=gnu11 declares */
        const char *text = strerror_r(sys_errno, reason, sizeof reason);
        append(err, ": ");
        append(err, text);
    }
    return status;
}

int uz_fail_nomem(struct uz_error *err, uint64_t nbytes)
{
    return uz_fail(err, UZ_NOMEM, "out of memory: %llu bytes could not be had",
                   (unsigned long long)nbytes);
}

int uz_context(struct uz_error *err, int status, const char *fmt, ...)
{
    if (err && err->status != UZ_OK) {
        char old[sizeof err->message];
        memcpy(old, err->message, sizeof old);
        va_list args;
        va_start(args, fmt);
        set_message(err, fmt, args);
        va_end(args);
        append(err, ": ");
        append(err, old);
    }
    return status;
}

int uz_hint(struct uz_error *err, int status, const char *hint)
{
    if (err && err->status != UZ_OK)
        append(err, hint);
    return status;
}

int uz_error_in_file(struct uz_error *err, int status, const char *file)
{
    if (err && err->status != UZ_OK && !err->file[0])
        set_file(err, file);
    return status;
}
