/* SPDX-License-Identifier: Apache-2.0 */
/* Runs numbered jobs on a few threads. */
#ifndef UZ_BASE_PARALLEL_H
#define UZ_BASE_PARALLEL_H

#include <stdint.h>

#include "base/error.h"

/* The processors that this process may use; at least 1. */
unsigned uz_usable_processors(void);

/*
 * One job. `worker` (0..n_threads-1) tells which thread runs it, so that each can own scratch
 * memory. A negative status stops the handing out of further jobs.
 */
typedef int (*uz_job_fn)(void *cookie, uint64_t job, unsigned worker, struct uz_error *err);

/* Called on the calling thread about ten times a second and once at the end; non-zero cancels. */
typedef int (*uz_tick_fn)(void *cookie);

/*
 * Runs jobs 0..n_jobs-1, handed out in order, on n_threads threads (at least 1) and returns when
 * all have stopped. Of several failures that of the lowest job is reported, so the message does
 * not depend on timing as long as jobs fail alone. `tick` may be NULL.
 */
int uz_parallel(unsigned n_threads, uint64_t n_jobs, uz_job_fn job, uz_tick_fn tick, void *cookie,
                struct uz_error *err);

#endif
