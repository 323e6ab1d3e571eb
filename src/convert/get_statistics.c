/* SPDX-License-Identifier: Apache-2.0 */
/* What the values of a tensor are like, block by block on several threads. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "convert/got.h"
#include "engine/convert.h"

/* Elements of a job: a block of the widest dtype. */
enum { JOB_ELEMS = UZ_GOT_BLOCK_NBYTES / 8, FD_SLOTS = 4 };

/* Sums over the elements of one job. */
struct sums {
    uint64_t n_nan, n_inf, n_zero, n_finite;
    double min, max, sum, squares;
};

struct census {
    const struct uz_got *got;
    const struct uz_cast_ops *ops;
    struct worker {
        struct uz_fetch fetch;
        unsigned char *elems;
        float *floats;
    } * workers;
    struct sums *jobs;
};

static void add_number(struct sums *sums, double value)
{
    if (isnan(value)) {
        sums->n_nan++;
    } else if (isinf(value)) {
        sums->n_inf++;
    } else {
        sums->n_zero += fpclassify(value) == FP_ZERO;
        sums->min = sums->n_finite == 0 || value < sums->min ? value : sums->min;
        sums->max = sums->n_finite == 0 || value > sums->max ? value : sums->max;
        sums->sum += value;
        sums->squares += value * value;
        sums->n_finite++;
    }
}

/* One row for each dtype that is plain numbers in C. */
#define ADD_AS(type)                                                                               \
    for (size_t i = 0; i < n; i++) {                                                               \
        type value;                                                                                \
        memcpy(&value, elems + i * sizeof value, sizeof value);                                    \
        add_number(sums, (double)value);                                                           \
    }

static void add_elems(struct sums *sums, enum uz_dtype dtype, const unsigned char *elems, size_t n)
{
    switch (dtype) {
    case UZ_DTYPE_F32:
        ADD_AS(float) break;
    case UZ_DTYPE_F64:
        ADD_AS(double) break;
    case UZ_DTYPE_I64:
        ADD_AS(int64_t) break;
    case UZ_DTYPE_U64:
        ADD_AS(uint64_t) break;
    case UZ_DTYPE_I32:
        ADD_AS(int32_t) break;
    case UZ_DTYPE_U32:
        ADD_AS(uint32_t) break;
    case UZ_DTYPE_I16:
        ADD_AS(int16_t) break;
    case UZ_DTYPE_U16:
        ADD_AS(uint16_t) break;
    case UZ_DTYPE_I8:
        ADD_AS(int8_t) break;
    default: /* bool and bytes; others were refused */
        ADD_AS(uint8_t) break;
    }
}

static bool has_numbers(enum uz_dtype dtype)
{
    return uz_dtype_is_castable(dtype) || dtype == UZ_DTYPE_F64 || !uz_dtype_is_float(dtype);
}

static int run_job(void *cookie, uint64_t job, unsigned index, struct uz_error *err)
{
    struct census *census = cookie;
    struct worker *worker = &census->workers[index];
    const struct uz_got_info *info = &census->got->info;
    uint64_t first = job * JOB_ELEMS, left = info->numel - first;
    size_t n = left < JOB_ELEMS ? (size_t)left : JOB_ELEMS;
    UZ_TRY(uz_got_read_with(census->got, &worker->fetch, first, n, worker->elems, err));
    if (info->dtype == UZ_DTYPE_BF16 || info->dtype == UZ_DTYPE_F16) {
        const struct uz_conversion widen = {.from = info->dtype, .to = UZ_DTYPE_F32};
        uz_convert_elems(census->ops, widen, worker->floats, worker->elems, n);
        add_elems(&census->jobs[job], UZ_DTYPE_F32, (const unsigned char *)worker->floats, n);
    } else {
        add_elems(&census->jobs[job], info->dtype, worker->elems, n);
    }
    return UZ_OK;
}

static int init_worker(struct worker *worker, const struct uz_got *got, struct uz_error *err)
{
    UZ_TRY(uz_alloc(&worker->elems, JOB_ELEMS, 8, err));
    UZ_TRY(uz_alloc(&worker->floats, JOB_ELEMS, sizeof *worker->floats, err));
    return uz_fetch_init(&worker->fetch, &got->model, UZ_GOT_BLOCK_NBYTES, FD_SLOTS, err);
}

static void free_worker(struct worker *worker)
{
    uz_fetch_free(&worker->fetch);
    free(worker->elems);
    free(worker->floats);
}

/* In the order of the elements, so that sums don't depend on the number of threads. */
static void add_up(struct uz_statistics *s, const struct sums *jobs, uint64_t n_jobs)
{
    struct sums all = {0};
    for (uint64_t i = 0; i < n_jobs; i++) {
        const struct sums *job = &jobs[i];
        if (job->n_finite > 0) {
            all.min = all.n_finite == 0 || job->min < all.min ? job->min : all.min;
            all.max = all.n_finite == 0 || job->max > all.max ? job->max : all.max;
        }
        all.n_nan += job->n_nan;
        all.n_inf += job->n_inf;
        all.n_zero += job->n_zero;
        all.n_finite += job->n_finite;
        all.sum += job->sum;
        all.squares += job->squares;
    }
    bool any = all.n_finite > 0;
    s->n_nan = all.n_nan;
    s->n_inf = all.n_inf;
    s->n_zero = all.n_zero;
    s->min = any ? all.min : (double)NAN;
    s->max = any ? all.max : (double)NAN;
    s->mean = any ? all.sum / (double)all.n_finite : (double)NAN;
    s->norm = sqrt(all.squares);
}

static int run_jobs(struct census *census, unsigned threads, uint64_t n_jobs, struct uz_error *err)
{
    UZ_TRY(uz_alloc(&census->jobs, n_jobs, sizeof *census->jobs, err));
    UZ_TRY(uz_alloc(&census->workers, threads, sizeof *census->workers, err));
    int rc = UZ_OK;
    for (unsigned i = 0; i < threads && rc == UZ_OK; i++)
        rc = init_worker(&census->workers[i], census->got, err);
    if (rc == UZ_OK)
        rc = uz_parallel(threads, n_jobs, run_job, NULL, census, err);
    for (unsigned i = 0; i < threads; i++)
        free_worker(&census->workers[i]);
    return rc;
}

int uz_got_statistics(struct uz_got *got, struct uz_statistics *statistics, struct uz_error *err)
{
    struct census census = {.got = got, .ops = uz_cast_ops_for(UINT_MAX)};
    uint64_t n_jobs = got->info.numel / JOB_ELEMS + (got->info.numel % JOB_ELEMS != 0);
    unsigned threads = n_jobs < got->threads ? (unsigned)n_jobs : got->threads;
    uz_error_clear(err);
    if (!has_numbers(got->info.dtype))
        return uz_fail(err, UZ_UNSUPPORTED, "%s is stored as %s, which has no statistics",
                       got->info.name, uz_dtype_name(got->info.dtype));
    *statistics = (struct uz_statistics){.n_elems = got->info.numel};
    int rc = run_jobs(&census, threads ? threads : 1, n_jobs, err);
    if (rc == UZ_OK)
        add_up(statistics, census.jobs, n_jobs);
    free(census.jobs);
    free(census.workers);
    return rc;
}
