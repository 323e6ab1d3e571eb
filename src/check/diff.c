/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs the tensors of two sides by name and compares them chunk by chunk. */
#include <unzero/diff.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "check/compare.h"
#include "check/diff_side.h"
#include "engine/fd_cache.h"
#include "engine/fetch.h"

enum { CHUNK_ELEMS = 1 << 18, BUFFER_NBYTES = 2 << 20 };

/* Two tensors of one name whose elements are compared. */
struct pair {
    size_t result; /* index of tensors */
    uint32_t a, b;
    uint64_t first_chunk; /* number of its first chunk among all */
    struct uz_comparer comparer;
    struct uz_difference difference;
};

/* What one thread needs. */
struct worker {
    struct uz_fetch a, b;
    void *a_elems, *b_elems;
};

struct uz_diff {
    struct uz_diff_options options;
    struct uz_side a, b;
    struct uz_notes notes;
    struct uz_diff_tensor *tensors;
    size_t n_tensors, cap_tensors;
    struct pair *pairs;
    size_t n_pairs, cap_pairs;
    uint64_t n_chunks, n_elems, nbytes;
    struct worker *workers;
    pthread_mutex_t lock; /* guards the differences of pairs */
    atomic_uint_fast64_t nbytes_done;
    uz_progress_fn progress;
    void *cookie;
    struct uz_diff_result result;
};

void uz_diff_options_default(struct uz_diff_options *options)
{
    *options = (struct uz_diff_options){.scratch_dir = "/tmp"};
    uz_input_options_default(&options->input);
}

const char *uz_diff_verdict_name(enum uz_diff_verdict verdict)
{
    static const char *const names[] = {
        [UZ_DIFF_EQUAL] = "equal",   [UZ_DIFF_CLOSE] = "close",   [UZ_DIFF_ROUNDED] = "rounded",
        [UZ_DIFF_VALUES] = "values", [UZ_DIFF_DTYPE] = "dtype",   [UZ_DIFF_SHAPE] = "shape",
        [UZ_DIFF_ONLY_A] = "only-a", [UZ_DIFF_ONLY_B] = "only-b",
    };
    return (size_t)verdict < sizeof names / sizeof names[0] ? names[verdict] : "unknown";
}

/* ---- Pairs ---- */

static struct uz_diff_operand operand(const struct uz_tensor *tensor)
{
    return (struct uz_diff_operand){tensor->dtype, tensor->ndim, tensor->shape};
}

static int add_result(struct uz_diff *diff, const char *name, struct uz_diff_tensor **result,
                      struct uz_error *err)
{
    UZ_TRY(UZ_APPEND(diff->tensors, diff->n_tensors, diff->cap_tensors, result, err));
    (*result)->name = name;
    (*result)->first = UINT64_MAX;
    return UZ_OK;
}

static int add_pair(struct uz_diff *diff, const char *name, uint32_t a, uint32_t b,
                    struct uz_error *err)
{
    const struct uz_tensor *x = &diff->a.model.tensors[a], *y = &diff->b.model.tensors[b];
    struct uz_diff_tensor *result;
    struct pair *pair;
    struct uz_comparer comparer;
    UZ_TRY(add_result(diff, name, &result, err));
    result->a = operand(x);
    result->b = operand(y);
    result->n_elems = x->numel;
    uz_comparer_init(&comparer, x->dtype, y->dtype, &diff->options);
    if (!uz_same_shape(x->ndim, x->shape, y->ndim, y->shape)) {
        result->verdict = UZ_DIFF_SHAPE;
        return UZ_OK;
    }
    if (comparer.how == UZ_COMPARE_NOT) {
        result->verdict = UZ_DIFF_DTYPE;
        return UZ_OK;
    }
    UZ_TRY(UZ_APPEND(diff->pairs, diff->n_pairs, diff->cap_pairs, &pair, err));
    *pair = (struct pair){diff->n_tensors - 1, a, b, diff->n_chunks, comparer, {0}};
    uz_difference_init(&pair->difference);
    diff->n_chunks += x->numel / CHUNK_ELEMS + (x->numel % CHUNK_ELEMS != 0);
    diff->n_elems += x->numel;
    diff->nbytes += x->numel * (uz_dtype_size(x->dtype) + uz_dtype_size(y->dtype));
    return UZ_OK;
}

/* Names that both sides have; a pair of tensors with several names is compared once. */
static int pair_names(struct uz_diff *diff, struct uz_map *seen, struct uz_arena *arena,
                      struct uz_error *err)
{
    for (size_t i = 0; i < diff->a.n_names; i++) {
        struct uz_side_name *name = &diff->a.names[i];
        uint64_t other, *key;
        bool present;
        if (!uz_map_get(diff->b.by_name, name->name, strlen(name->name), &other))
            continue;
        uint32_t b = diff->b.names[other].tensor;
        name->paired = diff->b.names[other].paired = true;
        UZ_TRY(uz_arena_alloc(arena, 2, sizeof *key, &key, err));
        key[0] = name->tensor;
        key[1] = b;
        UZ_TRY(uz_map_add(seen, (const char *)key, 2 * sizeof *key, i, &present, err));
        if (present)
            diff->result.n_tied++;
        else
            UZ_TRY(add_pair(diff, name->name, name->tensor, b, err));
    }
    return UZ_OK;
}

/* Names that one side lacks, of tensors that it has under no other name either. */
static int list_missing(struct uz_diff *diff, const struct uz_side *side,
                        enum uz_diff_verdict verdict, struct uz_error *err)
{
    bool *found;
    UZ_TRY(uz_alloc(&found, side->model.n_tensors, sizeof *found, err));
    int rc = UZ_OK;
    for (size_t i = 0; i < side->n_names; i++)
        found[side->names[i].tensor] |= side->names[i].paired;
    for (size_t i = 0; rc == UZ_OK && i < side->n_names; i++) {
        const struct uz_side_name *name = &side->names[i];
        struct uz_diff_tensor *result;
        if (name->paired)
            continue;
        if (found[name->tensor]) {
            diff->result.n_tied++;
            continue;
        }
        found[name->tensor] = true; /* its other names are no news */
        rc = add_result(diff, name->name, &result, err);
        if (rc < 0)
            break;
        const struct uz_tensor *tensor = &side->model.tensors[name->tensor];
        result->verdict = verdict;
        result->n_elems = tensor->numel;
        *(verdict == UZ_DIFF_ONLY_A ? &result->a : &result->b) = operand(tensor);
    }
    free(found);
    return rc;
}

static int pair_sides(struct uz_diff *diff, struct uz_error *err)
{
    struct uz_map *seen = uz_map_new();
    struct uz_arena *arena = uz_arena_new(UINT64_MAX);
    int rc = seen && arena ? pair_names(diff, seen, arena, err) : uz_fail_nomem(err, 0);
    uz_map_free(seen);
    uz_arena_free(arena);
    UZ_TRY(rc);
    UZ_TRY(list_missing(diff, &diff->a, UZ_DIFF_ONLY_A, err));
    return list_missing(diff, &diff->b, UZ_DIFF_ONLY_B, err);
}

/* ---- Elements ---- */

/* The pair that a chunk belongs to: the last one that begins at it or before, and has chunks. */
static struct pair *pair_of(const struct uz_diff *diff, uint64_t chunk)
{
    size_t lo = 0, hi = diff->n_pairs; /* pairs[lo] begins at the chunk or before */
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (diff->pairs[mid].first_chunk <= chunk)
            lo = mid;
        else
            hi = mid;
    }
    return &diff->pairs[lo];
}

static int compare_chunk(void *cookie, uint64_t chunk, unsigned index, struct uz_error *err)
{
    struct uz_diff *diff = cookie;
    struct pair *pair = pair_of(diff, chunk);
    struct worker *worker = &diff->workers[index];
    uint64_t numel = diff->a.model.tensors[pair->a].numel;
    uint64_t lo = (chunk - pair->first_chunk) * CHUNK_ELEMS;
    uint64_t n = numel - lo < CHUNK_ELEMS ? numel - lo : CHUNK_ELEMS;
    struct uz_difference found;
    uz_difference_init(&found);
    UZ_TRY(uz_fetch_elems(&worker->a, pair->a, lo, n, pair->comparer.a, worker->a_elems, err));
    UZ_TRY(uz_fetch_elems(&worker->b, pair->b, lo, n, pair->comparer.b, worker->b_elems, err));
    uz_compare(&pair->comparer, worker->a_elems, worker->b_elems, (size_t)n, lo, &found);
    if (found.n_differ > 0) {
        pthread_mutex_lock(&diff->lock);
        uz_difference_merge(&pair->difference, &found);
        pthread_mutex_unlock(&diff->lock);
    }
    atomic_fetch_add(&diff->nbytes_done,
                     n * (uz_dtype_size(pair->comparer.a) + uz_dtype_size(pair->comparer.b)));
    return UZ_OK;
}

static int on_tick(void *cookie)
{
    struct uz_diff *diff = cookie;
    if (!diff->progress)
        return 0;
    return diff->progress(diff->cookie, atomic_load(&diff->nbytes_done), diff->nbytes);
}

static int init_worker(const struct uz_diff *diff, struct worker *worker, struct uz_error *err)
{
    unsigned n_slots = uz_fd_slots_for(2 * diff->options.input.threads);
    UZ_TRY(uz_alloc(&worker->a_elems, CHUNK_ELEMS, 8, err));
    UZ_TRY(uz_alloc(&worker->b_elems, CHUNK_ELEMS, 8, err));
    UZ_TRY(uz_fetch_init(&worker->a, &diff->a.model, BUFFER_NBYTES, n_slots, err));
    return uz_fetch_init(&worker->b, &diff->b.model, BUFFER_NBYTES, n_slots, err);
}

static void free_workers(struct uz_diff *diff)
{
    for (unsigned i = 0; diff->workers && i < diff->options.input.threads; i++) {
        uz_fetch_free(&diff->workers[i].a);
        uz_fetch_free(&diff->workers[i].b);
        free(diff->workers[i].a_elems);
        free(diff->workers[i].b_elems);
    }
    free(diff->workers);
    diff->workers = NULL;
}

static int compare_all(struct uz_diff *diff, struct uz_error *err)
{
    unsigned threads = diff->options.input.threads;
    UZ_TRY(uz_alloc(&diff->workers, threads, sizeof *diff->workers, err));
    for (unsigned i = 0; i < threads; i++)
        UZ_TRY(init_worker(diff, &diff->workers[i], err));
    return uz_parallel(threads, diff->n_chunks, compare_chunk, on_tick, diff, err);
}

/* ---- The result ---- */

static void judge(const struct uz_diff *diff, const struct pair *pair)
{
    struct uz_diff_tensor *t = &diff->tensors[pair->result];
    const struct uz_difference *d = &pair->difference;
    t->n_differ = d->n_differ;
    t->n_beyond = d->n_beyond;
    t->n_nan = d->n_nan;
    t->max_abs = d->max_abs;
    t->max_rel = d->max_rel;
    t->has_ulp = pair->comparer.how == UZ_COMPARE_REAL;
    t->max_ulp = d->max_ulp;
    t->first = d->first;
    t->first_a = d->first_a;
    t->first_b = d->first_b;
    t->passes = d->n_beyond == 0;
    if (d->n_differ == 0)
        t->verdict = UZ_DIFF_EQUAL;
    else if (pair->comparer.a != pair->comparer.b && d->n_unrounded == 0)
        t->verdict = UZ_DIFF_ROUNDED;
    else
        t->verdict = d->n_beyond == 0 ? UZ_DIFF_CLOSE : UZ_DIFF_VALUES;
}

/* How much a verdict weighs in the order of the table. */
static int weight(const struct uz_diff_tensor *t)
{
    static const int weights[] = {
        [UZ_DIFF_EQUAL] = 0, [UZ_DIFF_CLOSE] = 1, [UZ_DIFF_ROUNDED] = 2, [UZ_DIFF_VALUES] = 3,
        [UZ_DIFF_DTYPE] = 4, [UZ_DIFF_SHAPE] = 5, [UZ_DIFF_ONLY_A] = 6,  [UZ_DIFF_ONLY_B] = 7,
    };
    return weights[t->verdict] + (t->passes ? 0 : 10);
}

static int by_difference(const void *a, const void *b)
{
    const struct uz_diff_tensor *x = a, *y = b;
    if (weight(x) != weight(y))
        return weight(x) > weight(y) ? -1 : 1;
    if (x->max_rel < y->max_rel || x->max_rel > y->max_rel)
        return x->max_rel > y->max_rel ? -1 : 1;
    if (x->n_differ != y->n_differ)
        return x->n_differ > y->n_differ ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void count(struct uz_diff_result *result, const struct uz_diff_tensor *t)
{
    uint64_t *const counts[] = {
        [UZ_DIFF_EQUAL] = &result->n_equal,     [UZ_DIFF_CLOSE] = &result->n_close,
        [UZ_DIFF_ROUNDED] = &result->n_rounded, [UZ_DIFF_VALUES] = &result->n_differ,
        [UZ_DIFF_DTYPE] = &result->n_differ,    [UZ_DIFF_SHAPE] = &result->n_differ,
        [UZ_DIFF_ONLY_A] = &result->n_only_a,   [UZ_DIFF_ONLY_B] = &result->n_only_b,
    };
    ++*counts[t->verdict];
    result->same = result->same && t->passes;
}

static void summarize(struct uz_diff *diff)
{
    struct uz_diff_result *result = &diff->result;
    for (size_t i = 0; i < diff->n_pairs; i++)
        judge(diff, &diff->pairs[i]);
    if (diff->n_tensors > 0)
        qsort(diff->tensors, diff->n_tensors, sizeof *diff->tensors, by_difference);
    result->same = true;
    for (size_t i = 0; i < diff->n_tensors; i++)
        count(result, &diff->tensors[i]);
    result->kind_a = diff->a.info.kind;
    result->kind_b = diff->b.info.kind;
    result->tensors = diff->tensors;
    result->n_tensors = diff->n_tensors;
    result->n_elems = diff->n_elems;
    result->warnings = (const char *const *)diff->notes.items;
    result->n_warnings = diff->notes.n;
}

static int run(struct uz_diff *diff, const char *a, const char *b, struct uz_error *err)
{
    UZ_TRY(uz_side_open(&diff->a, a, &diff->options, NULL, &diff->notes, err));
    UZ_TRY(uz_side_open(&diff->b, b, &diff->options, &diff->a, &diff->notes, err));
    UZ_TRY(pair_sides(diff, err));
    if (diff->n_tensors == 0)
        return uz_fail(err, UZ_ARG, "no tensors are left to compare");
    int rc = compare_all(diff, err);
    free_workers(diff);
    UZ_TRY(rc);
    summarize(diff);
    return UZ_OK;
}

int uz_diff_run(struct uz_diff **out, const char *a, const char *b,
                const struct uz_diff_options *options, uz_progress_fn progress, void *cookie,
                struct uz_error *err)
{
    struct uz_diff *diff;
    uz_error_clear(err);
    UZ_TRY(uz_alloc(&diff, 1, sizeof *diff, err));
    diff->options = *options;
    diff->notes.strict = options->input.strict;
    diff->progress = progress;
    diff->cookie = cookie;
    if (diff->options.input.threads == 0)
        diff->options.input.threads = uz_usable_processors();
    if (pthread_mutex_init(&diff->lock, NULL) != 0) {
        free(diff);
        return uz_fail_nomem(err, sizeof *diff);
    }
    int rc = run(diff, a, b, err);
    if (rc < 0) {
        uz_diff_free(diff);
        return rc;
    }
    *out = diff;
    return UZ_OK;
}

const struct uz_diff_result *uz_diff_result(const struct uz_diff *diff)
{
    return &diff->result;
}

void uz_diff_free(struct uz_diff *diff)
{
    if (!diff)
        return;
    free_workers(diff);
    uz_side_free(&diff->a);
    uz_side_free(&diff->b);
    uz_notes_free(&diff->notes);
    pthread_mutex_destroy(&diff->lock);
    free(diff->tensors);
    free(diff->pairs);
    free(diff);
}
