/* SPDX-License-Identifier: Apache-2.0 */
/* What folders hold. */
#ifndef UZ_BASE_DIR_H
#define UZ_BASE_DIR_H

#include <stdbool.h>

#include "base/error.h"

/* True if `path` is a folder, or a link to one. */
bool uz_is_dir(const char *path);

/* Told of one name in a folder. Other than UZ_OK ends the walk, which returns it. */
typedef int (*uz_entry_fn)(void *cookie, const char *name, struct uz_error *err);

/*
 * Calls fn for every name in a folder but `.` and `..`, in whatever order the system has them.
 * UZ_IO if it cannot be listed, or not to its end. A positive result of fn ends the walk without
 * failure.
 */
int uz_each_entry(const char *path, uz_entry_fn fn, void *cookie, struct uz_error *err);

#endif
