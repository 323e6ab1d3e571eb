/* SPDX-License-Identifier: Apache-2.0 */
/* Edit distance between short words. */
#include "cli/suggest.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { LONGEST_WORD = 40 };

static size_t least(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Letters to add, drop or change to get from a to b; row[j] is that between the letters of `a` so
 * far and j letters of b. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[LONGEST_WORD + 1];
    size_t n_a = strlen(a), n_b = strlen(b);
    if (n_a > LONGEST_WORD || n_b > LONGEST_WORD)
        return SIZE_MAX;
    for (size_t j = 0; j <= n_b; j++)
        row[j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            size_t above = row[j];
            row[j] = least(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[n_b];
}

/* A beginning is a good guess; else up to a third of the letters may be wrong. */
static size_t cost(const char *word, const char *candidate)
{
    size_t n = strlen(word);
    if (n >= 2 && !strncmp(word, candidate, n))
        return 0;
    size_t distance = edit_distance(word, candidate);
    return distance <= (n + 2) / 3 ? distance : SIZE_MAX;
}

const char *suggest_better(const char *word, const char *best, const char *candidate)
{
    size_t c = cost(word, candidate);
    if (c == SIZE_MAX)
        return best;
    return !best || c < cost(word, best) ? candidate : best;
}
