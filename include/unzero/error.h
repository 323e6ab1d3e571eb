/* SPDX-License-Identifier: Apache-2.0 */
/* What went wrong, where, and why: the one error type of the library. */
#ifndef UNZERO_ERROR_H
#define UNZERO_ERROR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef UZ_API
#define UZ_API __attribute__((visibility("default")))
#endif

/**
 * Result of every fallible function: UZ_OK or a negative status. Values are pinned: they never
 * change their meaning between releases.
 */
enum uz_status {
    UZ_OK = 0,
    /** The system has no memory left. Retrying with a lower --max-memory or fewer threads helps. */
    UZ_NOMEM = -1,
    /** The operating system refused an operation; `sys_errno` says how. */
    UZ_IO = -2,
    /** Not a file or directory of the kind that was asked for. */
    UZ_FORMAT = -3,
    /** The right kind of file, but damaged: cut, overwritten, or inconsistent in itself. */
    UZ_CORRUPT = -4,
    /** A sound file of a layout that this version knows of but does not convert. */
    UZ_UNSUPPORTED = -5,
    /** A cap of struct uz_limits was hit; the input may be hostile, or the cap too low. */
    UZ_LIMIT = -6,
    /** Each file is sound but they do not belong together. */
    UZ_MISMATCH = -7,
    /** The caller passed something impossible: an unknown option value, a target that exists. */
    UZ_ARG = -8,
    /** The progress callback asked to stop. */
    UZ_CANCELLED = -9,
};

/** `offset` of an error that is about no particular byte. */
#define UZ_NO_OFFSET UINT64_MAX

/**
 * Details of one failure. The caller owns it (usually on its stack), and may pass NULL wherever
 * one is taken. Nothing inside needs to be freed. Text is UTF-8 without control characters: bytes
 * of file names and tensor names that could disturb a terminal are written as \xNN.
 */
struct uz_error {
    int status;         /**< enum uz_status, UZ_OK while nothing has failed */
    int sys_errno;      /**< errno of the failed call, 0 if none */
    uint64_t offset;    /**< byte in `file` the message is about, or UZ_NO_OFFSET */
    char file[1024];    /**< path the message is about, "" if none; long paths lose their head */
    char message[1536]; /**< what happened, why, and what to do */
};

/** Makes `err` say that nothing has failed. NULL is allowed. */
UZ_API void uz_error_clear(struct uz_error *err);

/**
 * Writes "FILE: at byte N: MESSAGE" (parts that are absent left out) to buf, cut to `size` bytes
 * and always terminated. Returns buf.
 */
UZ_API const char *uz_error_format(const struct uz_error *err, char *buf, size_t size);

/** Stable upper-case name of a status, such as "CORRUPT"; "UNKNOWN" for a value not listed. */
UZ_API const char *uz_status_name(int status);

#ifdef __cplusplus
}
#endif
#endif
