/* SPDX-License-Identifier: Apache-2.0 */
/* The list of warnings. */
#include "base/notes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

int uz_warn(struct uz_notes *notes, struct uz_error *err, const char *fmt, ...)
{
    char raw[1024], text[sizeof raw * 2];
    va_list args;
    va_start(args, fmt);
    vsnprintf(raw, sizeof raw, fmt, args);
    va_end(args);
    uz_printable(text, sizeof text, raw, strlen(raw));
    UZ_TRY(
        uz_reserve(&notes->items, &notes->cap, (uint64_t)notes->n + 1, sizeof *notes->items, err));
    char *copy = strdup(text);
    if (!copy)
        return uz_fail_nomem(err, strlen(text));
    notes->items[notes->n++] = copy;
    return UZ_OK;
}

void uz_notes_free(struct uz_notes *notes)
{
    for (size_t i = 0; i < notes->n; i++)
        free(notes->items[i]);
    free(notes->items);
    *notes = (struct uz_notes){0};
}
