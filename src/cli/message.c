/* SPDX-License-Identifier: Apache-2.0 */
/* Prints errors, warnings and hints. */
#include "cli/message.h"

#include <stdarg.h>
#include <stdio.h>

#include "cli/command.h"
#include "cli/text.h"

/* Holds two paths of the longest kind. */
enum { MESSAGE_SIZE = 16 * 1024 };

static void MESSAGE_PRINTF(2, 0) print_line(const char *prefix, const char *fmt, va_list args)
{
    char raw[MESSAGE_SIZE], line[MESSAGE_SIZE];
    vsnprintf(raw, sizeof raw, fmt, args);
    fprintf(stderr, "%s%s\n", prefix, text_escape(line, sizeof line, raw));
}

void message(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    print_line("unzero: ", fmt, args);
    va_end(args);
}

void message_detail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    print_line("", fmt, args);
    va_end(args);
}

void message_warning(const char *text)
{
    message("warning: %s", text);
}

int message_usage(const char *command, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    print_line("unzero: ", fmt, args);
    va_end(args);
    if (command)
        message_detail("Try 'unzero %s --help'.", command);
    else
        message_detail("Try 'unzero --help'.");
    return EXIT_USAGE;
}

int message_failure(const struct uz_error *err)
{
    char text[sizeof err->file + sizeof err->message + 64];
    message("%s", uz_error_format(err, text, sizeof text));
    if (err->status == UZ_NOMEM)
        message_detail("hint: fewer --threads or a lower --max-memory need less");
    return EXIT_TROUBLE;
}
