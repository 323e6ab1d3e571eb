/* SPDX-License-Identifier: Apache-2.0 */
/* Tells what a resharding did, or would do. */
#ifndef UZ_CLI_RESHARD_REPORT_H
#define UZ_CLI_RESHARD_REPORT_H

#include <stdbool.h>

#include <unzero/reshard.h>

struct reshard_report {
    const char *checkpoint, *out; /* as on the command line */
    const struct uz_reshard_summary *summary;
    bool dry_run;
    bool verbose; /* list files; a dry run always does */
    double seconds;
};

/* Lines for people. */
void reshard_report_text(const struct reshard_report *report);

/* One JSON object in one line. Returns an exit code, as json_finish does. */
int reshard_report_json(const struct reshard_report *report);

/* Says what failed, in the same two ways. Returns the exit code. */
int reshard_report_failure(bool json, const struct uz_error *err);

#endif
