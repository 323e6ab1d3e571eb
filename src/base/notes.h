/* SPDX-License-Identifier: Apache-2.0 */
/* Things a user should know that are no errors: collected, shown at the end. */
#ifndef UZ_BASE_NOTES_H
#define UZ_BASE_NOTES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct uz_notes {
    bool strict; /* doubts are errors */
    char **items;
    size_t n, cap;
};

/* Appends a warning, escaped as error messages are. */
int uz_warn(struct uz_notes *notes, struct uz_error *err, const char *fmt, ...) UZ_PRINTF(3, 4);

/*
 * The same about data: something is missing, is not what was asked for, or may not be what it
 * seems. UZ_MISMATCH with that text if the notes are strict.
 */
int uz_warn_of_data(struct uz_notes *notes, struct uz_error *err, const char *fmt, ...)
    UZ_PRINTF(3, 4);

/* Appends those of `from` that are not there yet. */
int uz_notes_merge(struct uz_notes *notes, const struct uz_notes *from, struct uz_error *err);

void uz_notes_free(struct uz_notes *notes);

#endif
