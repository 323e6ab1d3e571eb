/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block by block, what must be equal is read twice: what a layer copies, and then the same with the
 * layer's elements put over it. Where it covers a part of the block only, the rest is equal anyway.
 */
#include "check/replicas.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "engine/gather.h"

/* What one thread owns. */
struct comparer {
    struct uz_gather gather;
    struct uz_copies copies;
    unsigned char *base, *copy;
};

struct job {
    const struct uz_model *model;
    uint64_t buffer_nbytes;
    uint32_t *layers; /* those to be compared */
    uint64_t n_layers;
    struct comparer *comparers;
};

bool uz_model_has_layers(const struct uz_model *model)
{
    return model->n_layers > 0;
}

static int read_region(struct comparer *c, const struct uz_region *region, unsigned char *to,
                       struct uz_error *err)
{
    c->copies.n = 0;
    UZ_TRY(uz_copies_add(&c->copies, c->gather.model, region, region->from, 0, err));
    return uz_gather_copies(&c->gather, c->copies.items, c->copies.n, to, err);
}

/* The region of what a layer copies. */
static struct uz_region base_of(const struct uz_model *model, const struct uz_layer *layer)
{
    const struct uz_tensor *tensor = &model->tensors[layer->tensor];
    struct uz_region region = {.from = tensor->dtype};
    if (layer->base == UZ_NONE) {
        region.pieces = &model->pieces[tensor->first_piece];
        region.n_pieces = tensor->n_pieces;
    } else {
        region.pieces = &model->layer_pieces[model->layers[layer->base].first_piece];
        region.n_pieces = model->layers[layer->base].n_pieces;
    }
    return region;
}

static int report(const struct uz_model *model, const struct uz_layer *layer, uint64_t elem,
                  struct uz_error *err)
{
    const struct uz_tensor *tensor = &model->tensors[layer->tensor];
    char index[256] = "";
    size_t used = 0;
    uint64_t inner = tensor->numel;
    for (unsigned j = 0; j < tensor->ndim && used + 32 < sizeof index; j++) {
        inner /= tensor->shape[j];
        used += (size_t)snprintf(index + used, sizeof index - used, "%s%llu", j ? ", " : "",
                                 (unsigned long long)(elem / inner % tensor->shape[j]));
    }
    return uz_fail(err, UZ_MISMATCH,
                   "%s%s%s is to be the same on all ranks, but %s holds another value than %s at "
                   "[%s], the first of the elements that differ: the ranks have drifted apart, or "
                   "a shard is damaged or of another save",
                   tensor->name, tensor->state ? ", state " : "",
                   tensor->state ? model->states[tensor->state] : "", layer->rank, layer->base_rank,
                   index);
}

static int compare_block(struct comparer *c, const struct uz_layer *layer, uint64_t lo, uint64_t hi,
                         struct uz_error *err)
{
    const struct uz_model *model = c->gather.model;
    struct uz_region region = base_of(model, layer);
    size_t size = uz_dtype_size(region.from), nbytes = (size_t)(hi - lo) * size, i = 0;
    region.lo = lo;
    region.hi = hi;
    UZ_TRY(read_region(c, &region, c->base, err));
    memcpy(c->copy, c->base, nbytes);
    region.pieces = &model->layer_pieces[layer->first_piece];
    region.n_pieces = layer->n_pieces;
    UZ_TRY(read_region(c, &region, c->copy, err));
    if (!memcmp(c->base, c->copy, nbytes))
        return UZ_OK;
    while (c->base[i] == c->copy[i])
        i++;
    return report(model, layer, lo + i / size, err);
}

/* Elements of the tensor that a layer reaches over. */
static void span_of(const struct uz_model *model, const struct uz_layer *layer, uint64_t *lo,
                    uint64_t *hi)
{
    *lo = UINT64_MAX;
    *hi = 0;
    for (uint64_t i = 0; i < layer->n_pieces; i++) {
        uint64_t first, end;
        uz_piece_span(&model->layer_pieces[layer->first_piece + i], &first, &end);
        *lo = first < *lo ? first : *lo;
        *hi = end > *hi ? end : *hi;
    }
}

static int compare_layer(void *cookie, uint64_t number, unsigned worker, struct uz_error *err)
{
    struct job *job = cookie;
    const struct uz_layer *layer = &job->model->layers[job->layers[number]];
    uint64_t size = uz_dtype_size(job->model->tensors[layer->tensor].dtype), lo, hi;
    span_of(job->model, layer, &lo, &hi);
    for (uint64_t end; lo < hi; lo = end) {
        end = hi - lo > job->buffer_nbytes / size ? lo + job->buffer_nbytes / size : hi;
        UZ_TRY(compare_block(&job->comparers[worker], layer, lo, end, err));
    }
    return UZ_OK;
}

static int set_up(struct job *job, uint32_t tensor, unsigned threads, struct uz_error *err)
{
    UZ_TRY(uz_alloc(&job->layers, job->model->n_layers, sizeof *job->layers, err));
    for (uint32_t i = 0; i < job->model->n_layers; i++)
        if (job->model->layers[i].op == UZ_LAYER_EQUAL && job->model->layers[i].n_pieces > 0 &&
            (tensor == UZ_NONE || tensor == job->model->layers[i].tensor))
            job->layers[job->n_layers++] = i;
    UZ_TRY(uz_alloc(&job->comparers, threads, sizeof *job->comparers, err));
    for (unsigned i = 0; i < threads; i++) {
        struct comparer *c = &job->comparers[i];
        UZ_TRY(uz_gather_init(&c->gather, job->model, uz_cast_ops_for(UINT_MAX), job->buffer_nbytes,
                              uz_fd_slots_for(threads), err));
        UZ_TRY(uz_alloc(&c->base, job->buffer_nbytes, 1, err));
        UZ_TRY(uz_alloc(&c->copy, job->buffer_nbytes, 1, err));
    }
    return UZ_OK;
}

/* `tensor` is UZ_NONE for all of them. */
static int check(const struct uz_model *model, uint32_t tensor, unsigned threads,
                 uint64_t buffer_nbytes, struct uz_error *err)
{
    struct job job = {.model = model, .buffer_nbytes = buffer_nbytes};
    if (model->n_layers == 0)
        return UZ_OK;
    int rc = uz_check_pieces(model, err);
    if (rc == UZ_OK)
        rc = set_up(&job, tensor, threads, err);
    if (rc == UZ_OK)
        rc = uz_parallel(threads, job.n_layers, compare_layer, NULL, &job, err);
    for (unsigned i = 0; job.comparers && i < threads; i++) {
        uz_gather_free(&job.comparers[i].gather);
        uz_copies_free(&job.comparers[i].copies);
        free(job.comparers[i].base);
        free(job.comparers[i].copy);
    }
    free(job.comparers);
    free(job.layers);
    return rc;
}

int uz_check_replicas(const struct uz_model *model, unsigned threads, uint64_t buffer_nbytes,
                      struct uz_error *err)
{
    return check(model, UZ_NONE, threads, buffer_nbytes, err);
}

int uz_check_replicas_of(const struct uz_model *model, uint32_t tensor, unsigned threads,
                         uint64_t buffer_nbytes, struct uz_error *err)
{
    return model->tensors[tensor].n_layers > 0 ? check(model, tensor, threads, buffer_nbytes, err)
                                               : UZ_OK;
}
