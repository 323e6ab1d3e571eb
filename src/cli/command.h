/* SPDX-License-Identifier: Apache-2.0 */
/* What every command gives back, and the commands there are. */
#ifndef UZ_CLI_COMMAND_H
#define UZ_CLI_COMMAND_H

/* Exit codes, the same for all commands. */
enum exit_code {
    EXIT_DONE = 0,
    EXIT_NO = 1, /* ran, and the answer is no */
    EXIT_USAGE = 2,
    EXIT_TROUBLE = 3,
};

/* A command: argv[0] is its name. Returns an exit code. */
typedef int (*command_fn)(int argc, char **argv);

int cmd_consolidate(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_diff(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_get(int argc, char **argv);
int cmd_map(int argc, char **argv);
int cmd_reshard(int argc, char **argv);
int cmd_set(int argc, char **argv);
int cmd_universal(int argc, char **argv);

/* Says on standard output which version this is. */
void print_version(void);

#endif
