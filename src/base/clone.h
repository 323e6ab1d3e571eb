/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of files that cost as little as the file system allows. */
#ifndef UZ_BASE_CLONE_H
#define UZ_BASE_CLONE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum uz_clone_how {
    UZ_CLONE_REFLINK, /* a file of its own that shares blocks until one of the two changes */
    UZ_CLONE_LINK,    /* another name of the same file */
    UZ_CLONE_COPY,    /* copied byte by byte */
};

/* Told of bytes that were copied; non-zero cancels. */
typedef int (*uz_clone_tick_fn)(void *cookie, uint64_t nbytes);

/*
 * Makes `to`, which must not exist, have the contents of the regular file `from` without copying:
 * by reflink where the file system can, else (may_link) as a hard link. *how tells; if it is
 * UZ_CLONE_COPY neither could be done, and nothing was made.
 */
int uz_clone_share(const char *from, const char *to, bool may_link, enum uz_clone_how *how,
                   struct uz_error *err);

/* Copies it. `tick` may be NULL. */
int uz_clone_copy(const char *from, const char *to, uz_clone_tick_fn tick, void *cookie,
                  struct uz_error *err);

#endif
