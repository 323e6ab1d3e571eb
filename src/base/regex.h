/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expressions of Python's `re`, on PCRE2, with a bound on the time of a match. */
#ifndef UZ_BASE_REGEX_H
#define UZ_BASE_REGEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct uz_regex;

/*
 * Compiles a pattern (UTF-8) that means what it means in Python's `re` for `str`: what Python does
 * not know is refused, also where PCRE2 does. UZ_ARG with the byte where the pattern is wrong.
 */
int uz_regex_new(struct uz_regex **regex, const char *pattern, size_t nbytes, struct uz_error *err);

/* NULL is allowed. */
void uz_regex_free(struct uz_regex *regex);

enum uz_regex_how {
    UZ_REGEX_SEARCH,          /* anywhere from `start` on: re.search */
    UZ_REGEX_SEARCH_NONEMPTY, /* the same, but an empty match at `start` does not count */
    UZ_REGEX_AT_START,        /* beginning at `start`: re.match */
};

/*
 * Looks for a match in `text` (UTF-8). UZ_LIMIT if that takes more than a bounded number of steps,
 * as patterns such as (a+)+$ do. A regex may be used by one thread at a time.
 */
int uz_regex_find(struct uz_regex *regex, const char *text, size_t nbytes, size_t start,
                  enum uz_regex_how how, bool *found, struct uz_error *err);

/* Bytes [*begin, *end) that a group took in the last match; false if it took no part. 0: all. */
bool uz_regex_group(const struct uz_regex *regex, uint32_t group, size_t *begin, size_t *end);

/* How many groups the pattern has, without group 0. */
uint32_t uz_regex_n_groups(const struct uz_regex *regex);

/* The number of the group that (?P<name>...) names; 0 if there is none. `name` is terminated. */
uint32_t uz_regex_group_number(const struct uz_regex *regex, const char *name);

#endif
