/* SPDX-License-Identifier: Apache-2.0 */
/* How the library's own code reports a failure: fill the error, return the status. */
#ifndef UZ_BASE_ERROR_H
#define UZ_BASE_ERROR_H

#include <unzero/error.h>

#define UZ_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Returns the failure to the caller as it is. */
#define UZ_TRY(expr)                                                                               \
    do {                                                                                           \
        int uz_try_rc = (expr);                                                                    \
        if (uz_try_rc < 0)                                                                         \
            return uz_try_rc;                                                                      \
    } while (0)

/* Like UZ_TRY inside a function that cleans up under a label; needs an `int rc`. */
#define UZ_TRY_GOTO(expr, label)                                                                   \
    do {                                                                                           \
        rc = (expr);                                                                               \
        if (rc < 0)                                                                                \
            goto label;                                                                            \
    } while (0)

/*
 * uz_fail fills *err (NULL is allowed) with a message and gives back `status`; uz_fail_at does the
 * same about byte `offset` of `file` (NULL and UZ_NO_OFFSET if there is none). They are macros so
 * that the compiler sees the status it is given come back.
 */
#define uz_fail(err, status, ...)                                                                  \
    (uz_fill_error((err), (status), NULL, UZ_NO_OFFSET, __VA_ARGS__), (int)(status))
#define uz_fail_at(err, status, file, offset, ...)                                                 \
    (uz_fill_error((err), (status), (file), (offset), __VA_ARGS__), (int)(status))

void uz_fill_error(struct uz_error *err, int status, const char *file, uint64_t offset,
                   const char *fmt, ...) UZ_PRINTF(5, 6);

/* UZ_IO (UZ_NOMEM for ENOMEM) about `file`; the text of sys_errno is appended. */
int uz_fail_errno(struct uz_error *err, int sys_errno, const char *file, const char *fmt, ...)
    UZ_PRINTF(4, 5);

/* UZ_NOMEM, with the number of bytes that were asked for. */
int uz_fail_nomem(struct uz_error *err, uint64_t nbytes);

/* Puts "context: " before the message of a failure that passes through; returns `status`. */
int uz_context(struct uz_error *err, int status, const char *fmt, ...) UZ_PRINTF(3, 4);

/* Appends what to do to the message of a failure that passes through; returns `status`. */
int uz_hint(struct uz_error *err, int status, const char *hint);

/* Names the file of a failure that has none yet; returns `status`. */
int uz_error_in_file(struct uz_error *err, int status, const char *file);

/*
 * Copies text to buf so that it can be shown on a terminal: control characters and invalid UTF-8
 * become \xNN; cut to size - 1 bytes, between characters. Returns buf.
 */
const char *uz_printable(char *buf, size_t size, const char *text, size_t n_bytes);

#endif
