/* SPDX-License-Identifier: Apache-2.0 */
/* The list of warnings. */
#include "base/notes.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static int append(struct uz_notes *notes, const char *text, struct uz_error *err)
{
    UZ_TRY(
        uz_reserve(&notes->items, &notes->cap, (uint64_t)notes->n + 1, sizeof *notes->items, err));
    char *copy = strdup(text);
    if (!copy)
        return uz_fail_nomem(err, strlen(text));
    notes->items[notes->n++] = copy;
    return UZ_OK;
}

int uz_warn(struct uz_notes *notes, struct uz_error *err, const char *fmt, ...)
{
    char raw[1024], text[sizeof raw * 2];
    va_list args;
    va_start(args, fmt);
    vsnprintf(raw, sizeof raw, fmt, args);
    va_end(args);
    uz_printable(text, sizeof text, raw, strlen(raw));
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
            UZ_TRY(append(notes, from->items[i], err));
    return UZ_OK;
}

void uz_notes_free(struct uz_notes *notes)
{
    for (size_t i = 0; i < notes->n; i++)
        free(notes->items[i]);
    free(notes->items);
    *notes = (struct uz_notes){0};
}
