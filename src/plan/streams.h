/* SPDX-License-Identifier: Apache-2.0 */
/* The part of a plan that reads storages from front to back. */
#ifndef UZ_PLAN_STREAMS_H
#define UZ_PLAN_STREAMS_H

#include "plan/plan.h"

/* Finds the targets that need streams and lists their pieces by job and storage. */
int uz_plan_streams(struct uz_plan *plan, struct uz_error *err);

#endif
