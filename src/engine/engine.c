/* SPDX-License-Identifier: Apache-2.0 */
/* Hands stream jobs and chunks to the threads, and writes what is not data. */
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
    struct uz_engine_state state;
};

static int alloc_buffer(unsigned char **buffer, uint64_t nbytes, struct uz_error *err)
{
    void *pages;
    if (posix_memalign(&pages, PAGE_NBYTES, (size_t)nbytes) != 0)
        return uz_fail_nomem(err, nbytes);
    *buffer = pages;
    return UZ_OK;
}

static int init_worker(struct uz_worker *worker, struct run *run, char *const *paths,
                       const struct uz_cast_ops *ops, struct uz_error *err)
{
    unsigned n_fd_slots = uz_fd_slots_for(2 * run->options->threads);
    *worker = (struct uz_worker){
        .plan = run->plan,
        .paths = paths,
        .limits = &run->options->limits,
        .state = &run->state,
        .buffer_nbytes = run->options->buffer_nbytes,
    };
    uz_fd_cache_init(&worker->outputs, O_WRONLY, n_fd_slots);
    UZ_TRY(alloc_buffer(&worker->out, worker->buffer_nbytes, err));
    UZ_TRY(uz_gather_init(&worker->gather, run->plan->model, ops, worker->buffer_nbytes, n_fd_slots,
                          err));
    worker->gather.advice = run->options->advice;
    worker->gather.sources.drop = run->options->advice.drop;
    return UZ_OK;
}

static void free_worker(struct uz_worker *worker)
{
    if (!worker->plan)
        return; /* never initialised */
    uz_fd_cache_close(&worker->outputs);
    uz_chunk_free(&worker->chunk);
    uz_checksums_free(&worker->checksums);
    free(worker->open_pieces);
    free(worker->out);
    uz_gather_free(&worker->gather);
}

uint64_t uz_engine_memory(const struct uz_engine_options *options)
{
    return options->threads * (2 * options->buffer_nbytes + options->stream_nbytes + FIXED_NBYTES);
}

/*
 * The chunk that is the k-th to be made. Threads that write to one file wait for its lock, so with
 * several files each thread begins in another part of the output.
 */
static uint64_t kth_chunk(const struct run *run, uint64_t k)
{
    const uint64_t n_lanes = run->plan->out->n_files > 1 ? run->options->threads : 1;
    const uint64_t lane = k % n_lanes, n = run->plan->n_chunks;
    const uint64_t n_longer = n % n_lanes; /* lanes that have a chunk more */
    return lane * (n / n_lanes) + (lane < n_longer ? lane : n_longer) + k / n_lanes;
}

static int run_job(void *cookie, uint64_t job, unsigned index, struct uz_error *err)
{
    struct run *run = cookie;
    struct uz_worker *worker = &run->workers[index];
    int rc = job < run->plan->n_stream_jobs
                 ? uz_worker_scatter(worker, &run->plan->stream_jobs[job], err)
                 : uz_worker_chunk(worker, kth_chunk(run, job - run->plan->n_stream_jobs), err);
    if (rc < 0)
        atomic_store(&run->state.stop, true);
    return rc;
}

static int tick(void *cookie)
{
    struct run *run = cookie;
    if (!run->options->progress)
        return 0;
    int stop = run->options->progress(run->options->cookie, atomic_load(&run->state.nbytes_written),
                                      run->plan->nbytes);
    if (stop)
        atomic_store(&run->state.stop, true);
    return stop;
}

/* Runs all jobs; what the workers have to tell is in *result and *checksums, also on failure. */
static int run_jobs(struct run *run, char *const *paths, struct uz_engine_result *result,
                    struct uz_checksums *checksums, struct uz_error *err)
{
    const struct uz_engine_options *options = run->options;
    const struct uz_cast_ops *ops = uz_cast_ops_for(options->cpu_mask);
    UZ_TRY(uz_alloc(&run->workers, options->threads, sizeof *run->workers, err));
    int rc = UZ_OK;
    for (unsigned i = 0; i < options->threads && rc == UZ_OK; i++)
        rc = init_worker(&run->workers[i], run, paths, ops, err);
    if (rc == UZ_OK)
        rc = uz_parallel(options->threads, run->plan->n_stream_jobs + run->plan->n_chunks, run_job,
                         tick, run, err);
    for (unsigned i = 0; i < options->threads; i++) {
        if (rc == UZ_OK)
            rc = uz_checksums_join(checksums, &run->workers[i].checksums, err);
        result->n_overflows += run->workers[i].n_overflows + run->workers[i].gather.n_overflows;
        free_worker(&run->workers[i]);
    }
    free(run->workers);
    result->nbytes_written = atomic_load(&run->state.nbytes_written);
    return rc;
}

static int write_head_and_blobs(const struct uz_out_file *file, const char *path,
                                const struct uz_advice *advice, struct uz_error *err)
{
    struct uz_fd_cache cache;
    int fd;
    uz_fd_cache_init(&cache, O_WRONLY, 1);
    int rc = uz_fd_cache_get(&cache, 0, path, &fd, err);
    if (rc == UZ_OK)
        rc = uz_pwrite_all(fd, file->head, (size_t)file->head_nbytes, 0, path, err);
    for (size_t i = 0; i < file->n_blobs && rc == UZ_OK; i++) {
        const struct uz_blob *blob = &file->blobs[i];
        rc = uz_pwrite_all(fd, blob->data, (size_t)blob->nbytes, blob->offset, path, err);
    }
    if (rc == UZ_OK)
        uz_advise_complete(advice, fd);
    uz_fd_cache_close(&cache);
    return rc;
}

int uz_engine_run(const struct uz_plan *plan, char *const *paths,
                  const struct uz_engine_options *options, struct uz_engine_result *result,
                  struct uz_error *err)
{
    struct run run = {.plan = plan, .options = options};
    struct uz_checksums checksums = {0};
    *result = (struct uz_engine_result){0};
    int rc = run_jobs(&run, paths, result, &checksums, err);
    if (rc == UZ_OK)
        rc = uz_checksums_fill(&checksums, plan->out, err);
    uz_checksums_free(&checksums);
    for (size_t i = 0; i < plan->out->n_files && rc == UZ_OK; i++)
        rc = write_head_and_blobs(&plan->out->files[i], paths[i], &options->advice, err);
    return rc;
}
