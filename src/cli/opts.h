/* SPDX-License-Identifier: Apache-2.0 */
/* Options of commands: tables make both the parser and the help. */
#ifndef UZ_CLI_OPTS_H
#define UZ_CLI_OPTS_H

#include <stddef.h>
#include <stdint.h>

struct opts_row {
    int id;           /* the short letter, or a number above all letters */
    const char *name; /* long name, words joined by `-` */
    const char *arg;  /* what the help calls the value; NULL: takes none */
    const char *help; /* lines; NULL: not listed, such as another spelling */
};

enum { OPTS_NO_LETTER = 256, OPTS_MAX_ROWS = 64 };

struct opts_command;

/*
 * Takes the option `id` into *to, a structure of the group's own kind. Returns 0, or an exit code
 * after it said what is wrong.
 */
typedef int (*opts_take_fn)(void *to, const struct opts_command *command, int id,
                            const char *value);

/* Options that belong together. Ids need to differ within a group only. */
struct opts_group {
    const char *heading; /* of a section in the help; NULL: goes on in the section before */
    const struct opts_row *rows;
    size_t n_rows;
    opts_take_fn take;
};

/* A command as its options see it. */
struct opts_command {
    const char *name;
    const char *intro; /* what comes before the options in the help */
    const char *outro; /* and after them */
    const struct opts_group *const *groups;
    size_t n_groups; /* with OPTS_MAX_ROWS rows at most */
};

/*
 * Reads the options, which may stand anywhere before `--`, with getopt_long's rules; in long names
 * `_` is `-`. Options of groups[i] go to targets[i]. Afterwards argv + optind lists the other
 * arguments. Returns 0, or an exit code after a message.
 */
int opts_parse(const struct opts_command *command, int argc, char **argv, void *const *targets);

/* Prints the help on standard output. */
void opts_print_help(const struct opts_command *command);

/* A word that stands for a value. */
struct opts_word {
    const char *word;
    int value;
};

/*
 * These read the value of --NAME. They return 0, or an exit code after a message; *value is set
 * only on success.
 */

/* One of n words; the message lists the first n_listed. */
int opts_read_word(const struct opts_command *command, const char *name, const char *text,
                   const struct opts_word *words, size_t n, size_t n_listed, int *value);

/* A whole number up to `max`. */
int opts_read_number(const struct opts_command *command, const char *name, const char *text,
                     unsigned max, unsigned *value);

/* Bytes: "5000", "5GB", "1.5 GB", "512MiB". */
int opts_read_size(const struct opts_command *command, const char *name, const char *text,
                   uint64_t *nbytes);

/* Values of an option that may be given more than once, borrowed from the command line. */
struct opts_list {
    const char **items;
    size_t n;
};

/* Appends a value. */
int opts_list_add(struct opts_list *list, const char *value);

void opts_list_free(struct opts_list *list);

#endif
