/* SPDX-License-Identifier: Apache-2.0 */
/* Lists the pieces of targets that draw on compressed storages. */
#include "plan/streams.h"

#include <stdlib.h>
#include <string.h>

static bool any_packed(const struct uz_model *model)
{
    for (size_t i = 0; i < model->n_places; i++)
        if (model->places[i].packing)
            return true;
    return false;
}

static bool needs_stream(const struct uz_model *model, const struct uz_tensor *tensor)
{
    for (uint64_t i = 0; i < tensor->n_pieces; i++)
        if (model->places[model->pieces[tensor->first_piece + i].storage].packing)
            return true;
    return false;
}

/* The elements that a piece and a target have in common. */
static int add_piece(struct uz_plan *plan, size_t *cap, const struct uz_piece *piece,
                     const struct uz_target *target, uint32_t file, struct uz_error *err)
{
    uint64_t lo = piece->lo > target->lo ? piece->lo : target->lo;
    uint64_t piece_end = piece->lo + piece->n_elems, target_end = target->lo + target->n_elems;
    uint64_t hi = piece_end < target_end ? piece_end : target_end;
    const struct uz_tensor *tensor = &plan->model->tensors[piece->tensor];
    if (piece->map)
        return uz_fail_at(
            err, UZ_UNSUPPORTED, plan->model->files[plan->model->places[piece->storage].file],
            UZ_NO_OFFSET, "%s is stored with strides in a compressed entry", tensor->name);
    if (lo >= hi)
        return UZ_OK;
    UZ_TRY(uz_reserve(&plan->stream_pieces, cap, (uint64_t)plan->n_stream_pieces + 1,
                      sizeof *plan->stream_pieces, err));
    plan->stream_pieces[plan->n_stream_pieces++] = (struct uz_stream_piece){
        .place = piece->storage,
        .file = file,
        .from = tensor->dtype,
        .to = target->dtype,
        .src = (piece->src + (lo - piece->lo)) * uz_dtype_size(tensor->dtype),
        .dst = target->offset + (lo - target->lo) * uz_dtype_size(target->dtype),
        .n_elems = hi - lo,
    };
    return UZ_OK;
}

static int add_target(struct uz_plan *plan, size_t *cap, size_t index, uint32_t file,
                      struct uz_error *err)
{
    const struct uz_target *target = &plan->out->targets[index];
    const struct uz_tensor *tensor = &plan->model->tensors[target->tensor];
    if (!needs_stream(plan->model, tensor))
        return UZ_OK;
    plan->streamed[index] = true;
    for (uint64_t i = 0; i < tensor->n_pieces; i++)
        UZ_TRY(
            add_piece(plan, cap, &plan->model->pieces[tensor->first_piece + i], target, file, err));
    return UZ_OK;
}

/* Compressed storages of one entry are one stream, whatever places name them. */
static int compare_places(const struct uz_model *model, uint32_t a, uint32_t b)
{
    const struct uz_place *x = &model->places[a], *y = &model->places[b];
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    if (x->packing != y->packing)
        return x->packing < y->packing ? -1 : 1;
    if (x->packing)
        return x->entry < y->entry ? -1 : x->entry > y->entry;
    return a < b ? -1 : a > b;
}

static int by_source(const void *a, const void *b, void *model)
{
    const struct uz_stream_piece *x = a, *y = b;
    int order = compare_places(model, x->place, y->place);
    return order ? order : x->src < y->src ? -1 : x->src > y->src;
}

static int group_by_place(struct uz_plan *plan, struct uz_error *err)
{
    const struct uz_stream_piece *pieces = plan->stream_pieces;
    size_t cap = 0;
    for (size_t i = 0; i < plan->n_stream_pieces; i++) {
        if (i > 0 && compare_places(plan->model, pieces[i].place, pieces[i - 1].place) == 0) {
            plan->streams[plan->n_streams - 1].n++;
            continue;
        }
        UZ_TRY(uz_reserve(&plan->streams, &cap, (uint64_t)plan->n_streams + 1,
                          sizeof *plan->streams, err));
        plan->streams[plan->n_streams++] =
            (struct uz_stream){.place = pieces[i].place, .first = i, .n = 1};
    }
    return UZ_OK;
}

int uz_plan_streams(struct uz_plan *plan, struct uz_error *err)
{
    const struct uz_out *out = plan->out;
    size_t cap = 0;
    if (!any_packed(plan->model))
        return UZ_OK;
    UZ_TRY(uz_alloc(&plan->streamed, out->n_targets, sizeof *plan->streamed, err));
    for (uint32_t file = 0; file < out->n_files; file++)
        for (size_t i = 0; i < out->files[file].n_targets; i++)
            UZ_TRY(add_target(plan, &cap, out->files[file].first_target + i, file, err));
    if (plan->n_stream_pieces > 0) {
        struct uz_model model = *plan->model; /* qsort_r's cookie is not const */
        qsort_r(plan->stream_pieces, plan->n_stream_pieces, sizeof *plan->stream_pieces, by_source,
                &model);
    }
    return group_by_place(plan, err);
}
