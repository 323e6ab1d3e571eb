/* SPDX-License-Identifier: Apache-2.0 */
/* Tells on standard output what verify found. */
#ifndef UZ_CLI_REPORT_VERIFY_H
#define UZ_CLI_REPORT_VERIFY_H

#include <stdbool.h>

#include <unzero/verify.h>

/* Strings are borrowed. */
struct report_verify {
    const char *path; /* as on the command line */
    const struct uz_verify_report *found;
    bool sound; /* the answer */
    bool data, quiet, verbose;
    enum uz_manifest_mode manifest_mode;
    const char *manifest; /* its path, if there is a mode */
    double seconds;
};

/* For people; colour on a terminal, unless NO_COLOR is set. */
void report_verify_text(const struct report_verify *report);

/* One JSON object in one line (docs/json.md). Returns an exit code, as json_finish does. */
int report_verify_json(const struct report_verify *report);

/* Annotations of GitHub Actions: a line for each finding. */
void report_verify_github(const struct report_verify *report);

/* JUnit's XML: a test case for each finding, and one that tells the answer. */
void report_verify_junit(const struct report_verify *report);

#endif
