/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expressions against Python's own results, and rules about names against a simple model.
 */
#include <stdlib.h>

#include "base/regex.h"
#include "check.h"
#include "out/names.h"
#include "out/substitute.h"
#include "rng.h"

/* What re.search finds in `text`: bytes of the match and of group 1. text NULL: no such pattern. */
struct searched {
    const char *pattern, *text;
    bool found;
    size_t begin, end, group_begin, group_end;
};

/* What re.sub makes of `text`. */
struct substituted {
    const char *pattern, *replacement, *text, *first, *all;
};

#include "regex_table.h"

#define N_ITEMS(array) (sizeof(array) / sizeof(array)[0])

enum { MAX_NAME = 65536 };

/* ---- As Python ---- */

static void check_search(const struct searched *row)
{
    struct uz_regex *regex;
    struct uz_error err = {0};
    size_t begin = 0, end = 0;
    bool found = false;
    int rc = uz_regex_new(&regex, row->pattern, strlen(row->pattern), &err);
    if (!row->text) {
        CHECK_F(rc == UZ_ARG && strstr(err.message, "at byte"), "'%s' gives %d: %s", row->pattern,
                rc, err.message);
        return;
    }
    if (!CHECK_F(rc == UZ_OK, "%s", err.message))
        return;
    rc = uz_regex_find(regex, row->text, strlen(row->text), 0, UZ_REGEX_SEARCH, &found, &err);
    CHECK_F(rc == UZ_OK && found == row->found, "'%s' in '%s'", row->pattern, row->text);
    CHECK(uz_regex_group(regex, 0, &begin, &end) == found);
    CHECK_F(begin == row->begin && end == row->end, "'%s' in '%s': %zu to %zu", row->pattern,
            row->text, begin, end);
    begin = end = 0;
    (void)uz_regex_group(regex, 1, &begin, &end);
    CHECK_F(begin == row->group_begin && end == row->group_end, "'%s' in '%s': group %zu to %zu",
            row->pattern, row->text, begin, end);
    uz_regex_free(regex);
}

static void test_search(void)
{
    for (size_t i = 0; i < N_ITEMS(searched); i++)
        check_search(&searched[i]);
}

static void check_substitute(const struct substituted *row, bool all)
{
    char spec[256];
    struct uz_substitution sub;
    struct uz_error err = {0};
    struct uz_arena *arena = uz_arena_new(1 << 20);
    const char *result = NULL;
    bool matched;
    (void)snprintf(spec, sizeof spec, "s~%s~%s~%s", row->pattern, row->replacement, all ? "g" : "");
    int rc = uz_substitution_parse(&sub, spec, &err);
    if (rc == UZ_OK)
        rc = uz_substitute(&sub, row->text, MAX_NAME, arena, &result, &matched, &err);
    if (CHECK_F(rc == UZ_OK, "%s: %s", spec, err.message))
        CHECK_F(!strcmp(result, all ? row->all : row->first), "%s makes '%s' of '%s'", spec, result,
                row->text);
    uz_substitution_free(&sub);
    uz_arena_free(arena);
}

static void test_substitute(void)
{
    for (size_t i = 0; i < N_ITEMS(substituted); i++) {
        check_substitute(&substituted[i], false);
        check_substitute(&substituted[i], true);
    }
}

/* Where an error is, counted in the pattern as it was given. */
static void test_position(void)
{
    static const struct {
        const char *pattern, *where;
    } cases[] = {
        {"a\\Zb(", "at byte 5:"}, {"\\v\\v\\v[", "at byte 7:"}, {"[[[[]a{,3}(", "at byte 11:"},
        {"ab\\Qc", "at byte 2:"}, {"a(?<x>b)", "at byte 1:"},   {"a(*FAIL)", "at byte 2:"},
        {"abc\\", "at byte 3:"},
    };
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct uz_regex *regex;
        struct uz_error err;
        int rc = uz_regex_new(&regex, cases[i].pattern, strlen(cases[i].pattern), &err);
        CHECK_EQ_I64(rc, UZ_ARG);
        CHECK_F(strstr(err.message, cases[i].where), "%s", err.message);
    }
}

/* Exponential patterns end in an error, not in a wait. */
static void test_runaway(void)
{
    static const char *const patterns[] = {"^(a+)+$", "^(a|a)*$", "^(.*a){20}$"};
    char text[64];
    memset(text, 'a', sizeof text);
    memcpy(text + sizeof text - 2, "!", 2);
    for (size_t i = 0; i < N_ITEMS(patterns); i++) {
        struct uz_regex *regex;
        struct uz_error err;
        bool found;
        CHECK_EQ_I64(uz_regex_new(&regex, patterns[i], strlen(patterns[i]), &err), UZ_OK);
        int rc = uz_regex_find(regex, text, strlen(text), 0, UZ_REGEX_SEARCH, &found, &err);
        CHECK_F(rc == UZ_LIMIT, "%s gives %d", patterns[i], rc);
        CHECK(strstr(err.message, "too many ways") != NULL);
        uz_regex_free(regex);
    }
}

static void test_match_at_start(void)
{
    struct uz_regex *regex;
    bool found = true;
    CHECK_EQ_I64(uz_regex_new(&regex, "b+", 2, NULL), UZ_OK);
    CHECK_EQ_I64(uz_regex_find(regex, "abb", 3, 0, UZ_REGEX_AT_START, &found, NULL), UZ_OK);
    CHECK(!found);
    CHECK_EQ_I64(uz_regex_find(regex, "abb", 3, 1, UZ_REGEX_AT_START, &found, NULL), UZ_OK);
    CHECK(found);
    uz_regex_free(regex);
}

static void test_wrong_specs(void)
{
    static const struct {
        const char *spec, *why;
    } cases[] = {
        {"", "not s/REGEX"},
        {"s", "not s/REGEX"},
        {"a/b/c/", "not s/REGEX"},
        {"saba", "not s/REGEX"},
        {"s\\a\\b\\", "not s/REGEX"},
        {"s/a", "delimiter is missing"},
        {"s/a/b", "delimiter is missing"},
        {"s/a/b\\/", "delimiter is missing"},
        {"s/a/b/x", "the only flag"},
        {"s/a/b/gg", "the only flag"},
        {"s/(/b/", "at byte 1"},
        {"s/a/\\1/", "lacks"},
        {"s/(a)/\\2/", "lacks"},
        {"s/(a)/\\g<2>/", "lacks"},
        {"s/(?P<x>a)/\\g<y>/", "lacks"},
        {"s/(a)/\\g/", "\\g<1>"},
        {"s/(a)/\\g<>/", "\\g<1>"},
        {"s/(a)/\\g<1/", "\\g<1>"},
        {"s/(a)/\\g<1x>/", "not a number"},
        {"s/(a)/\\g<100>/", "not a number"},
        {"s/a/\\n/", "in the replacement"},
        {"s/a/\\0/", "in the replacement"},
        {"s/a/\xff/", "not UTF-8"},
    };
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct uz_substitution sub;
        struct uz_error err = {0};
        int rc = uz_substitution_parse(&sub, cases[i].spec, &err);
        CHECK_F(rc == UZ_ARG, "%s gives %d", cases[i].spec, rc);
        CHECK_F(strstr(err.message, cases[i].why), "%s: %s", cases[i].spec, err.message);
        uz_substitution_free(&sub);
    }
}

static void test_delimiters(void)
{
    static const char *const cases[][3] = {
        {"s/a\\/b/c\\/d/", "a/b", "c/d"},   {"s|a\\|b|c\\|d|", "a|b", "c|d"},
        {"s,a\\,b,\\,,", "a,b", ","},       {"s.a\\.b.c.", "axb a.b", "axb c"},
        {"s/\\\\/\\\\\\\\/", "\\", "\\\\"}, {"s#/#.#g", "a/b/c", "a.b.c"},
    };
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct uz_substitution sub;
        struct uz_error err = {0};
        struct uz_arena *arena = uz_arena_new(4096);
        const char *result = "";
        bool matched;
        int rc = uz_substitution_parse(&sub, cases[i][0], &err);
        if (rc == UZ_OK)
            rc = uz_substitute(&sub, cases[i][1], MAX_NAME, arena, &result, &matched, &err);
        CHECK_F(rc == UZ_OK, "%s", err.message);
        CHECK_EQ_STR(result, cases[i][2]);
        uz_substitution_free(&sub);
        uz_arena_free(arena);
    }
}

/* ---- Rules ---- */

enum { MAX_NAMES = 12, MAX_RULES = 3 };

/* A case in words of a few letters, which are regular expressions that match themselves. */
struct random_case {
    char names[MAX_NAMES][16];
    size_t n;
    char words[4][MAX_RULES][8];
    size_t n_words[4]; /* includes, excludes, prefixes, renames */
    char replacements[MAX_RULES][8];
    bool all[MAX_RULES];
};

static void random_word(char *word, size_t max)
{
    size_t n = (size_t)rng_range(1, max);
    for (size_t i = 0; i < n; i++)
        word[i] = (char)('a' + rng_below(2));
    word[n] = '\0';
}

static void make_case(struct random_case *c)
{
    memset(c, 0, sizeof *c);
    while (c->n < MAX_NAMES) {
        bool twin = false;
        random_word(c->names[c->n], 8);
        for (size_t i = 0; i < c->n; i++)
            twin |= !strcmp(c->names[i], c->names[c->n]);
        c->n += !twin;
    }
    for (size_t kind = 0; kind < 4; kind++) {
        c->n_words[kind] = (size_t)rng_below(MAX_RULES + 1);
        for (size_t i = 0; i < c->n_words[kind]; i++)
            random_word(c->words[kind][i], 3);
    }
    for (size_t i = 0; i < MAX_RULES; i++) {
        random_word(c->replacements[i], 3);
        c->all[i] = rng_below(2) == 0;
    }
}

/* Replaces one word after another with memmove, from left to right. */
static bool model_rename(char *name, const char *word, const char *by, bool all)
{
    char *at = name;
    bool hit = false;
    while ((at = strstr(at, word)) != NULL) {
        memmove(at + strlen(by), at + strlen(word), strlen(at + strlen(word)) + 1);
        memcpy(at, by, strlen(by));
        at += strlen(by);
        hit = true;
        if (!all)
            break;
    }
    return hit;
}

/* What becomes of one name: false if it is dropped. Marks the rules that fitted. */
static bool model_apply(const struct random_case *c, const char *name, char *result,
                        bool fitted[4][MAX_RULES])
{
    bool included = c->n_words[0] == 0, excluded = false;
    for (size_t i = 0; i < c->n_words[0]; i++)
        if (strstr(name, c->words[0][i]))
            included = fitted[0][i] = true;
    for (size_t i = 0; i < c->n_words[1]; i++)
        if (strstr(name, c->words[1][i]))
            excluded = fitted[1][i] = true;
    if (!included || excluded)
        return false;
    strcpy(result, name);
    for (size_t i = 0; i < c->n_words[2]; i++) {
        size_t n = strlen(c->words[2][i]);
        if (strncmp(result, c->words[2][i], n) != 0)
            continue;
        memmove(result, result + n, strlen(result + n) + 1);
        fitted[2][i] = true;
    }
    for (size_t i = 0; i < c->n_words[3]; i++)
        fitted[3][i] |= model_rename(result, c->words[3][i], c->replacements[i], c->all[i]);
    return true;
}

/* Rules as the library wants them; the texts of renames are made here. */
struct rules {
    const char *lists[4][MAX_RULES];
    char renames[MAX_RULES][32];
    struct uz_name_rules rules;
};

static void make_rules(struct rules *r, const struct random_case *c)
{
    for (size_t kind = 0; kind < 3; kind++)
        for (size_t i = 0; i < c->n_words[kind]; i++)
            r->lists[kind][i] = c->words[kind][i];
    for (size_t i = 0; i < c->n_words[3]; i++) {
        (void)snprintf(r->renames[i], sizeof r->renames[i], "s/%s/%s/%s", c->words[3][i],
                       c->replacements[i], c->all[i] ? "g" : "");
        r->lists[3][i] = r->renames[i];
    }
    r->rules = (struct uz_name_rules){
        .includes = r->lists[0],
        .n_includes = c->n_words[0],
        .excludes = r->lists[1],
        .n_excludes = c->n_words[1],
        .strip_prefixes = r->lists[2],
        .n_strip_prefixes = c->n_words[2],
        .renames = r->lists[3],
        .n_renames = c->n_words[3],
    };
}

/* What the model says of a case. */
struct verdict {
    char names[MAX_NAMES][512]; /* 8 letters, which three renames make 27 times as long at most */
    bool stays[MAX_NAMES];
    bool empty, twins;
    size_t n_useless;
};

static void judge(struct verdict *v, const struct random_case *c)
{
    bool fitted[4][MAX_RULES] = {{false}};
    *v = (struct verdict){0};
    for (size_t i = 0; i < c->n; i++) {
        v->stays[i] = model_apply(c, c->names[i], v->names[i], fitted);
        v->empty |= v->stays[i] && v->names[i][0] == '\0';
        for (size_t k = 0; k < i; k++)
            v->twins |= v->stays[i] && v->stays[k] && !strcmp(v->names[i], v->names[k]);
    }
    for (size_t kind = 0; kind < 4; kind++)
        for (size_t i = 0; i < c->n_words[kind]; i++)
            v->n_useless += !fitted[kind][i];
}

static void check_case(const struct random_case *c, bool strict)
{
    struct rules r;
    struct verdict v;
    struct uz_error err = {0};
    struct uz_notes notes = {.strict = strict};
    struct uz_arena *arena = uz_arena_new(1 << 20);
    const char *names[MAX_NAMES], *renamed[MAX_NAMES];
    make_rules(&r, c);
    judge(&v, c);
    for (size_t i = 0; i < c->n; i++)
        names[i] = c->names[i];
    int rc = uz_names_apply(&r.rules, names, c->n, MAX_NAME, arena, renamed, &notes, &err);
    if (v.empty || v.twins) {
        CHECK_EQ_I64(rc, UZ_ARG);
    } else if (strict && v.n_useless > 0) {
        CHECK_EQ_I64(rc, UZ_MISMATCH);
    } else if (CHECK_F(rc == UZ_OK, "%s", err.message)) {
        CHECK_EQ_U64(notes.n, v.n_useless);
        for (size_t i = 0; i < c->n; i++)
            CHECK_EQ_STR(renamed[i], v.stays[i] ? v.names[i] : NULL);
    }
    uz_notes_free(&notes);
    uz_arena_free(arena);
}

static void test_random_rules(void)
{
    for (int round = 0; round < 3000; round++) {
        struct random_case c;
        make_case(&c);
        check_case(&c, round % 2 == 0);
    }
}

static int apply_rename(const char *rename, const char *const *names, size_t n, uint64_t max_nbytes,
                        struct uz_error *err)
{
    struct uz_notes notes = {0};
    struct uz_arena *arena = uz_arena_new(1 << 20);
    const char *renamed[4];
    struct uz_name_rules rules = {.renames = &rename, .n_renames = 1};
    int rc = uz_names_apply(&rules, names, n, max_nbytes, arena, renamed, &notes, err);
    uz_notes_free(&notes);
    uz_arena_free(arena);
    return rc;
}

static void test_named_errors(void)
{
    static const char *const names[] = {"a.0.w", "b.0.w", "a.1.w"};
    struct uz_error err;
    CHECK_EQ_I64(apply_rename("s/[ab]/x/", names, 3, MAX_NAME, &err), UZ_ARG);
    CHECK_EQ_STR(err.message, "a.0.w and b.0.w would both be named x.0.w");
    CHECK_EQ_I64(apply_rename("s/^b.*$//", names, 3, MAX_NAME, &err), UZ_ARG);
    CHECK_EQ_STR(err.message, "the name b.0.w: nothing is left of the name");
    CHECK_EQ_I64(apply_rename("s/a/aaa/", names, 3, 6, &err), UZ_LIMIT);
    CHECK(strstr(err.message, "the name a.0.w: the new name has more than 6 bytes") != NULL);
    CHECK_EQ_I64(apply_rename("s/a/aa/", names, 3, 6, &err), UZ_OK);
    CHECK_EQ_I64(apply_rename("s/(/aa/", names, 3, 6, &err), UZ_ARG);
}

static void test_rules_are_checked(void)
{
    static const char *const good = "a+", *const bad = "a**";
    struct uz_name_rules rules = {.includes = &good, .n_includes = 1};
    struct uz_error err;
    CHECK_EQ_I64(uz_name_rules_check(&rules, &err), UZ_OK);
    CHECK_EQ_I64(uz_name_rules_check(&rules, NULL), UZ_OK);
    rules.excludes = &bad;
    rules.n_excludes = 1;
    CHECK_EQ_I64(uz_name_rules_check(&rules, &err), UZ_ARG);
    CHECK(strstr(err.message, "--exclude: regular expression 'a**': at byte") != NULL);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"patterns find what Python finds", test_search},
        {"replacements are those of Python", test_substitute},
        {"errors say where", test_position},
        {"no pattern runs for ever", test_runaway},
        {"matches at the start only", test_match_at_start},
        {"wrong renames are refused", test_wrong_specs},
        {"any punctuation is a delimiter", test_delimiters},
        {"rules do what a simple model does", test_random_rules},
        {"errors name names", test_named_errors},
        {"rules are checked before use", test_rules_are_checked},
        CU_TEST_INFO_NULL,
    };
    rng_init();
    return check_run("names", tests);
}
