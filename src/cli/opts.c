/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines by table. */
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

/* The table in the forms that getopt_long wants. */
struct getopt_tables {
    struct option longs[OPTS_MAX_ROWS + 1];
    char shorts[2 * OPTS_MAX_ROWS + 2];
};

static void make_tables(struct getopt_tables *tables, const struct opts_command *command)
{
    size_t n_shorts = 0;
    assert(command->n_rows <= OPTS_MAX_ROWS);
    *tables = (struct getopt_tables){0};
    tables->shorts[n_shorts++] = ':'; /* a missing value is told from an unknown option */
    for (size_t i = 0; i < command->n_rows; i++) {
        const struct opts_row *row = &command->rows[i];
        tables->longs[i] = (struct option){
            .name = row->name,
            .has_arg = row->arg ? required_argument : no_argument,
            .val = row->id,
        };
        if (row->id >= OPTS_NO_LETTER)
            continue;
        tables->shorts[n_shorts++] = (char)row->id;
        if (row->arg)
            tables->shorts[n_shorts++] = ':';
    }
}

/* The row of the first option that begins with these letters. */
static const struct opts_row *find_row(const struct opts_command *command, const char *name,
                                       size_t n_letters)
{
    for (size_t i = 0; i < command->n_rows; i++)
        if (!strncmp(command->rows[i].name, name, n_letters))
            return &command->rows[i];
    return NULL;
}

static const struct opts_row *find_id(const struct opts_command *command, int id)
{
    for (size_t i = 0; i < command->n_rows; i++)
        if (command->rows[i].id == id)
            return &command->rows[i];
    return NULL;
}

/* Does the short option that ends `arg`, such as -vt, want the next argument for its value? */
static bool short_wants_value(const struct opts_command *command, const char *arg)
{
    for (const char *p = arg + 1; *p; p++) {
        const struct opts_row *row = find_id(command, (unsigned char)*p);
        if (row && row->arg)
            return p[1] == '\0';
    }
    return false;
}

/* Makes `_` in the names of long options `-`, and leaves values alone. */
static void normalize(const struct opts_command *command, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (argv[i][0] != '-')
            continue;
        if (argv[i][1] != '-') {
            if (short_wants_value(command, argv[i]))
                i++;
            continue;
        }
        char *p = argv[i] + 2;
        for (; *p && *p != '='; p++)
            if (*p == '_')
                *p = '-';
        const struct opts_row *row = find_row(command, argv[i] + 2, (size_t)(p - argv[i] - 2));
        if (row && row->arg && *p == '\0')
            i++;
    }
}

static int refuse_unknown(const struct opts_command *command, const char *arg)
{
    const char *best = NULL;
    size_t n_matches = 0;
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(arg + 2, "="), arg + 2);
    for (size_t i = 0; i < command->n_rows; i++) {
        n_matches += !strncmp(command->rows[i].name, name, strlen(name));
        if (command->rows[i].help)
            best = suggest_better(name, best, command->rows[i].name);
    }
    if (n_matches > 1)
        return message_usage(command->name, "'--%s' may mean more than one option", name);
    if (best)
        return message_usage(command->name, "unknown option '--%s': did you mean '--%s'?", name,
                             best);
    return message_usage(command->name, "unknown option '--%s'", name);
}

/* getopt_long gives '?' for several faults; where it stopped tells which. */
static int refuse(const struct opts_command *command, int found, const char *arg)
{
    const struct opts_row *row = find_id(command, optopt);
    if (found == ':' && row)
        return message_usage(command->name, "--%s wants a value: %s", row->name, row->arg);
    if (arg[0] == '-' && arg[1] == '-') {
        if (optopt && row)
            return message_usage(command->name, "--%s takes no value", row->name);
        return refuse_unknown(command, arg);
    }
    return message_usage(command->name, "unknown option '-%c'", optopt);
}

int opts_parse(const struct opts_command *command, int argc, char **argv, opts_take_fn take,
               void *cookie)
{
    struct getopt_tables tables;
    make_tables(&tables, command);
    normalize(command, argc, argv);
    opterr = 0;
    for (;;) {
        int id = getopt_long(argc, argv, tables.shorts, tables.longs, NULL);
        if (id == -1)
            return 0;
        if (id == '?' || id == ':')
            return refuse(command, id, argv[optind - 1]);
        int rc = take(cookie, id, optarg);
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
    puts("\nOptions:");
    for (size_t i = 0; i < command->n_rows; i++)
        if (command->rows[i].help)
            print_row(&command->rows[i]);
    fputs(command->outro, stdout);
}
