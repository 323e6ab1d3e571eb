/* SPDX-License-Identifier: Apache-2.0 */
/* Options of commands: one table makes both the parser and the help. */
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

enum { OPTS_NO_LETTER = 256, OPTS_MAX_ROWS = 48 };

/* A command as its options see it. */
struct opts_command {
    const char *name;
    const char *intro; /* what comes before the options in the help */
    const char *outro; /* and after them */
    const struct opts_row *rows;
    size_t n_rows; /* OPTS_MAX_ROWS at most */
};

/* Takes one option; returns 0, or an exit code after it said what is wrong. */
typedef int (*opts_take_fn)(void *cookie, int id, const char *value);

/*
 * Reads the options, which may stand anywhere before `--`, with getopt_long's rules; in long names
 * `_` is `-`. Calls `take` for each. Afterwards argv + optind lists the other arguments. Returns 0,
 * or an exit code after a message.
 */
int opts_parse(const struct opts_command *command, int argc, char **argv, opts_take_fn take,
               void *cookie);

/* Prints the help on standard output. */
void opts_print_help(const struct opts_command *command);

/* A word that stands for a value. */
struct opts_word {
    const char *word;
    int value;
};

/*
 * These read the value of --NAME. They return 0, or EXIT_USAGE after a message; *value is set only
 * on success.
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

#endif
