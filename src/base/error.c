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

const char *uz_printable(char *buf, size_t size, const char *text, size_t n_bytes)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t used = 0;
    size_t i = 0;
    while (i < n_bytes) {
        size_t n = uz_utf8_char(p + i, n_bytes - i);
        bool control = n == 1 && (p[i] < 0x20 || p[i] == 0x7f);
        bool c1 = n == 2 && p[i] == 0xc2 && p[i + 1] < 0xa0;
        if (n == 0 || control || c1) {
            if (used + 4 >= size)
                break;
            used += (size_t)snprintf(buf + used, size - used, "\\x%02x", p[i]);
            i++;
        } else {
            if (used + n >= size)
                break;
            memcpy(buf + used, p + i, n);
            used += n;
            i += n;
        }
    }
    buf[used] = '\0';
    return buf;
}

static void set_file(struct uz_error *err, const char *file)
{
    size_t n = file ? strlen(file) : 0;
    size_t room = sizeof err->file - 1;
    if (n > room) { /* the end of a path tells more than its head */
        uz_printable(err->file, sizeof err->file, "...", 3);
        uz_printable(err->file + 3, sizeof err->file - 3, file + (n - room + 3), room - 3);
    } else {
        uz_printable(err->file, sizeof err->file, file ? file : "", n);
    }
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
        size_t used = strlen(err->message);
        snprintf(err->message + used, sizeof err->message - used, ": %s", text);
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
        size_t used = strlen(err->message);
        snprintf(err->message + used, sizeof err->message - used, ": %s", old);
    }
    return status;
}

int uz_error_in_file(struct uz_error *err, int status, const char *file)
{
    if (err && err->status != UZ_OK && !err->file[0])
        set_file(err, file);
    return status;
}
