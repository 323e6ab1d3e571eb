/* SPDX-License-Identifier: Apache-2.0 */
/* What goes to standard error. Text from outside is escaped on the way. */
#ifndef UZ_CLI_MESSAGE_H
#define UZ_CLI_MESSAGE_H

#include <unzero/error.h>
#include <unzero/input.h>

#define MESSAGE_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* "unzero: TEXT" */
void message(const char *fmt, ...) MESSAGE_PRINTF(1, 2);

/* "unzero: warning: TEXT" */
void message_warning(const char *text);

/* A line without the tool's name: details that were asked for. */
void message_detail(const char *fmt, ...) MESSAGE_PRINTF(1, 2);

/* From here on message_usage prints JSON on standard output, too: --json was given. */
void message_usage_as_json(void);

/* "unzero: TEXT" and where to find help on `command` (NULL: on the tool). Returns EXIT_USAGE. */
int message_usage(const char *command, const char *fmt, ...) MESSAGE_PRINTF(2, 3);

/* Says which checkpoint was read, if it was one, in words that zero_to_fp32.py prints, too. */
void message_source(const char *checkpoint, const struct uz_source_info *source);

/* Says what the library says, and what to try where it can't know. Returns EXIT_TROUBLE. */
int message_failure(const struct uz_error *err);

#endif
