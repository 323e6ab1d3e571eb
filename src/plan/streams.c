/* SPDX-License-Identifier: Apache-2.0 */
/* Lists what stream jobs do: the pieces of targets that draw on compressed storages. */
#include "plan/streams.h"

#include <stdlib.h>
#include <string.h>

#include "base/order.h"

/* Runs that pieces with strides may have in all: each becomes a stream piece of its own. */
enum { MAX_STRIDED_RUNS = 1 << 20 };

/* What is needed while pieces are listed. */
struct lister {
    struct uz_plan *plan;
    size_t cap;
    uint64_t n_strided_runs;
    uint32_t file;
    size_t target;
};

static bool needs_stream(const struct uz_model *model, const struct uz_tensor *tensor)
{
    for (uint64_t i = 0; i < tensor->n_pieces; i++)
        if (model->places[model->pieces[tensor->first_piece + i].storage].packing)
            return true;
    return false;
}

static int fail_in_place(const struct lister *lister, const struct uz_piece *piece, int status,
                         const char *what, struct uz_error *err)
{
    const struct uz_model *model = lister->plan->model;
    return uz_fail_at(err, status, model->files[model->places[piece->storage].file], UZ_NO_OFFSET,
                      "%s: %s", model->tensors[piece->tensor].name, what);
}

/* Adds a run, or makes the piece before it longer if it follows that on both sides. */
static int add_run(struct lister *lister, const struct uz_piece *piece, const struct uz_run *run,
                   bool is_first, struct uz_error *err)
{
    struct uz_plan *plan = lister->plan;
    const struct uz_target *target = &plan->out->targets[lister->target];
    uint64_t from_size = uz_dtype_size(plan->model->tensors[piece->tensor].dtype);
    uint64_t to_size = uz_dtype_size(target->dtype);
    uint64_t room = plan->model->places[piece->storage].nbytes / from_size;
    uint64_t src = run->src * from_size, dst = (run->dst - target->lo) * to_size;
    if (run->src > room || run->n_elems > room - run->src)
        return fail_in_place(lister, piece, UZ_CORRUPT,
                             "a piece of it reaches past the end of its storage", err);
    if (!is_first) {
        struct uz_stream_piece *last = &plan->stream_pieces[plan->n_stream_pieces - 1];
        if (last->src + last->n_elems * from_size == src &&
            last->dst + last->n_elems * to_size == dst) {
            last->n_elems += run->n_elems;
            return UZ_OK;
        }
    }
    if (piece->map && ++lister->n_strided_runs > MAX_STRIDED_RUNS)
        return fail_in_place(lister, piece, UZ_UNSUPPORTED,
                             "it is stored with strides, in too many parts to be picked from "
                             "compressed data; decompress the file first",
                             err);
    UZ_TRY(uz_reserve(&plan->stream_pieces, &lister->cap, (uint64_t)plan->n_stream_pieces + 1,
                      sizeof *plan->stream_pieces, err));
    plan->stream_pieces[plan->n_stream_pieces++] = (struct uz_stream_piece){
        .place = piece->storage,
        .file = lister->file,
        .target = lister->target,
        .src = src,
        .dst = dst,
        .n_elems = run->n_elems,
        .divisor = piece->map ? piece->map->divisor : 0,
    };
    return UZ_OK;
}

static int add_target(struct lister *lister, struct uz_error *err)
{
    struct uz_plan *plan = lister->plan;
    const struct uz_target *target = &plan->out->targets[lister->target];
    const struct uz_tensor *tensor = &plan->model->tensors[target->tensor];
    if (tensor->is_mean || !needs_stream(plan->model, tensor))
        return UZ_OK;
    plan->streamed[lister->target] = true;
    for (uint64_t i = 0; i < tensor->n_pieces; i++) {
        const struct uz_piece *piece = &plan->model->pieces[tensor->first_piece + i];
        struct uz_runs runs;
        struct uz_run run;
        bool is_first = true;
        uz_runs_begin(&runs, piece, target->lo, target->lo + target->n_elems);
        for (; uz_runs_next(&runs, &run); is_first = false)
            UZ_TRY(add_run(lister, piece, &run, is_first, err));
    }
    return UZ_OK;
}

/* By the pass that a place belongs to: a file, a zip entry, or the place itself if not packed. */
static int compare_jobs(const struct uz_model *model, uint32_t a, uint32_t b)
{
    const struct uz_place *x = &model->places[a], *y = &model->places[b];
    if (x->file != y->file)
        return uz_compare_u64(x->file, y->file);
    if (x->packing != y->packing)
        return x->packing < y->packing ? -1 : 1;
    switch (x->packing) {
    case UZ_PACKED_ZSTD:
        return 0;
    case UZ_PACKED_DEFLATE:
        return uz_compare_u64(x->entry, y->entry);
    default:
        return uz_compare_u64(a, b);
    }
}

/* Places of one entry are one storage, whatever tensors name them. */
static int by_source(const void *a, const void *b, void *model)
{
    const struct uz_stream_piece *x = a, *y = b;
    const struct uz_place *places = ((const struct uz_model *)model)->places;
    int order = compare_jobs(model, x->place, y->place);
    if (order == 0)
        order = uz_compare_u64(places[x->place].entry, places[y->place].entry);
    return order ? order : uz_compare_u64(x->src, y->src);
}

/* Divides the sorted pieces by storage, and the storages by job. */
static int group(struct uz_plan *plan, struct uz_error *err)
{
    const struct uz_model *model = plan->model;
    const struct uz_stream_piece *pieces = plan->stream_pieces;
    struct uz_stream_storage *storage = NULL;
    struct uz_stream_job *job = NULL;
    size_t cap_storages = 0, cap_jobs = 0;
    for (size_t i = 0; i < plan->n_stream_pieces; i++) {
        uint64_t entry = model->places[pieces[i].place].entry;
        bool new_job = !job || compare_jobs(model, pieces[i].place, job->place) != 0;
        if (new_job) {
            UZ_TRY(UZ_APPEND(plan->stream_jobs, plan->n_stream_jobs, cap_jobs, &job, err));
            job->place = pieces[i].place;
            job->first = plan->n_stream_storages;
        }
        if (new_job || storage->entry != entry) {
            UZ_TRY(UZ_APPEND(plan->stream_storages, plan->n_stream_storages, cap_storages, &storage,
                             err));
            storage->entry = entry;
            storage->first = i;
            job->n++;
        }
        storage->n++;
    }
    return UZ_OK;
}

int uz_plan_streams(struct uz_plan *plan, struct uz_error *err)
{
    const struct uz_out *out = plan->out;
    struct lister lister = {.plan = plan};
    if (!uz_model_is_packed(plan->model))
        return UZ_OK;
    UZ_TRY(uz_alloc(&plan->streamed, out->n_targets, sizeof *plan->streamed, err));
    for (lister.file = 0; lister.file < out->n_files; lister.file++) {
        const struct uz_out_file *file = &out->files[lister.file];
        for (size_t i = 0; i < file->n_targets; i++) {
            lister.target = file->first_target + i;
            UZ_TRY(add_target(&lister, err));
        }
    }
    if (plan->n_stream_pieces > 0) {
        struct uz_model model = *plan->model; /* qsort_r's cookie is not const */
        qsort_r(plan->stream_pieces, plan->n_stream_pieces, sizeof *plan->stream_pieces, by_source,
                &model);
    }
    return group(plan, err);
}
