/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps, strips and renames names, and sees to it that they stay different. */
#include "out/names.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/utf8.h"
#include "out/substitute.h"

/* The rules, ready to be used; which of them has fitted a name is remembered. */
struct compiled {
    const struct uz_name_rules *rules;
    struct uz_regex **includes, **excludes;
    struct uz_substitution *renames;
    bool *included, *excluded, *stripped, *renamed;
};

static int compile_regexes(const char *option, const char *const *patterns, size_t n,
                           struct uz_regex ***regexes, struct uz_error *err)
{
    UZ_TRY(uz_alloc(regexes, n, sizeof **regexes, err));
    for (size_t i = 0; i < n; i++) {
        int rc = uz_regex_new(&(*regexes)[i], patterns[i], strlen(patterns[i]), err);
        if (rc < 0)
            return uz_context(err, rc, "%s", option);
    }
    return UZ_OK;
}

static int compile(struct compiled *c, const struct uz_name_rules *rules, struct uz_error *err)
{
    *c = (struct compiled){.rules = rules};
    UZ_TRY(compile_regexes("--include", rules->includes, rules->n_includes, &c->includes, err));
    UZ_TRY(compile_regexes("--exclude", rules->excludes, rules->n_excludes, &c->excludes, err));
    UZ_TRY(uz_alloc(&c->renames, rules->n_renames, sizeof *c->renames, err));
    for (size_t i = 0; i < rules->n_renames; i++)
        UZ_TRY(uz_substitution_parse(&c->renames[i], rules->renames[i], err));
    for (size_t i = 0; i < rules->n_strip_prefixes; i++)
        if (!uz_utf8_valid(rules->strip_prefixes[i], strlen(rules->strip_prefixes[i])))
            return uz_fail(err, UZ_ARG, "--strip-prefix '%s': not UTF-8", rules->strip_prefixes[i]);
    UZ_TRY(uz_alloc(&c->included, rules->n_includes, sizeof *c->included, err));
    UZ_TRY(uz_alloc(&c->excluded, rules->n_excludes, sizeof *c->excluded, err));
    UZ_TRY(uz_alloc(&c->stripped, rules->n_strip_prefixes, sizeof *c->stripped, err));
    return uz_alloc(&c->renamed, rules->n_renames, sizeof *c->renamed, err);
}

static void release(struct compiled *c)
{
    for (size_t i = 0; c->includes && i < c->rules->n_includes; i++)
        uz_regex_free(c->includes[i]);
    for (size_t i = 0; c->excludes && i < c->rules->n_excludes; i++)
        uz_regex_free(c->excludes[i]);
    for (size_t i = 0; c->renames && i < c->rules->n_renames; i++)
        uz_substitution_free(&c->renames[i]);
    free(c->includes);
    free(c->excludes);
    free(c->renames);
    free(c->included);
    free(c->excluded);
    free(c->stripped);
    free(c->renamed);
}

int uz_name_rules_check(const struct uz_name_rules *rules, struct uz_error *err)
{
    struct compiled c;
    uz_error_clear(err);
    int rc = compile(&c, rules, err);
    release(&c);
    return rc;
}

/* Tries all of them, so that each learns whether it fits anything. */
static int match_any(struct uz_regex *const *regexes, size_t n, const char *name, bool *fitted,
                     bool *any, struct uz_error *err)
{
    *any = false;
    for (size_t i = 0; i < n; i++) {
        bool found;
        UZ_TRY(uz_regex_find(regexes[i], name, strlen(name), 0, UZ_REGEX_SEARCH, &found, err));
        fitted[i] |= found;
        *any |= found;
    }
    return UZ_OK;
}

static int keeps(struct compiled *c, const char *name, bool *stays, struct uz_error *err)
{
    bool included, excluded;
    UZ_TRY(match_any(c->includes, c->rules->n_includes, name, c->included, &included, err));
    UZ_TRY(match_any(c->excludes, c->rules->n_excludes, name, c->excluded, &excluded, err));
    *stays = (included || c->rules->n_includes == 0) && !excluded;
    return UZ_OK;
}

static int rename_one(struct compiled *c, const char *name, uint64_t max_nbytes,
                      struct uz_arena *arena, const char **result, struct uz_error *err)
{
    *result = name;
    for (size_t i = 0; i < c->rules->n_strip_prefixes; i++) {
        size_t n = strlen(c->rules->strip_prefixes[i]);
        if (strncmp(*result, c->rules->strip_prefixes[i], n) != 0)
            continue;
        *result += n;
        c->stripped[i] = true;
    }
    for (size_t i = 0; i < c->rules->n_renames; i++) {
        bool matched;
        UZ_TRY(uz_substitute(&c->renames[i], *result, max_nbytes, arena, result, &matched, err));
        c->renamed[i] |= matched;
    }
    if (**result == '\0')
        return uz_fail(err, UZ_ARG, "nothing is left of the name");
    return UZ_OK;
}

static int apply_to_one(struct compiled *c, const char *name, uint64_t max_nbytes,
                        struct uz_arena *arena, const char **result, struct uz_error *err)
{
    bool stays;
    *result = NULL;
    int rc = keeps(c, name, &stays, err);
    if (rc == UZ_OK && stays)
        rc = rename_one(c, name, max_nbytes, arena, result, err);
    return rc < 0 ? uz_context(err, rc, "the name %s", name) : UZ_OK;
}

static int refuse_twins(const char *const *names, const char *const *renamed, size_t n,
                        struct uz_error *err)
{
    struct uz_map *seen = uz_map_new();
    int rc = seen ? UZ_OK : uz_fail_nomem(err, sizeof(void *));
    for (size_t i = 0; rc == UZ_OK && i < n; i++) {
        uint64_t other = 0;
        if (!renamed[i])
            continue;
        if (uz_map_get(seen, renamed[i], strlen(renamed[i]), &other))
            rc = uz_fail(err, UZ_ARG, "%s and %s would both be named %s", names[other], names[i],
                         renamed[i]);
        else
            rc = uz_map_add(seen, renamed[i], strlen(renamed[i]), i, NULL, err);
    }
    uz_map_free(seen);
    return rc;
}

static int warn_of_useless(const char *option, const char *const *rules, const bool *fitted,
                           size_t n, struct uz_notes *notes, struct uz_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!fitted[i])
            UZ_TRY(uz_warn_of_data(notes, err, "%s '%s' fits no name", option, rules[i]));
    return UZ_OK;
}

static int apply(struct compiled *c, const char *const *names, size_t n, uint64_t max_nbytes,
                 struct uz_arena *arena, const char **renamed, struct uz_notes *notes,
                 struct uz_error *err)
{
    const struct uz_name_rules *rules = c->rules;
    for (size_t i = 0; i < n; i++)
        UZ_TRY(apply_to_one(c, names[i], max_nbytes, arena, &renamed[i], err));
    UZ_TRY(refuse_twins(names, renamed, n, err));
    UZ_TRY(
        warn_of_useless("--include", rules->includes, c->included, rules->n_includes, notes, err));
    UZ_TRY(
        warn_of_useless("--exclude", rules->excludes, c->excluded, rules->n_excludes, notes, err));
    UZ_TRY(warn_of_useless("--strip-prefix", rules->strip_prefixes, c->stripped,
                           rules->n_strip_prefixes, notes, err));
    return warn_of_useless("--rename", rules->renames, c->renamed, rules->n_renames, notes, err);
}

int uz_names_apply(const struct uz_name_rules *rules, const char *const *names, size_t n,
                   uint64_t max_nbytes, struct uz_arena *arena, const char **renamed,
                   struct uz_notes *notes, struct uz_error *err)
{
    struct compiled c;
    if (rules->n_includes + rules->n_excludes + rules->n_strip_prefixes + rules->n_renames == 0) {
        for (size_t i = 0; i < n; i++)
            renamed[i] = names[i];
        return UZ_OK;
    }
    int rc = compile(&c, rules, err);
    if (rc == UZ_OK)
        rc = apply(&c, names, n, max_nbytes, arena, renamed, notes, err);
    release(&c);
    return rc;
}
