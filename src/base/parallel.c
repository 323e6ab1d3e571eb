/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs are handed out by an atomic counter; the calling thread waits, ticks and reports. */
#include "base/parallel.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"

unsigned uz_usable_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? (unsigned)n : 1;
}

struct run {
    uint64_t n_jobs;
    uz_job_fn job;
    void *cookie;
    atomic_uint_least64_t next_job;
    atomic_bool stop;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t done;
    unsigned n_running;
    uint64_t failed_job;
    int status;
    struct uz_error *err;
};

struct worker {
    struct run *run;
    unsigned index;
    pthread_t thread;
};

static void report_failure(struct run *run, uint64_t job, int status, const struct uz_error *err)
{
    pthread_mutex_lock(&run->lock);
    if (run->status == UZ_OK || job < run->failed_job) {
        run->status = status;
        run->failed_job = job;
        if (run->err)
            *run->err = *err;
    }
    pthread_mutex_unlock(&run->lock);
    atomic_store(&run->stop, true);
}

static void work(struct run *run, unsigned index)
{
    struct uz_error err;
    while (!atomic_load_explicit(&run->stop, memory_order_relaxed)) {
        uint64_t job = atomic_fetch_add(&run->next_job, 1);
        if (job >= run->n_jobs)
            break;
        uz_error_clear(&err);
        int status = run->job(run->cookie, job, index, &err);
        if (status < 0)
            report_failure(run, job, status, &err);
    }
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct run *run = worker->run;
    work(run, worker->index);
    pthread_mutex_lock(&run->lock);
    run->n_running--;
    pthread_cond_signal(&run->done);
    pthread_mutex_unlock(&run->lock);
    return NULL;
}

/* Waits until all workers have stopped, ticking ten times a second. */
static void wait_for_workers(struct run *run, uz_tick_fn tick)
{
    pthread_mutex_lock(&run->lock);
    while (run->n_running > 0) {
        if (!tick) {
            pthread_cond_wait(&run->done, &run->lock);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100 * 1000 * 1000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        if (pthread_cond_timedwait(&run->done, &run->lock, &until) != ETIMEDOUT)
            continue;
        pthread_mutex_unlock(&run->lock);
        if (tick(run->cookie)) {
            struct uz_error err;
            int status = uz_fail(&err, UZ_CANCELLED, "stopped on request");
            report_failure(run, run->n_jobs, status, &err);
        }
        pthread_mutex_lock(&run->lock);
    }
    pthread_mutex_unlock(&run->lock);
}

int uz_parallel(unsigned n_threads, uint64_t n_jobs, uz_job_fn job, uz_tick_fn tick, void *cookie,
                struct uz_error *err)
{
    if (n_threads > n_jobs)
        n_threads = n_jobs ? (unsigned)n_jobs : 1;
    struct run run = {.n_jobs = n_jobs, .job = job, .cookie = cookie, .err = err};
    struct worker *workers;
    UZ_TRY(uz_alloc(&workers, n_threads, sizeof *workers, err));
    pthread_mutex_init(&run.lock, NULL);
    pthread_cond_init(&run.done, NULL);
    unsigned n_started = 0;
    for (unsigned i = 0; i < n_threads; i++) {
        workers[i] = (struct worker){.run = &run, .index = i};
        pthread_mutex_lock(&run.lock);
        run.n_running++;
        pthread_mutex_unlock(&run.lock);
        int failed = pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
        if (failed) {
            pthread_mutex_lock(&run.lock);
            run.n_running--;
            pthread_mutex_unlock(&run.lock);
            if (i == 0) { /* not even one: the caller's thread must do */
                work(&run, 0);
            }
            break;
        }
        n_started++;
    }
    wait_for_workers(&run, tick);
    for (unsigned i = 0; i < n_started; i++)
        pthread_join(workers[i].thread, NULL);
    if (tick && run.status == UZ_OK && tick(cookie))
        run.status = uz_fail(err, UZ_CANCELLED, "stopped on request");
    pthread_cond_destroy(&run.done);
    pthread_mutex_destroy(&run.lock);
    free(workers);
    return run.status;
}
