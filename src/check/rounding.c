/* SPDX-License-Identifier: Apache-2.0 */
/* Compares lp with round(hp) from the stored bits, in jobs of some elements of a tensor. */
#include "check/rounding.h"

#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "engine/fetch.h"

enum { BLOCK_ELEMS = 64 << 10, MAX_ELEM_NBYTES = 4, JOB_ELEMS = 1 << 20, BUFFER_NBYTES = 1 << 20 };

/* Elements [lo, hi) of a tensor. */
struct job {
    uint32_t tensor, storage; /* of the piece that they begin in */
    uint64_t lo, hi, n_differ;
};

/* What one thread owns. */
struct comparer {
    struct uz_fetch fetch;
    unsigned char *rounded, *lp;
};

struct comparison {
    const struct uz_model *model;
    uint64_t max_elems;
    struct job *jobs; /* by tensor */
    size_t n_jobs, cap_jobs;
    struct comparer *comparers;
    unsigned n_comparers;
};

/* ---- Elements ---- */

/* Which share of the elements may differ before it is no matter of single elements any more. */
#define MANY_DIFFER 1e-4

bool uz_rounding_is_bad(uint64_t n_differ, uint64_t n_compared)
{
    return (double)n_differ > MANY_DIFFER * (double)n_compared;
}

static bool is_nan16(uint16_t bits, enum uz_dtype dtype)
{
    return (bits & 0x7fffu) > (dtype == UZ_DTYPE_BF16 ? 0x7f80u : 0x7c00u);
}

static uint64_t differences16(const unsigned char *a, const unsigned char *b, size_t n,
                              enum uz_dtype dtype)
{
    uint64_t n_differ = 0;
    for (size_t i = 0; i < n; i++) {
        uint16_t x, y;
        memcpy(&x, a + i * sizeof x, sizeof x);
        memcpy(&y, b + i * sizeof y, sizeof y);
        n_differ += x != y && !(is_nan16(x, dtype) && is_nan16(y, dtype));
    }
    return n_differ;
}

uint64_t uz_rounding_differences(const void *rounded, const void *lp, size_t n_elems,
                                 enum uz_dtype dtype)
{
    const unsigned char *a = rounded, *b = lp;
    size_t size = uz_dtype_size(dtype);
    uint64_t n_differ = 0;
    if (!memcmp(a, b, n_elems * size))
        return 0;
    if (size == 2)
        return differences16(a, b, n_elems, dtype);
    for (size_t i = 0; i < n_elems; i++)
        n_differ += memcmp(a + i * size, b + i * size, size) != 0;
    return n_differ;
}

/* ---- What is to be compared ---- */

static bool is_packed(const struct uz_model *model, const struct uz_piece *pieces, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (model->places[pieces[i].storage].packing != UZ_PACKED_STORED)
            return true;
    return false;
}

static bool has_copy(const struct uz_tensor *tensor)
{
    return tensor->lp != UZ_NONE && !tensor->is_mean && uz_dtype_is_castable(tensor->dtype) &&
           uz_dtype_is_castable(tensor->lp_dtype);
}

static int add_jobs(struct comparison *c, struct job job, uint64_t end, struct uz_error *err)
{
    for (; job.lo < end; job.lo = job.hi) {
        struct job *slot;
        job.hi = end - job.lo < JOB_ELEMS ? end : job.lo + JOB_ELEMS;
        UZ_TRY(UZ_APPEND(c->jobs, c->n_jobs, c->cap_jobs, &slot, err));
        *slot = job;
    }
    return UZ_OK;
}

/* From the first element of each piece on, those of other pieces in between too. */
static int add_tensor(struct comparison *c, uint32_t index, struct uz_rounding *rounding,
                      struct uz_error *err)
{
    const struct uz_model *model = c->model;
    const struct uz_tensor *tensor = &model->tensors[index];
    const struct uz_piece *pieces = &model->pieces[tensor->first_piece];
    uint64_t done = 0;
    if (!has_copy(tensor))
        return UZ_OK;
    if (is_packed(model, pieces, tensor->n_pieces) ||
        is_packed(model, &model->lp_pieces[tensor->lp], tensor->n_lp)) {
        rounding->n_packed++;
        return UZ_OK;
    }
    for (uint64_t i = 0; i < tensor->n_pieces; i++) {
        uint64_t lo, end;
        uz_piece_span(&pieces[i], &lo, &end);
        if (end - lo > c->max_elems)
            end = lo + c->max_elems;
        if (lo < done)
            lo = done;
        UZ_TRY(add_jobs(c, (struct job){index, pieces[i].storage, lo, lo, 0}, end, err));
        done = end > done ? end : done;
    }
    return UZ_OK;
}

/* ---- Comparing ---- */

static int run_job(void *cookie, uint64_t number, unsigned worker, struct uz_error *err)
{
    struct comparison *c = cookie;
    struct comparer *own = &c->comparers[worker];
    struct job *job = &c->jobs[number];
    enum uz_dtype dtype = c->model->tensors[job->tensor].lp_dtype;
    for (uint64_t at = job->lo, n; at < job->hi; at += n) {
        n = job->hi - at < BLOCK_ELEMS ? job->hi - at : BLOCK_ELEMS;
        UZ_TRY(uz_fetch_elems(&own->fetch, job->tensor, at, n, dtype, own->rounded, err));
        UZ_TRY(uz_fetch_lp(&own->fetch, job->tensor, at, n, dtype, own->lp, err));
        job->n_differ += uz_rounding_differences(own->rounded, own->lp, (size_t)n, dtype);
    }
    return UZ_OK;
}

static void add_up(const struct comparison *c, struct uz_rounding *rounding)
{
    for (size_t first = 0, end; first < c->n_jobs; first = end) {
        uint64_t n_compared = 0, n_differ = 0;
        uint32_t storage = 0;
        for (end = first; end < c->n_jobs && c->jobs[end].tensor == c->jobs[first].tensor; end++) {
            if (n_differ == 0 && c->jobs[end].n_differ > 0)
                storage = c->jobs[end].storage;
            n_compared += c->jobs[end].hi - c->jobs[end].lo;
            n_differ += c->jobs[end].n_differ;
        }
        rounding->n_compared += n_compared;
        rounding->n_differ += n_differ;
        double share = (double)n_differ / (double)n_compared;
        if (share > rounding->worst_share) {
            rounding->worst_share = share;
            rounding->worst_tensor = c->jobs[first].tensor;
            rounding->worst_storage = storage;
        }
    }
}

/* ---- The order of the steps ---- */

static int make_comparers(struct comparison *c, unsigned threads, struct uz_error *err)
{
    unsigned n = c->n_jobs < threads ? (unsigned)c->n_jobs : threads;
    UZ_TRY(uz_alloc(&c->comparers, n, sizeof *c->comparers, err));
    c->n_comparers = n;
    for (unsigned i = 0; i < n; i++) {
        struct comparer *own = &c->comparers[i];
        UZ_TRY(uz_alloc(&own->rounded, BLOCK_ELEMS, MAX_ELEM_NBYTES, err));
        UZ_TRY(uz_alloc(&own->lp, BLOCK_ELEMS, MAX_ELEM_NBYTES, err));
        UZ_TRY(uz_fetch_init(&own->fetch, c->model, BUFFER_NBYTES, uz_fd_slots_for(n), err));
    }
    return UZ_OK;
}

static int compare(struct comparison *c, unsigned threads, struct uz_rounding *rounding,
                   struct uz_error *err)
{
    UZ_TRY(uz_check_pieces(c->model, err));
    for (uint32_t i = 0; i < c->model->n_tensors; i++)
        UZ_TRY(add_tensor(c, i, rounding, err));
    if (c->n_jobs == 0)
        return UZ_OK;
    UZ_TRY(make_comparers(c, threads, err));
    UZ_TRY(uz_parallel(c->n_comparers, c->n_jobs, run_job, NULL, c, err));
    add_up(c, rounding);
    return UZ_OK;
}

int uz_check_rounding(const struct uz_model *model, uint64_t max_elems, unsigned threads,
                      struct uz_rounding *rounding, struct uz_error *err)
{
    struct comparison c = {.model = model, .max_elems = max_elems};
    *rounding = (struct uz_rounding){0};
    int rc = compare(&c, threads, rounding, err);
    for (unsigned i = 0; i < c.n_comparers; i++) {
        uz_fetch_free(&c.comparers[i].fetch);
        free(c.comparers[i].rounded);
        free(c.comparers[i].lp);
    }
    free(c.comparers);
    free(c.jobs);
    return rc;
}
