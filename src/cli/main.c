/* SPDX-License-Identifier: Apache-2.0 */
/* The tool: finds the command, runs it, sees to it that what was printed arrived. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <unzero/version.h>

#include "cli/command.h"
#include "cli/message.h"
#include "cli/signals.h"
#include "cli/suggest.h"

static const struct {
    const char *name;
    const char *purpose;
    command_fn run;
} commands[] = {
    {"consolidate", "join the shards into whole weights (safetensors)", cmd_consolidate},
    {"diff", "compare two checkpoints or weight files by values", cmd_diff},
    {"inspect", "say what a checkpoint or weight file is", cmd_inspect},
    {"get", "one tensor: its values, or what they are like", cmd_get},
    {"map", "which bytes of which file hold which part of a tensor", cmd_map},
    {"reshard", "ZeRO shards for another number of ranks or stage", cmd_reshard},
    {"set", "a new checkpoint with other values of one tensor", cmd_set},
    {"universal", "a checkpoint that DeepSpeed loads on any number of ranks", cmd_universal},
    {"verify", "tell whether a checkpoint is sound", cmd_verify},
};

enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static const char usage[] = "usage: unzero COMMAND [OPTION]... ARGUMENT...\n";

void print_version(void)
{
    puts("unzero " UZ_VERSION_STRING);
}

static void print_commands(FILE *to)
{
    fputs("\nCommands:\n", to);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-14s%s\n", commands[i].name, commands[i].purpose);
    fprintf(to, "  %-14s%s\n", "help COMMAND", "explain a command");
}

static void print_help(void)
{
    fputs(usage, stdout);
    fputs("\nTurns sharded DeepSpeed ZeRO checkpoints into what comes next. Needs no Python.\n",
          stdout);
    print_commands(stdout);
    fputs("\nExample:\n"
          "  unzero consolidate checkpoint-500 out/\n"
          "\n'unzero COMMAND --help' tells all about a command. --version prints the version.\n"
          "Exit codes: 0 done; 1 the answer is no; 2 wrong usage; 3 trouble.\n",
          stdout);
}

static command_fn find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (!strcmp(commands[i].name, name))
            return commands[i].run;
    return NULL;
}

/* No command's table of options was looked at yet. */
static void look_for_json(char **argv)
{
    for (; *argv && strcmp(*argv, "--") != 0; argv++)
        if (!strcmp(*argv, "--json"))
            message_usage_as_json();
}

static int refuse_command(const char *name)
{
    const char *best = suggest_better(name, NULL, "help");
    if (name[0] == '-')
        return message_usage(NULL, "unknown option '%s'", name);
    for (size_t i = 0; i < N_COMMANDS; i++)
        best = suggest_better(name, best, commands[i].name);
    if (best)
        return message_usage(NULL, "unknown command '%s': did you mean '%s'?", name, best);
    return message_usage(NULL, "unknown command '%s'", name);
}

/* `unzero help COMMAND` is `unzero COMMAND --help`. */
static int help_on(char *name)
{
    char option[] = "--help";
    char *argv[] = {name, option, NULL};
    command_fn run = find_command(name);
    return run ? run(2, argv) : refuse_command(name);
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        fputs(usage, stderr);
        print_commands(stderr);
        return EXIT_USAGE;
    }
    command_fn run = find_command(argv[1]);
    if (run)
        return run(argc - 1, argv + 1);
    bool help = !strcmp(argv[1], "help");
    if (help && argc > 2)
        return help_on(argv[2]);
    if (help || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
        print_help();
    else if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))
        print_version();
    else {
        look_for_json(argv + 1);
        return refuse_command(argv[1]);
    }
    return EXIT_DONE;
}

/*
 * Takes the numbers of standard streams that are closed, so that no file of ours gets one and the
 * summary ends up inside it. They are opened the wrong way round: using them still fails.
 */
static void guard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

/* A full disk may show only now. A closed stream to which nothing was written is fine. */
static int close_stdout(int code)
{
    bool failed = ferror(stdout) != 0;
    errno = 0;
    if (fclose(stdout) == 0 && !failed)
        return code;
    message("standard output: cannot be written%s%s", errno ? ": " : "",
            errno ? strerror(errno) : "");
    return EXIT_TROUBLE;
}

/*
 * Two costs of reading a thousand shards. libzip turns every entry's time stamp into local time,
 * and without TZ libc examines /etc/localtime each time (no time is shown here). And memory that
 * one shard's values gave back would go to the system, only to be asked for by the next.
 */
static void tune_libc(void)
{
    setenv("TZ", "UTC0", 0);
    mallopt(M_MMAP_THRESHOLD, 16 * 1024 * 1024);
    mallopt(M_TRIM_THRESHOLD, 32 * 1024 * 1024);
}

/* As many open files as may be: opening a thousand shards again and again takes most of the time.
 */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* fewer will do */
    }
}

int main(int argc, char **argv)
{
    guard_streams();
    tune_libc();
    raise_file_limit();
    signals_start();
    int code = close_stdout(dispatch(argc, argv));
    signals_die();
    return code;
}
