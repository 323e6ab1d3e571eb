/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a plan: reads, casts and writes, on several threads and in bounded memory. */
#ifndef UZ_ENGINE_ENGINE_H
#define UZ_ENGINE_ENGINE_H

#include <stdint.h>

#include <unzero/limits.h>

#include "engine/advice.h"
#include "plan/plan.h"

struct uz_engine_options {
    unsigned threads;
    uint64_t
        buffer_nbytes; /* of each of the two buffers of a thread; at least plan->chunk_nbytes */
    uint64_t stream_nbytes;  /* that a thread takes while it goes through a compressed source */
    struct uz_limits limits; /* for going through compressed sources */
    unsigned cpu_mask;       /* which instruction sets casts may use; UINT_MAX: all there are */
    struct uz_advice advice; /* to the system, about pages of sources and outputs */
    /* called on the calling thread about ten times a second; non-zero stops; may be NULL */
    int (*progress)(void *cookie, uint64_t nbytes_done, uint64_t nbytes_total);
    void *cookie;
};

struct uz_engine_result {
    uint64_t nbytes_written;
    uint64_t n_overflows; /* finite values that became infinite */
};

/*
 * Fills the files of the plan's output: `paths` has one path for each, to files that are there and
 * may be written. Heads and blobs are written after the data, with the checksums of the targets in
 * their slots. Output bytes don't depend on the number of threads. On failure the files hold parts
 * of the output.
 */
int uz_engine_run(const struct uz_plan *plan, char *const *paths,
                  const struct uz_engine_options *options, struct uz_engine_result *result,
                  struct uz_error *err);

/*
 * Bytes of memory that a run with these options uses, apart from the plan and its model, and from
 * checksums for files that have slots for them: 32 bytes for each record (engine/checksums.h).
 */
uint64_t uz_engine_memory(const struct uz_engine_options *options);

#endif
