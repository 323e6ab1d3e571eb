/* SPDX-License-Identifier: Apache-2.0 */
/* s/REGEX/REPLACEMENT/ as sed writes it, with the regular expressions and groups of Python's re. */
#ifndef UZ_OUT_SUBSTITUTE_H
#define UZ_OUT_SUBSTITUTE_H

#include "base/mem.h"
#include "base/regex.h"

/* A part of a replacement: text, or a group of the match. */
struct uz_template_part {
    const char *text; /* NULL: the group */
    size_t nbytes;
    uint32_t group;
};

struct uz_substitution {
    struct uz_regex *regex;
    char *text; /* owns the texts of the parts */
    struct uz_template_part *parts;
    size_t n_parts, cap_parts;
    bool all; /* flag g: every match, not the first alone */
};

/*
 * Reads "s/REGEX/REPLACEMENT/" or "s/REGEX/REPLACEMENT/g" with any punctuation for `/`. A delimiter
 * behind a backslash does not end a part: in REGEX it means itself, as it does in Python. In
 * REPLACEMENT \1 to \99, \g<1> and \g<name> are groups (empty if they took no part in the match),
 * \\ is a backslash. UZ_ARG if it is wrong. Free with uz_substitution_free, after failures too.
 */
int uz_substitution_parse(struct uz_substitution *sub, const char *spec, struct uz_error *err);

void uz_substitution_free(struct uz_substitution *sub);

/*
 * What becomes of a name, as re.sub does it: in *result, which is `name` itself if nothing matches
 * and else lives in the arena; *matched tells. UZ_LIMIT if it gets more than max_nbytes.
 */
int uz_substitute(const struct uz_substitution *sub, const char *name, uint64_t max_nbytes,
                  struct uz_arena *arena, const char **result, bool *matched, struct uz_error *err);

#endif
