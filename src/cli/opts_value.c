/* SPDX-License-Identifier: Apache-2.0 */
/* Values of options: words, numbers, sizes, lists. */
#include "cli/opts.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/command.h"
#include "cli/message.h"

enum { MAX_DECIMALS = 6 }; /* times the largest unit, still fits in 64 bits */

static int refuse(const struct opts_command *command, const char *name, const char *text,
                  const char *why)
{
    return message_usage(command->name, "--%s '%s': %s", name, text, why);
}

int opts_read_word(const struct opts_command *command, const char *name, const char *text,
                   const struct opts_word *words, size_t n, size_t n_listed, int *value)
{
    char list[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < n; i++)
        if (!strcmp(words[i].word, text)) {
            *value = words[i].value;
            return 0;
        }
    for (size_t i = 0; i < n_listed && used < sizeof list; i++)
        used +=
            (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", words[i].word);
    return message_usage(command->name, "--%s '%s': not one of: %s", name, text, list);
}

/* Reads digits, moves *text past them; false if there are none or the number is too large. */
static bool read_digits(const char **text, uint64_t *value)
{
    uint64_t v = 0;
    if (!isdigit((unsigned char)**text))
        return false;
    for (; isdigit((unsigned char)**text); (*text)++)
        if (__builtin_mul_overflow(v, 10U, &v) ||
            __builtin_add_overflow(v, (uint64_t)(**text - '0'), &v))
            return false;
    *value = v;
    return true;
}

int opts_read_number(const struct opts_command *command, const char *name, const char *text,
                     unsigned max, unsigned *value)
{
    char why[64];
    const char *p = text;
    uint64_t v;
    if (!read_digits(&p, &v) || *p || v > max) {
        snprintf(why, sizeof why, "not a whole number from 0 to %u", max);
        return refuse(command, name, text, why);
    }
    *value = (unsigned)v;
    return 0;
}

/* Reads what follows the point as millionths. */
static bool read_decimals(const char **text, uint64_t *millionths)
{
    int n = 0;
    *millionths = 0;
    for (; isdigit((unsigned char)**text); (*text)++, n++)
        *millionths = *millionths * 10 + (uint64_t)(**text - '0');
    if (n == 0 || n > MAX_DECIMALS)
        return false;
    for (; n < MAX_DECIMALS; n++)
        *millionths *= 10;
    return true;
}

/* Returns NULL, or what is wrong with the unit. */
static const char *read_unit(const char *text, uint64_t *unit)
{
    static const struct {
        const char *name;
        uint64_t nbytes;
    } units[] = {
        {"", 1},
        {"B", 1},
        {"KB", 1000},
        {"MB", 1000000},
        {"GB", 1000000000},
        {"TB", 1000000000000},
        {"KiB", (uint64_t)1 << 10},
        {"MiB", (uint64_t)1 << 20},
        {"GiB", (uint64_t)1 << 30},
        {"TiB", (uint64_t)1 << 40},
    };
    size_t n = strlen(text);
    if (n >= 2 && text[n - 1] == 'b' && strchr("KMGT", text[0]))
        return "a small b after a capital may mean bits; write B for bytes";
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (!strcasecmp(units[i].name, text)) {
            *unit = units[i].nbytes;
            return NULL;
        }
    return "units are B, KB, MB, GB, TB (powers of 1000), KiB, MiB, GiB and TiB (of 1024)";
}

/* Returns NULL, or what is wrong. */
static const char *read_size(const char *text, uint64_t *nbytes)
{
    uint64_t whole, millionths = 0, unit;
    const char *p = text;
    if (!isdigit((unsigned char)*p))
        return "not a size such as 5GB or 512MiB";
    if (!read_digits(&p, &whole))
        return "too large";
    if (*p == '.') {
        p++;
        if (!read_decimals(&p, &millionths))
            return "wants one to six decimals after the point";
    }
    p += strspn(p, " ");
    const char *why = read_unit(p, &unit);
    if (why)
        return why;
    if (unit == 1 && millionths)
        return "there is no part of a byte";
    if (__builtin_mul_overflow(whole, unit, nbytes) ||
        __builtin_add_overflow(*nbytes, unit * millionths / 1000000, nbytes))
        return "too large";
    return NULL;
}

int opts_read_size(const struct opts_command *command, const char *name, const char *text,
                   uint64_t *nbytes)
{
    uint64_t value;
    const char *why = read_size(text, &value);
    if (why)
        return refuse(command, name, text, why);
    *nbytes = value;
    return 0;
}

int opts_list_add(struct opts_list *list, const char *value)
{
    const char **items = reallocarray(list->items, list->n + 1, sizeof *items);
    if (!items) {
        message("out of memory");
        return EXIT_TROUBLE;
    }
    list->items = items;
    list->items[list->n++] = value;
    return 0;
}

void opts_list_free(struct opts_list *list)
{
    free(list->items);
    *list = (struct opts_list){0};
}
