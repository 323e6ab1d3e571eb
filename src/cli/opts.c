/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines by tables. */
#include "cli/opts.h"

#include <assert.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/message.h"
#include "cli/suggest.h"

enum { HELP_COLUMN = 28 };

/* All rows of a command, and the same in the forms that getopt_long wants. */
struct table {
    const struct opts_command *command;
    const struct opts_row *rows[OPTS_MAX_ROWS];
    size_t group_of[OPTS_MAX_ROWS];
    size_t n;
    struct option longs[OPTS_MAX_ROWS + 1];
    char shorts[2 * OPTS_MAX_ROWS + 2];
};

static bool has_letter(const struct opts_row *row)
{
    return row->id < OPTS_NO_LETTER;
}

/* The number of the first row with the meaning of row i: spellings of one option share it. */
static size_t first_spelling(const struct table *table, size_t i)
{
    size_t k = 0;
    while (table->group_of[k] != table->group_of[i] || table->rows[k]->id != table->rows[i]->id)
        k++;
    return k;
}

static void add_row(struct table *table, const struct opts_row *row, size_t group)
{
    size_t i = table->n++;
    assert(i < OPTS_MAX_ROWS);
    table->rows[i] = row;
    table->group_of[i] = group;
    table->longs[i] = (struct option){
        .name = row->name,
        .has_arg = row->arg ? required_argument : no_argument,
        .val = OPTS_NO_LETTER + (int)first_spelling(table, i),
    };
}

/* getopt_long gives back a letter, or OPTS_NO_LETTER and the number of the row. */
static void make_table(struct table *table, const struct opts_command *command)
{
    size_t n_shorts = 0;
    *table = (struct table){.command = command};
    for (size_t g = 0; g < command->n_groups; g++)
        for (size_t k = 0; k < command->groups[g]->n_rows; k++)
            add_row(table, &command->groups[g]->rows[k], g);
    table->shorts[n_shorts++] = ':'; /* a missing value is told from an unknown option */
    for (size_t i = 0; i < table->n; i++) {
        if (!has_letter(table->rows[i]))
            continue;
        table->shorts[n_shorts++] = (char)table->rows[i]->id;
        if (table->rows[i]->arg)
            table->shorts[n_shorts++] = ':';
    }
}

/* The number of what getopt_long found; table->n if it is none of the rows. */
static size_t find_found(const struct table *table, int found)
{
    if (found >= OPTS_NO_LETTER)
        return (size_t)(found - OPTS_NO_LETTER);
    for (size_t i = 0; i < table->n; i++)
        if (has_letter(table->rows[i]) && table->rows[i]->id == found)
            return i;
    return table->n;
}

/* The option with this name, or else the first that begins with these letters. */
static const struct opts_row *find_row(const struct table *table, const char *name,
                                       size_t n_letters)
{
    const struct opts_row *found = NULL;
    for (size_t i = table->n; i-- > 0;) {
        if (strncmp(table->rows[i]->name, name, n_letters) != 0)
            continue;
        found = table->rows[i];
        if (found->name[n_letters] == '\0')
            return found;
    }
    return found;
}

/* Does the short option that ends `arg`, such as -vt, want the next argument for its value? */
static bool short_wants_value(const struct table *table, const char *arg)
{
    for (const char *p = arg + 1; *p; p++) {
        size_t i = find_found(table, (unsigned char)*p);
        if (i < table->n && table->rows[i]->arg)
            return p[1] == '\0';
    }
    return false;
}

/* Will a machine read the answer? Not only --json says so: --format json does. */
static bool wants_json(const struct opts_row *row, const char *value)
{
    if (!strcmp(row->name, "json"))
        return true;
    return !strcmp(row->name, "format") && value && !strcmp(value, "json");
}

/*
 * Makes `_` in the names of long options `-`, and leaves values alone. Looks for --json on its way,
 * so that faults of options before it are told in JSON, too.
 */
static void normalize(const struct table *table, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (argv[i][0] != '-')
            continue;
        if (argv[i][1] != '-') {
            if (short_wants_value(table, argv[i]))
                i++;
            continue;
        }
        char *p = argv[i] + 2;
        for (; *p && *p != '='; p++)
            if (*p == '_')
                *p = '-';
        const struct opts_row *row = find_row(table, argv[i] + 2, (size_t)(p - argv[i] - 2));
        if (!row)
            continue;
        if (wants_json(row, *p ? p + 1 : argv[i + 1]))
            message_usage_as_json();
        if (row->arg && *p == '\0')
            i++;
    }
}

static int refuse_unknown(const struct table *table, const char *arg)
{
    const char *best = NULL, *command = table->command->name;
    size_t n_matches = 0;
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(arg + 2, "="), arg + 2);
    for (size_t i = 0; i < table->n; i++) {
        n_matches += !strncmp(table->rows[i]->name, name, strlen(name));
        if (table->rows[i]->help)
            best = suggest_better(name, best, table->rows[i]->name);
    }
    if (n_matches > 1)
        return message_usage(command, "'--%s' may mean more than one option", name);
    if (best)
        return message_usage(command, "unknown option '--%s': did you mean '--%s'?", name, best);
    return message_usage(command, "unknown option '--%s'", name);
}

/* getopt_long gives '?' for several faults; where it stopped tells which. */
static int refuse(const struct table *table, int found, const char *arg)
{
    const char *command = table->command->name;
    size_t i = find_found(table, optopt);
    const struct opts_row *row = i < table->n ? table->rows[i] : NULL;
    if (found == ':' && row)
        return message_usage(command, "--%s wants a value: %s", row->name, row->arg);
    if (arg[0] == '-' && arg[1] == '-') {
        if (optopt && row)
            return message_usage(command, "--%s takes no value", row->name);
        return refuse_unknown(table, arg);
    }
    return message_usage(command, "unknown option '-%c'", optopt);
}

int opts_parse(const struct opts_command *command, int argc, char **argv, void *const *targets)
{
    struct table table;
    make_table(&table, command);
    normalize(&table, argc, argv);
    opterr = 0;
    for (;;) {
        int found = getopt_long(argc, argv, table.shorts, table.longs, NULL);
        if (found == -1)
            return 0;
        if (found == '?' || found == ':')
            return refuse(&table, found, argv[optind - 1]);
        size_t i = find_found(&table, found), g = table.group_of[i];
        int rc = command->groups[g]->take(targets[g], command, table.rows[i]->id, optarg);
        if (rc)
            return rc;
    }
}

static void print_row(const struct opts_row *row)
{
    char head[64];
    char letter[8] = "    ";
    if (row->id < OPTS_NO_LETTER)
        snprintf(letter, sizeof letter, "-%c, ", row->id);
    int n = snprintf(head, sizeof head, "  %s--%s%s%s", letter, row->name, row->arg ? " " : "",
                     row->arg ? row->arg : "");
    printf("%-*s", HELP_COLUMN, head);
    if (n >= HELP_COLUMN)
        printf("\n%*s", HELP_COLUMN, "");
    const char *line = row->help;
    for (;;) {
        size_t n_line = strcspn(line, "\n");
        printf("%.*s\n", (int)n_line, line);
        if (line[n_line] == '\0')
            return;
        line += n_line + 1;
        printf("%*s", HELP_COLUMN, "");
    }
}

void opts_print_help(const struct opts_command *command)
{
    fputs(command->intro, stdout);
    for (size_t g = 0; g < command->n_groups; g++) {
        const struct opts_group *group = command->groups[g];
        if (group->heading)
            printf("\n%s:\n", group->heading);
        for (size_t i = 0; i < group->n_rows; i++)
            if (group->rows[i].help)
                print_row(&group->rows[i]);
    }
    fputs(command->outro, stdout);
}
