/* SPDX-License-Identifier: Apache-2.0 */
/* Composes the elements that are asked for and gathers them. */
#include "engine/fetch.h"

#include <limits.h>

#include "engine/mean.h"

int uz_fetch_init(struct uz_fetch *fetch, const struct uz_model *model, uint64_t buffer_nbytes,
                  unsigned n_fd_slots, struct uz_error *err)
{
    *fetch = (struct uz_fetch){0};
    return uz_gather_init(&fetch->gather, model, uz_cast_ops_for(UINT_MAX), buffer_nbytes,
                          n_fd_slots, err);
}

void uz_fetch_free(struct uz_fetch *fetch)
{
    uz_gather_free(&fetch->gather);
    uz_copies_free(&fetch->copies);
}

int uz_fetch_check(const struct uz_model *model, struct uz_error *err)
{
    for (size_t i = 0; i < model->n_places; i++)
        if (model->places[i].packing)
            return uz_fail_at(err, UZ_ARG, model->files[model->places[i].file], UZ_NO_OFFSET,
                              "is compressed and was not spooled");
    return uz_check_pieces(model, err);
}

static int fetch_region(struct uz_fetch *fetch, const struct uz_region *region, enum uz_dtype to,
                        void *out, struct uz_error *err)
{
    fetch->copies.n = 0;
    UZ_TRY(uz_copies_add(&fetch->copies, fetch->gather.model, region, to, 0, err));
    return uz_gather_copies(&fetch->gather, fetch->copies.items, fetch->copies.n, out, err);
}

int uz_fetch_elems(struct uz_fetch *fetch, uint32_t index, uint64_t lo, uint64_t n_elems,
                   enum uz_dtype to, void *out, struct uz_error *err)
{
    const struct uz_model *model = fetch->gather.model;
    const struct uz_tensor *tensor = &model->tensors[index];
    if (tensor->is_mean)
        return uz_gather_mean(&fetch->gather, &fetch->copies, index, lo, lo + n_elems, to, out,
                              err);
    const struct uz_region region = {
        .pieces = &model->pieces[tensor->first_piece],
        .n_pieces = tensor->n_pieces,
        .from = tensor->dtype,
        .lo = lo,
        .hi = lo + n_elems,
    };
    return fetch_region(fetch, &region, to, out, err);
}

int uz_fetch_lp(struct uz_fetch *fetch, uint32_t index, uint64_t lo, uint64_t n_elems,
                enum uz_dtype to, void *out, struct uz_error *err)
{
    const struct uz_model *model = fetch->gather.model;
    const struct uz_tensor *tensor = &model->tensors[index];
    const struct uz_region region = {
        .pieces = &model->lp_pieces[tensor->lp],
        .n_pieces = tensor->n_lp,
        .from = tensor->lp_dtype,
        .lo = lo,
        .hi = lo + n_elems,
    };
    return fetch_region(fetch, &region, to, out, err);
}

int uz_fetch_stored(struct uz_fetch *fetch, uint32_t place, uint64_t first, uint64_t n_elems,
                    enum uz_dtype dtype, void *out, struct uz_error *err)
{
    const struct uz_model *model = fetch->gather.model;
    const struct uz_piece piece = {.storage = place, .n_elems = n_elems, .src = first};
    uint64_t end;
    if (!uz_add_u64(first, n_elems, &end) ||
        end > model->places[place].nbytes / uz_dtype_size(dtype))
        return uz_fail_at(err, UZ_CORRUPT, model->files[model->places[place].file], UZ_NO_OFFSET,
                          "a storage ends before element %llu", (unsigned long long)end);
    const struct uz_region region = {
        .pieces = &piece, .n_pieces = 1, .from = dtype, .lo = 0, .hi = n_elems};
    return fetch_region(fetch, &region, dtype, out, err);
}
