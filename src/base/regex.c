/* SPDX-License-Identifier: Apache-2.0 */
/* Translates the few things that Python writes differently, and asks PCRE2. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/regex.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum {
    MAX_PATTERN_NBYTES = 64 * 1024,
    MAX_STEPS = 1000000,  /* of one match: some hundredths of a second */
    MAX_HEAP_KIB = 16384, /* of one match */
};

struct uz_regex {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *limits;
    int n_taken; /* groups that the last match tells of, with group 0 */
};

/* ---- From Python's syntax to that of PCRE2 ---- */

struct translation {
    const char *pattern;
    size_t nbytes, at; /* the byte that comes next */
    char *out;
    uint32_t *origin; /* of each byte of `out`, in the pattern */
    size_t n_out;
    bool in_class;
};

static int refuse(const struct translation *t, size_t at, struct uz_error *err, const char *why)
{
    return uz_fail(err, UZ_ARG, "regular expression '%.*s': at byte %zu: %s", (int)t->nbytes,
                   t->pattern, at, why);
}

static char peek(const struct translation *t, size_t ahead)
{
    return t->at + ahead < t->nbytes ? t->pattern[t->at + ahead] : '\0';
}

static void put_byte(struct translation *t, char c)
{
    t->out[t->n_out] = c;
    t->origin[t->n_out++] = (uint32_t)t->at;
}

static void put(struct translation *t, const char *text)
{
    for (; *text; text++)
        put_byte(t, *text);
}

/* Copies bytes of the pattern as they are. */
static void copy(struct translation *t, size_t n)
{
    for (; n > 0; n--, t->at++)
        put_byte(t, t->pattern[t->at]);
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static int translate_escape(struct translation *t, struct uz_error *err)
{
    char c = peek(t, 1);
    if (t->at + 1 >= t->nbytes)
        return refuse(t, t->at, err, "a backslash ends it");
    if (c == 'Z' && !t->in_class) {
        put(t, "\\z"); /* Python's \Z is the very end */
        t->at += 2;
    } else if (c == 'v') {
        put(t, "\\x0b"); /* not any vertical space */
        t->at += 2;
    } else if (c == 'x' && !(is_hex(peek(t, 2)) && is_hex(peek(t, 3)))) {
        return refuse(t, t->at, err, "\\x wants two hexadecimal digits");
    } else if (is_letter(c) && !strchr(t->in_class ? "abdDsSwWfnrtx" : "AbBdDsSwWafnrtx", c)) {
        return refuse(t, t->at, err, "Python's re knows no such escape");
    } else {
        copy(t, 2);
    }
    return UZ_OK;
}

/* `(` and what says which kind of group it is. */
static int translate_group(struct translation *t, struct uz_error *err)
{
    char kind = peek(t, 2);
    if (peek(t, 1) == '*')
        return refuse(t, t->at + 1, err, "there is nothing to repeat");
    if (peek(t, 1) != '?') {
        copy(t, 1);
        return UZ_OK;
    }
    bool known = kind && strchr(":=!#(>imsx-", kind);
    if (kind == 'P' || kind == '<')
        known = peek(t, 3) && strchr(kind == 'P' ? "<=" : "=!", peek(t, 3));
    if (!known)
        return refuse(t, t->at, err, "Python's re knows no such group");
    if (kind == '#')
        while (t->at + 1 < t->nbytes && peek(t, 0) != ')')
            copy(t, 1);
    else
        copy(t, 2);
    return UZ_OK;
}

/* {,3} means {0,3}. */
static void translate_brace(struct translation *t)
{
    size_t n = 1;
    copy(t, 1);
    while (is_digit(peek(t, n)))
        n++;
    if (peek(t, 0) == ',' && peek(t, n) == '}')
        put(t, "0");
}

/* `[`, `[^` and a `]` that stands right behind. */
static void open_class(struct translation *t)
{
    t->in_class = true;
    copy(t, peek(t, 1) == '^' ? 2 : 1);
    if (peek(t, 0) == ']')
        copy(t, 1);
}

static int translate_one(struct translation *t, struct uz_error *err)
{
    char c = peek(t, 0);
    if (c == '\0')
        return refuse(t, t->at, err, "it holds a NUL");
    if (c == '\\')
        return translate_escape(t, err);
    if (t->in_class) {
        if (c == '[')
            put(t, "\\"); /* no class of POSIX */
        t->in_class = c != ']';
        copy(t, 1);
    } else if (c == '[') {
        open_class(t);
    } else if (c == '(') {
        return translate_group(t, err);
    } else if (c == '{') {
        translate_brace(t);
    } else {
        copy(t, 1);
    }
    return UZ_OK;
}

static int translate(struct translation *t, struct uz_error *err)
{
    if (t->nbytes > MAX_PATTERN_NBYTES)
        return uz_fail(err, UZ_LIMIT, "a regular expression of %zu bytes; at most %d are allowed",
                       t->nbytes, MAX_PATTERN_NBYTES);
    uint64_t max_out = 2 * (uint64_t)t->nbytes + 1; /* no translation is longer than that */
    UZ_TRY(uz_alloc(&t->out, max_out, 1, err));
    UZ_TRY(uz_alloc(&t->origin, max_out, sizeof *t->origin, err));
    while (t->at < t->nbytes)
        UZ_TRY(translate_one(t, err));
    return UZ_OK;
}

/* ---- Compiling and matching ---- */

static int refuse_code(const struct translation *t, int code, size_t at, struct uz_error *err)
{
    PCRE2_UCHAR why[160];
    if (code == PCRE2_ERROR_HEAP_FAILED)
        return uz_fail_nomem(err, t->n_out);
    if (pcre2_get_error_message(code, why, sizeof why) < 0)
        memcpy(why, "invalid", sizeof "invalid");
    return refuse(t, at < t->n_out ? t->origin[at] : t->nbytes, err, (const char *)why);
}

static int compile(struct uz_regex *regex, const struct translation *t, struct uz_error *err)
{
    int code;
    size_t at;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context || pcre2_set_newline(context, PCRE2_NEWLINE_LF) != 0) {
        pcre2_compile_context_free(context);
        return uz_fail_nomem(err, 0);
    }
    regex->code =
        pcre2_compile((PCRE2_SPTR)t->out, t->n_out, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
                      &code, &at, context);
    pcre2_compile_context_free(context);
    if (!regex->code)
        return refuse_code(t, code, at, err);
    regex->match = pcre2_match_data_create_from_pattern(regex->code, NULL);
    regex->limits = pcre2_match_context_create(NULL);
    if (!regex->match || !regex->limits)
        return uz_fail_nomem(err, 0);
    pcre2_set_match_limit(regex->limits, MAX_STEPS);
    pcre2_set_heap_limit(regex->limits, MAX_HEAP_KIB);
    return UZ_OK;
}

int uz_regex_new(struct uz_regex **out, const char *pattern, size_t nbytes, struct uz_error *err)
{
    struct translation t = {.pattern = pattern, .nbytes = nbytes};
    struct uz_regex *regex;
    UZ_TRY(uz_alloc(&regex, 1, sizeof *regex, err));
    int rc = translate(&t, err);
    if (rc == UZ_OK)
        rc = compile(regex, &t, err);
    free(t.out);
    free(t.origin);
    if (rc < 0) {
        uz_regex_free(regex);
        return rc;
    }
    *out = regex;
    return UZ_OK;
}

void uz_regex_free(struct uz_regex *regex)
{
    if (!regex)
        return;
    pcre2_match_data_free(regex->match);
    pcre2_match_context_free(regex->limits);
    pcre2_code_free(regex->code);
    free(regex);
}

int uz_regex_find(struct uz_regex *regex, const char *text, size_t nbytes, size_t start,
                  enum uz_regex_how how, bool *found, struct uz_error *err)
{
    static const uint32_t options[] = {
        [UZ_REGEX_SEARCH] = 0,
        [UZ_REGEX_SEARCH_NONEMPTY] = PCRE2_NOTEMPTY_ATSTART,
        [UZ_REGEX_AT_START] = PCRE2_ANCHORED,
    };
    int rc = pcre2_match(regex->code, (PCRE2_SPTR)text, nbytes, start, options[how], regex->match,
                         regex->limits);
    regex->n_taken = rc > 0 ? rc : 0;
    *found = rc > 0;
    if (rc > 0 || rc == PCRE2_ERROR_NOMATCH)
        return UZ_OK;
    if (rc == PCRE2_ERROR_NOMEMORY)
        return uz_fail_nomem(err, 0);
    if (rc == PCRE2_ERROR_MATCHLIMIT || rc == PCRE2_ERROR_HEAPLIMIT || rc == PCRE2_ERROR_DEPTHLIMIT)
        return uz_fail(err, UZ_LIMIT,
                       "matching took more than %d steps or %d KiB: the regular expression tries "
                       "too many ways",
                       MAX_STEPS, MAX_HEAP_KIB);
    PCRE2_UCHAR why[160] = "";
    (void)pcre2_get_error_message(rc, why, sizeof why);
    return uz_fail(err, UZ_CORRUPT, "cannot be matched: %s", (const char *)why);
}

bool uz_regex_group(const struct uz_regex *regex, uint32_t group, size_t *begin, size_t *end)
{
    const PCRE2_SIZE *ovector = pcre2_get_ovector_pointer(regex->match);
    if (group >= (uint32_t)regex->n_taken || ovector[2 * group] == PCRE2_UNSET)
        return false;
    *begin = ovector[2 * group];
    *end = ovector[2 * group + 1];
    return true;
}

uint32_t uz_regex_n_groups(const struct uz_regex *regex)
{
    uint32_t n = 0;
    (void)pcre2_pattern_info(regex->code, PCRE2_INFO_CAPTURECOUNT, &n);
    return n;
}

uint32_t uz_regex_group_number(const struct uz_regex *regex, const char *name)
{
    int number = pcre2_substring_number_from_name(regex->code, (PCRE2_SPTR)name);
    return number > 0 ? (uint32_t)number : 0;
}
