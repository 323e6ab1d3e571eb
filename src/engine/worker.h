/* SPDX-License-Identifier: Apache-2.0 */
/* What one thread of the engine owns, and the two ways it works. */
#ifndef UZ_ENGINE_WORKER_H
#define UZ_ENGINE_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <unzero/limits.h>

#include "engine/checksums.h"
#include "engine/fd_cache.h"
#include "engine/gather.h"
#include "plan/plan.h"

/* What the threads of a run share and change. */
struct uz_engine_state {
    atomic_uint_least64_t nbytes_written;
    atomic_bool stop; /* the run has failed or is cancelled: long jobs may end early */
};

struct uz_worker {
    const struct uz_plan *plan;
    char *const *paths; /* of the output files */
    const struct uz_limits *limits;
    struct uz_engine_state *state;
    uint64_t buffer_nbytes;
    unsigned char *out;      /* a chunk of output */
    struct uz_gather gather; /* and what was read for it */
    struct uz_chunk chunk;
    size_t *open_pieces; /* of the storage being scattered: those that the next block is for */
    size_t n_open_pieces, cap_open_pieces;
    struct uz_fd_cache outputs;
    struct uz_checksums checksums;
    uint64_t n_overflows; /* those of `gather` apart */
};

static inline void uz_worker_wrote(struct uz_worker *worker, uint64_t nbytes)
{
    atomic_fetch_add_explicit(&worker->state->nbytes_written, nbytes, memory_order_relaxed);
}

static inline bool uz_worker_stopped(const struct uz_worker *worker)
{
    return atomic_load_explicit(&worker->state->stop, memory_order_relaxed);
}

/* Gather order: makes one chunk of output from wherever its parts lie. */
int uz_worker_chunk(struct uz_worker *worker, uint64_t chunk, struct uz_error *err);

/*
 * Scatter order: goes through a source from front to back and writes its parts where they belong.
 * Ends early, with UZ_OK, when the run is to stop.
 */
int uz_worker_scatter(struct uz_worker *worker, const struct uz_stream_job *job,
                      struct uz_error *err);

#endif
