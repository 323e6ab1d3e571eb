/* SPDX-License-Identifier: Apache-2.0 */
/* Looks names up among literal patterns, and tries the others. */
#include "zero/tp_pattern.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_EXPRESSIONS = 65536 }; /* each is tried with each name */

/* Turns ^model\.norm\.weight$ into model.norm.weight; false if the pattern is not of that kind. */
static bool unescape(const char *text, size_t nbytes, char *name, size_t *name_nbytes)
{
    size_t n = 0;
    if (nbytes < 2 || text[0] != '^' || text[nbytes - 1] != '$')
        return false;
    for (size_t i = 1; i + 1 < nbytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '\\') {
            if (++i + 1 >= nbytes)
                return false; /* the end is an escaped $ */
            c = (unsigned char)text[i];
            if (c < 0x20 || c > 0x7e || isalnum(c))
                return false; /* \d, \1 and the like are no characters */
        } else if (!isalnum(c) && c != '_' && c != '-') {
            return false;
        }
        name[n++] = (char)c;
    }
    *name_nbytes = n;
    return true;
}

static bool has_expression(const struct uz_tp_patterns *patterns, const char *text, size_t nbytes)
{
    for (size_t i = 0; i < patterns->n_expressions; i++) {
        const char *other = patterns->items[patterns->expressions[i]].text;
        if (strlen(other) == nbytes && !memcmp(other, text, nbytes))
            return true;
    }
    return false;
}

int uz_tp_patterns_add(struct uz_tp_patterns *patterns, struct uz_arena *arena, const char *text,
                       size_t nbytes, uint64_t value, struct uz_error *err)
{
    struct uz_tp_pattern *pattern;
    char *name;
    size_t name_nbytes, *expression;
    bool present = false;
    if (!patterns->literals && !(patterns->literals = uz_map_new()))
        return uz_fail_nomem(err, sizeof(void *));
    UZ_TRY(uz_arena_alloc(arena, (uint64_t)nbytes + 1, 1, &name, err));
    bool literal = unescape(text, nbytes, name, &name_nbytes);
    if (literal)
        UZ_TRY(uz_map_add(patterns->literals, name, name_nbytes, patterns->n, &present, err));
    if (present || (!literal && has_expression(patterns, text, nbytes)))
        return UZ_OK;
    UZ_TRY(UZ_APPEND(patterns->items, patterns->n, patterns->cap, &pattern, err));
    pattern->value = value;
    UZ_TRY(uz_arena_strndup(arena, text, nbytes, &pattern->text, err));
    if (literal)
        return UZ_OK;
    if (patterns->n_expressions >= MAX_EXPRESSIONS)
        return uz_fail(err, UZ_LIMIT, "%s has more than %d regular expressions", patterns->key,
                       MAX_EXPRESSIONS);
    UZ_TRY(UZ_APPEND(patterns->expressions, patterns->n_expressions, patterns->cap_expressions,
                     &expression, err));
    *expression = patterns->n - 1;
    return uz_regex_new(&pattern->regex, text, nbytes, err);
}

void uz_tp_patterns_free(struct uz_tp_patterns *patterns)
{
    for (size_t i = 0; i < patterns->n; i++)
        uz_regex_free(patterns->items[i].regex);
    free(patterns->items);
    free(patterns->expressions);
    uz_map_free(patterns->literals);
}

static int ambiguous(const struct uz_tp_patterns *patterns, const char *name, size_t a, size_t b,
                     struct uz_error *err)
{
    return uz_fail(err, UZ_MISMATCH,
                   "Got more than one matching pattern of %s for %s: '%s' and '%s'", patterns->key,
                   name, patterns->items[a].text, patterns->items[b].text);
}

int uz_tp_patterns_match(struct uz_tp_patterns *patterns, const char *name, bool first,
                         const struct uz_tp_pattern **match, struct uz_error *err)
{
    size_t nbytes = strlen(name);
    uint64_t found = UINT64_MAX;
    if (patterns->literals)
        uz_map_get(patterns->literals, name, nbytes, &found);
    for (size_t i = 0; i < patterns->n_expressions; i++) {
        size_t index = patterns->expressions[i];
        bool matches;
        if (first && found < index)
            break;
        UZ_TRY(uz_regex_find(patterns->items[index].regex, name, nbytes, 0, UZ_REGEX_AT_START,
                             &matches, err));
        if (!matches)
            continue;
        if (!first && found != UINT64_MAX)
            return ambiguous(patterns, name, (size_t)found, index, err);
        found = index;
        if (first)
            break;
    }
    *match = NULL;
    if (found == UINT64_MAX)
        return UZ_OK;
    patterns->items[found].used = true;
    *match = &patterns->items[found];
    return UZ_OK;
}
