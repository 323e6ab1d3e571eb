/* SPDX-License-Identifier: Apache-2.0 */
/* Prints errors, warnings and hints. */
#include "cli/message.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#include "cli/command.h"
#include "cli/json.h"
#include "cli/text.h"

/* Holds two paths of the longest kind. */
enum { MESSAGE_SIZE = 16 * 1024 };

/* For faults of the command line, which may lie before --json. */
static bool usage_as_json;

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

void message_usage_as_json(void)
{
    usage_as_json = true;
}

static void MESSAGE_PRINTF(2, 0)
    print_usage_json(const char *command, const char *fmt, va_list args)
{
    struct uz_error err = {.status = UZ_ARG, .offset = UZ_NO_OFFSET};
    vsnprintf(err.message, sizeof err.message, fmt, args);
    json_print_failure(command, &err);
}

int message_usage(const char *command, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    print_line("unzero: ", fmt, args);
    if (usage_as_json)
        print_usage_json(command, fmt, again);
    va_end(again);
    va_end(args);
    if (command)
        message_detail("Try 'unzero %s --help'.", command);
    else
        message_detail("Try 'unzero --help'.");
    return EXIT_USAGE;
}

void message_source(const char *checkpoint, const struct uz_source_info *source)
{
    if (!source->tag)
        return;
    message_detail("Processing zero checkpoint '%s', tag '%s'", checkpoint, source->tag);
    message_detail("Detected checkpoint of type zero stage %d, world_size: %llu",
                   source->zero_stage, (unsigned long long)source->world_size);
    if (*source->ds_version)
        message_detail("Parsing checkpoint created by deepspeed==%s", source->ds_version);
}

int message_failure(const struct uz_error *err)
{
    char text[sizeof err->file + sizeof err->message + 64];
    message("%s", uz_error_format(err, text, sizeof text));
    if (err->status == UZ_NOMEM)
        message_detail("hint: fewer --threads or a lower --max-memory need less");
    return EXIT_TROUBLE;
}
