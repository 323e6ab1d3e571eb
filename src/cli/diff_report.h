/* SPDX-License-Identifier: Apache-2.0 */
/* What `unzero diff` prints. */
#ifndef UZ_CLI_DIFF_REPORT_H
#define UZ_CLI_DIFF_REPORT_H

#include <stdbool.h>

#include <unzero/diff.h>

/* For people: a table of what differs (of all names if `all`), and, if it is wanted, the sum. */
void diff_text(const struct uz_diff_result *result, bool all, bool sum);

/* For machines. Returns an exit code, as json_finish does. */
int diff_json(const char *a, const char *b, const struct uz_diff_result *result, bool all);

#endif
