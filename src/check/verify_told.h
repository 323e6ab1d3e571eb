/* SPDX-License-Identifier: Apache-2.0 */
/* Findings from what a pass over the data counted. */
#ifndef UZ_CHECK_VERIFY_TOLD_H
#define UZ_CHECK_VERIFY_TOLD_H

#include "check/verify_spans.h"

/* spans: of each record. */
int uz_verify_tell_values(struct uz_verify_run *run, const struct uz_spans *spans,
                          struct uz_error *err);

#endif
