/* SPDX-License-Identifier: Apache-2.0 */
/* Makes one chunk of output: gather, checksums, one write. */
#include "base/file.h"
#include "engine/mean.h"
#include "engine/worker.h"

int uz_worker_chunk(struct uz_worker *worker, uint64_t index, struct uz_error *err)
{
    struct uz_chunk *chunk = &worker->chunk;
    UZ_TRY(uz_plan_chunk(worker->plan, index, chunk, err));
    UZ_TRY(
        uz_gather_copies(&worker->gather, chunk->copies.items, chunk->copies.n, worker->out, err));
    for (size_t i = 0; i < chunk->n_means; i++) {
        const struct uz_mean *mean = &chunk->means[i];
        UZ_TRY(uz_gather_mean(&worker->gather, &chunk->copies, mean->tensor, mean->lo, mean->hi,
                              mean->to, worker->out + mean->dst, err));
    }
    for (size_t i = 0; i < chunk->n_parts; i++) {
        const struct uz_target_part *part = &chunk->parts[i];
        UZ_TRY(uz_checksums_add(&worker->checksums, part->target, part->first,
                                worker->out + part->begin, (size_t)(part->end - part->begin), err));
    }
    for (size_t i = 0; i < chunk->n_spans; i++) {
        const struct uz_span *span = &chunk->spans[i];
        const char *path = worker->paths[chunk->file];
        int fd;
        UZ_TRY(uz_fd_cache_get(&worker->outputs, chunk->file, path, &fd, err));
        UZ_TRY(uz_pwrite_all(fd, worker->out + span->begin, (size_t)(span->end - span->begin),
                             chunk->offset + span->begin, path, err));
        uz_advise_written(&worker->gather.advice, fd, chunk->offset + span->begin,
                          span->end - span->begin);
        uz_worker_wrote(worker, span->end - span->begin);
    }
    return UZ_OK;
}
