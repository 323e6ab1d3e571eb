/* SPDX-License-Identifier: Apache-2.0 */
/* What `unzero inspect` prints. */
#ifndef UZ_CLI_INSPECT_REPORT_H
#define UZ_CLI_INSPECT_REPORT_H

#include <stdbool.h>

#include <unzero/inspect.h>

/* For people; with the table of tensors if it is wanted. */
void inspect_text(const char *path, const struct uz_inspect_summary *summary, bool tensors);

/* For machines. Returns an exit code, as json_finish does. */
int inspect_json(const char *path, const struct uz_inspect_summary *summary, bool tensors);

#endif
