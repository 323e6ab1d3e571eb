/* SPDX-License-Identifier: Apache-2.0 */
/* Guesses what a mistyped word was meant to be. */
#ifndef UZ_CLI_SUGGEST_H
#define UZ_CLI_SUGGEST_H

/* Keeps the better of two guesses at `word`; start with NULL. */
const char *suggest_better(const char *word, const char *best, const char *candidate);

#endif
