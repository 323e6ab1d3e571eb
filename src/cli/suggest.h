/* SPDX-License-Identifier: Apache-2.0 */
/* Guesses what a mistyped word was meant to be. */
#ifndef UZ_CLI_SUGGEST_H
#define UZ_CLI_SUGGEST_H

#include <stddef.h>

/* How unlike two words are: 0 the same, 1 one letter added, lost or changed; and so on. */
size_t suggest_distance(const char *a, const char *b);

/* Keeps the better of two guesses at `word`; start with NULL. */
const char *suggest_better(const char *word, const char *best, const char *candidate);

#endif
