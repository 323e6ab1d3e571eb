/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and applies s/REGEX/REPLACEMENT/. */
#include "out/substitute.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* ---- Reading ---- */

static int refuse(const char *spec, struct uz_error *err, const char *why)
{
    return uz_fail(err, UZ_ARG, "--rename '%s': %s", spec, why);
}

/* The delimiter that ends the part at `text`, or NULL. */
static const char *find_end(const char *text, char delimiter)
{
    for (; *text && *text != delimiter; text++)
        if (*text == '\\' && text[1])
            text++;
    return *text ? text : NULL;
}

static int add_part(struct uz_substitution *sub, const char *text, size_t nbytes, uint32_t group,
                    struct uz_error *err)
{
    struct uz_template_part *part;
    UZ_TRY(UZ_APPEND(sub->parts, sub->n_parts, sub->cap_parts, &part, err));
    *part = (struct uz_template_part){.text = text, .nbytes = nbytes, .group = group};
    return UZ_OK;
}

static int add_group(struct uz_substitution *sub, const char *spec, uint32_t group,
                     struct uz_error *err)
{
    if (group > uz_regex_n_groups(sub->regex))
        return refuse(spec, err, "the replacement names a group that the regular expression lacks");
    return add_part(sub, NULL, 0, group, err);
}

/* Up to two digits. */
static uint32_t read_number(char **text)
{
    uint32_t number = 0;
    for (int i = 0; i < 2 && isdigit((unsigned char)**text); i++, (*text)++)
        number = number * 10 + (uint32_t)(**text - '0');
    return number;
}

/* \g<1> or \g<name>; *text is at the `<`. */
static int read_named(struct uz_substitution *sub, const char *spec, char **text,
                      struct uz_error *err)
{
    char *name = *text + 1, *end = **text == '<' ? strchr(*text, '>') : NULL;
    if (!end || end == name)
        return refuse(spec, err, "\\g wants the number or name of a group: \\g<1>");
    *text = end + 1;
    *end = '\0';
    if (isdigit((unsigned char)*name)) {
        uint32_t number = read_number(&name);
        if (*name)
            return refuse(spec, err, "\\g<...>: not a number from 0 to 99");
        return add_group(sub, spec, number, err);
    }
    uint32_t number = uz_regex_group_number(sub->regex, name);
    if (number == 0)
        return refuse(spec, err, "the replacement names a group that the regular expression lacks");
    return add_group(sub, spec, number, err);
}

/* What follows a backslash at *text. */
static int read_escape(struct uz_substitution *sub, const char *spec, char **text,
                       struct uz_error *err)
{
    char *c = *text;
    if (*c >= '1' && *c <= '9')
        return add_group(sub, spec, read_number(text), err);
    *text = c + 1;
    if (*c == 'g')
        return read_named(sub, spec, text, err);
    if (*c == '\0' || isalnum((unsigned char)*c))
        return refuse(spec, err,
                      "in the replacement \\ stands before the number of a group, g<name>, \\ or "
                      "the delimiter");
    return add_part(sub, c, 1, 0, err);
}

static int read_template(struct uz_substitution *sub, const char *spec, char *text,
                         struct uz_error *err)
{
    while (*text) {
        size_t n = strcspn(text, "\\");
        if (n > 0)
            UZ_TRY(add_part(sub, text, n, 0, err));
        text += n;
        if (*text == '\0')
            break;
        text++;
        UZ_TRY(read_escape(sub, spec, &text, err));
    }
    return UZ_OK;
}

int uz_substitution_parse(struct uz_substitution *sub, const char *spec, struct uz_error *err)
{
    *sub = (struct uz_substitution){0};
    char delimiter = spec[0] == 's' ? spec[1] : '\0';
    if (!ispunct((unsigned char)delimiter) || delimiter == '\\')
        return refuse(spec, err, "not s/REGEX/REPLACEMENT/");
    const char *middle = find_end(spec + 2, delimiter);
    const char *end = middle ? find_end(middle + 1, delimiter) : NULL;
    if (!end)
        return refuse(spec, err, "not s/REGEX/REPLACEMENT/: a delimiter is missing");
    if (end[1] != '\0' && strcmp(end + 1, "g") != 0)
        return refuse(spec, err, "the only flag is g: all matches in a name");
    if (!uz_utf8_valid(spec, strlen(spec)))
        return refuse(spec, err, "not UTF-8");
    sub->all = end[1] == 'g';
    int rc = uz_regex_new(&sub->regex, spec + 2, (size_t)(middle - spec - 2), err);
    if (rc < 0)
        return uz_context(err, rc, "--rename '%s'", spec);
    sub->text = strndup(middle + 1, (size_t)(end - middle - 1));
    if (!sub->text)
        return uz_fail_nomem(err, strlen(spec));
    return read_template(sub, spec, sub->text, err);
}

void uz_substitution_free(struct uz_substitution *sub)
{
    uz_regex_free(sub->regex);
    free(sub->text);
    free(sub->parts);
    *sub = (struct uz_substitution){0};
}

/* ---- Applying ---- */

/* A name in the making; its text is freed by the caller. */
struct result {
    char *text;
    size_t n, cap;
    uint64_t max_nbytes;
};

static int append(struct result *result, const char *text, size_t nbytes, struct uz_error *err)
{
    uint64_t total = (uint64_t)result->n + nbytes;
    if (total > result->max_nbytes)
        return uz_fail(err, UZ_LIMIT, "the new name has more than %llu bytes",
                       (unsigned long long)result->max_nbytes);
    UZ_TRY(uz_reserve(&result->text, &result->cap, total + 1, 1, err));
    memcpy(result->text + result->n, text, nbytes);
    result->n += nbytes;
    return UZ_OK;
}

static int append_template(struct result *result, const struct uz_substitution *sub,
                           const char *name, struct uz_error *err)
{
    for (size_t i = 0; i < sub->n_parts; i++) {
        const struct uz_template_part *part = &sub->parts[i];
        size_t begin, end;
        if (part->text)
            UZ_TRY(append(result, part->text, part->nbytes, err));
        else if (uz_regex_group(sub->regex, part->group, &begin, &end))
            UZ_TRY(append(result, name + begin, end - begin, err));
    }
    return UZ_OK;
}

/* re.sub: behind an empty match the next one may not be empty at the same place. */
static int replace(struct result *result, const struct uz_substitution *sub, const char *name,
                   bool *matched, struct uz_error *err)
{
    size_t nbytes = strlen(name), copied = 0, begin, end;
    enum uz_regex_how how = UZ_REGEX_SEARCH;
    bool found;
    UZ_TRY(uz_regex_find(sub->regex, name, nbytes, 0, how, &found, err));
    *matched = found;
    while (found && uz_regex_group(sub->regex, 0, &begin, &end)) {
        UZ_TRY(append(result, name + copied, begin - copied, err));
        UZ_TRY(append_template(result, sub, name, err));
        copied = end;
        if (!sub->all)
            break;
        how = end == begin ? UZ_REGEX_SEARCH_NONEMPTY : UZ_REGEX_SEARCH;
        UZ_TRY(uz_regex_find(sub->regex, name, nbytes, end, how, &found, err));
    }
    return append(result, name + copied, nbytes - copied, err);
}

int uz_substitute(const struct uz_substitution *sub, const char *name, uint64_t max_nbytes,
                  struct uz_arena *arena, const char **out, bool *matched, struct uz_error *err)
{
    struct result result = {.max_nbytes = max_nbytes};
    int rc = replace(&result, sub, name, matched, err);
    if (rc == UZ_OK && *matched)
        rc = uz_arena_strndup(arena, result.text ? result.text : "", result.n, out, err);
    else if (rc == UZ_OK)
        *out = name;
    free(result.text);
    return rc;
}
