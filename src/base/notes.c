/* SPDX-License-Identifier: Apache-2.0 */
/* The list of warnings. */
#include "base/notes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { MAX_NBYTES = 1024 };

/* Appends a copy of a text that is escaped already. */
static int append_text(struct uz_notes *notes, const char *text, struct uz_error *err)
{
    UZ_TRY(
        uz_reserve(&notes->items, &notes->cap, (uint64_t)notes->n + 1, sizeof *notes->items, err));
    char *copy = strdup(text);
    if (!copy)
        return uz_fail_nomem(err, strlen(text));
    notes->items[notes->n++] = copy;
    return UZ_OK;
}

static int append(struct uz_notes *notes, const char *raw, struct uz_error *err)
{
    char text[2 * MAX_NBYTES];
    uz_printable(text, sizeof text, raw, strlen(raw));
    return append_text(notes, text, err);
}

int uz_warn(struct uz_notes *notes, struct uz_error *err, const char *fmt, ...)
{
    char text[MAX_NBYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return append(notes, text, err);
}

int uz_warn_of_data(struct uz_notes *notes, struct uz_error *err, const char *fmt, ...)
{
    char text[MAX_NBYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (notes->strict)
        return uz_fail(err, UZ_MISMATCH, "%s (an error because of --strict)", text);
    return append(notes, text, err);
}

static bool has(const struct uz_notes *notes, const char *text)
{
    for (size_t i = 0; i < notes->n; i++)
        if (!strcmp(notes->items[i], text))
            return true;
    return false;
}

int uz_notes_merge(struct uz_notes *notes, const struct uz_notes *from, struct uz_error *err)
{
    for (size_t i = 0; i < from->n; i++)
        if (!has(notes, from->items[i]))
            UZ_TRY(append_text(notes, from->items[i], err));
    return UZ_OK;
}

void uz_notes_free(struct uz_notes *notes)
{
    for (size_t i = 0; i < notes->n; i++)
        free(notes->items[i]);
    free(notes->items);
    *notes = (struct uz_notes){0};
}
