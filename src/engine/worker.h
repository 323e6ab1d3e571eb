/* SPDX-License-Identifier: Apache-2.0 */
/* What one thread of the engine owns, and the two ways it works. */
#ifndef UZ_ENGINE_WORKER_H
#define UZ_ENGINE_WORKER_H

#include <stddef.h>
#include <stdint.h>

#include "engine/fd_cache.h"
#include "kernels/cast.h"
#include "plan/plan.h"

struct uz_worker {
    const struct uz_plan *plan;
    char *const *paths; /* of the output files */
    const struct uz_cast_ops *ops;
    uint64_t buffer_nbytes;
    unsigned char *out;     /* a chunk of output */
    unsigned char *scratch; /* what was read for it */
    struct uz_chunk chunk;
    struct uz_fd_cache sources, outputs;
    uint64_t n_overflows;
};

int uz_worker_init(struct uz_worker *worker, const struct uz_plan *plan, char *const *paths,
                   const struct uz_cast_ops *ops, uint64_t buffer_nbytes, unsigned n_fd_slots,
                   struct uz_error *err);
void uz_worker_free(struct uz_worker *worker);

/* Gather order: makes one chunk of output from wherever its parts lie. */
int uz_worker_gather(struct uz_worker *worker, uint64_t chunk, uint64_t *nbytes_written,
                     struct uz_error *err);

/* Scatter order: reads one storage from front to back and writes its parts where they belong. */
int uz_worker_scatter(struct uz_worker *worker, const struct uz_stream *stream,
                      uint64_t *nbytes_written, struct uz_error *err);

#endif
