/* SPDX-License-Identifier: Apache-2.0 */
/* Tells on standard output what was done, for people or as JSON. */
#ifndef UZ_CLI_REPORT_H
#define UZ_CLI_REPORT_H

#include <stdbool.h>

#include <unzero/consolidate.h>

/* A consolidation that ended well, or would. Strings are borrowed. */
struct report {
    const char *checkpoint, *out; /* as on the command line */
    const char *dtype;
    const struct uz_consolidate_summary *summary;
    bool dry_run;
    bool verbose; /* list files and names; a dry run always does */
    double seconds;
};

/* Lines for people. */
void report_text(const struct report *report);

/* One JSON object in one line. Returns an exit code, as json_finish does. */
int report_json(const struct report *report);

#endif
