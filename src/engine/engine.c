/* SPDX-License-Identifier: Apache-2.0 */
/* Hands streams and chunks to the threads. */
#include "engine/engine.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/parallel.h"
#include "engine/worker.h"

enum { PAGE_NBYTES = 4096, FIXED_NBYTES = 64 * 1024 };

struct run {
    const struct uz_plan *plan;
    const struct uz_engine_options *options;
    struct uz_worker *workers;
    atomic_uint_least64_t nbytes_written;
};

static int alloc_buffer(unsigned char **buffer, uint64_t nbytes, struct uz_error *err)
{
    void *pages;
    if (posix_memalign(&pages, PAGE_NBYTES, (size_t)nbytes) != 0)
        return uz_fail_nomem(err, nbytes);
    *buffer = pages;
    return UZ_OK;
}

int uz_worker_init(struct uz_worker *worker, const struct uz_plan *plan, char *const *paths,
                   const struct uz_cast_ops *ops, uint64_t buffer_nbytes, unsigned n_fd_slots,
                   struct uz_error *err)
{
    *worker = (struct uz_worker){
        .plan = plan, .paths = paths, .ops = ops, .buffer_nbytes = buffer_nbytes};
    uz_fd_cache_init(&worker->sources, O_RDONLY, n_fd_slots);
    uz_fd_cache_init(&worker->outputs, O_WRONLY, n_fd_slots);
    UZ_TRY(alloc_buffer(&worker->out, buffer_nbytes, err));
    return alloc_buffer(&worker->scratch, buffer_nbytes, err);
}

void uz_worker_free(struct uz_worker *worker)
{
    if (!worker->plan)
        return; /* never initialised */
    uz_fd_cache_close(&worker->sources);
    uz_fd_cache_close(&worker->outputs);
    uz_chunk_free(&worker->chunk);
    free(worker->out);
    free(worker->scratch);
}

uint64_t uz_engine_memory(const struct uz_engine_options *options)
{
    return options->threads * (2 * options->buffer_nbytes + FIXED_NBYTES);
}

static int run_job(void *cookie, uint64_t job, unsigned index, struct uz_error *err)
{
    struct run *run = cookie;
    struct uz_worker *worker = &run->workers[index];
    uint64_t nbytes;
    if (job < run->plan->n_streams)
        UZ_TRY(uz_worker_scatter(worker, &run->plan->streams[job], &nbytes, err));
    else
        UZ_TRY(uz_worker_gather(worker, job - run->plan->n_streams, &nbytes, err));
    atomic_fetch_add_explicit(&run->nbytes_written, nbytes, memory_order_relaxed);
    return UZ_OK;
}

static int tick(void *cookie)
{
    struct run *run = cookie;
    if (!run->options->progress)
        return 0;
    return run->options->progress(run->options->cookie, atomic_load(&run->nbytes_written),
                                  run->plan->nbytes);
}

static int write_heads(const struct uz_plan *plan, char *const *paths, struct uz_error *err)
{
    for (size_t i = 0; i < plan->out->n_files; i++) {
        const struct uz_out_file *file = &plan->out->files[i];
        struct uz_fd_cache cache;
        int fd;
        uz_fd_cache_init(&cache, O_WRONLY, 1);
        int rc = uz_fd_cache_get(&cache, (uint32_t)i, paths[i], &fd, err);
        if (rc == UZ_OK)
            rc = uz_pwrite_all(fd, file->head, (size_t)file->head_nbytes, 0, paths[i], err);
        uz_fd_cache_close(&cache);
        UZ_TRY(rc);
    }
    return UZ_OK;
}

int uz_engine_run(const struct uz_plan *plan, char *const *paths,
                  const struct uz_engine_options *options, struct uz_engine_result *result,
                  struct uz_error *err)
{
    struct run run = {.plan = plan, .options = options};
    const struct uz_cast_ops *ops = uz_cast_ops_for(options->cpu_mask);
    *result = (struct uz_engine_result){0};
    UZ_TRY(write_heads(plan, paths, err));
    UZ_TRY(uz_alloc(&run.workers, options->threads, sizeof *run.workers, err));
    int rc = UZ_OK;
    for (unsigned i = 0; i < options->threads && rc == UZ_OK; i++)
        rc = uz_worker_init(&run.workers[i], plan, paths, ops, options->buffer_nbytes,
                            uz_fd_slots_for(2 * options->threads), err);
    if (rc == UZ_OK)
        rc = uz_parallel(options->threads, plan->n_streams + plan->n_chunks, run_job, tick, &run,
                         err);
    for (unsigned i = 0; i < options->threads; i++) {
        result->n_overflows += run.workers[i].n_overflows;
        uz_worker_free(&run.workers[i]);
    }
    free(run.workers);
    result->nbytes_written = atomic_load(&run.nbytes_written);
    return rc;
}
