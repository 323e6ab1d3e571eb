/* SPDX-License-Identifier: Apache-2.0 */
/* A category of name patterns, matched as Python's re.match does. */
#ifndef UZ_ZERO_TP_PATTERN_H
#define UZ_ZERO_TP_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/regex.h"

struct uz_tp_pattern {
    const char *text;
    struct uz_regex *regex; /* NULL: the pattern names one parameter and is in `literals` */
    uint64_t value;         /* the adder's: what the pattern stands for */
    bool used;
};

/*
 * AutoTP writes a pattern ^name$ for each parameter: those are looked up, not tried one after
 * another.
 */
struct uz_tp_patterns {
    const char *key; /* the category's name in universal_checkpoint_info */
    struct uz_tp_pattern *items;
    size_t n, cap;
    size_t *expressions; /* indices of those with a regex */
    size_t n_expressions, cap_expressions;
    struct uz_map *literals; /* name -> index of the others */
};

/* Adds a pattern (copied to the arena); the same twice counts once, with the first value. */
int uz_tp_patterns_add(struct uz_tp_patterns *patterns, struct uz_arena *arena, const char *text,
                       size_t nbytes, uint64_t value, struct uz_error *err);

void uz_tp_patterns_free(struct uz_tp_patterns *patterns);

/*
 * The pattern that matches the name, NULL if none does; it is marked as used. With `first` the
 * first of several counts, else UZ_MISMATCH names two of them.
 */
int uz_tp_patterns_match(struct uz_tp_patterns *patterns, const char *name, bool first,
                         const struct uz_tp_pattern **match, struct uz_error *err);

#endif
