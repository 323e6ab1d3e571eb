/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts the source's pieces to what the output's storages hold. */
#include "out/stored.h"

#include <string.h>

#include "base/mem.h"

/* Runs that pieces with strides may have in all: each becomes a piece of its own. */
enum { MAX_STRIDED_RUNS = 1 << 22 };

/* Files and places of the source, under the same numbers. */
static int copy_places(struct uz_stored *stored, struct uz_error *err)
{
    const struct uz_model *source = stored->source;
    uint32_t index;
    for (size_t i = 0; i < source->n_files; i++)
        UZ_TRY(uz_model_add_file(&stored->model, source->files[i], &index, err));
    for (size_t i = 0; i < source->n_places; i++)
        UZ_TRY(uz_model_add_place(&stored->model, &source->places[i], &index, err));
    const struct uz_place zeros = {.file = UZ_NONE, .nbytes = INT64_MAX};
    return uz_model_add_place(&stored->model, &zeros, &stored->zeros, err);
}

int uz_stored_start(struct uz_stored *stored, const struct uz_model *source,
                    const struct uz_limits *limits, struct uz_error *err)
{
    *stored = (struct uz_stored){.source = source};
    UZ_TRY(uz_model_init(&stored->model, limits, err));
    return copy_places(stored, err);
}

void uz_stored_free(struct uz_stored *stored)
{
    if (stored->source)
        uz_model_free(&stored->model);
    *stored = (struct uz_stored){0};
}

int uz_stored_open(struct uz_stored *stored, const char *name, enum uz_dtype dtype, uint64_t numel,
                   uint32_t *tensor, struct uz_error *err)
{
    UZ_TRY(uz_model_add_tensor(&stored->model, name, strlen(name), UZ_ROLE_BUFFER, dtype, 1, &numel,
                               &stored->open, err));
    stored->at = 0;
    stored->numel = numel;
    stored->n_zeros = 0;
    *tensor = stored->open;
    return UZ_OK;
}

static int add_piece(struct uz_stored *stored, uint32_t place, uint64_t src, uint64_t n_elems,
                     struct uz_error *err)
{
    const struct uz_piece piece = {
        .tensor = stored->open,
        .storage = place,
        .lo = stored->at,
        .n_elems = n_elems,
        .src = src,
    };
    stored->at += n_elems;
    return uz_model_add_piece(&stored->model, &piece, err);
}

static int fill(struct uz_stored *stored, uint64_t to, struct uz_error *err)
{
    uint64_t n = to - stored->at;
    stored->n_zeros += n;
    return n ? add_piece(stored, stored->zeros, 0, n, err) : UZ_OK;
}

/* The first of a tensor's sorted pieces that ends behind element lo. */
static uint64_t first_piece(const struct uz_piece *pieces, uint64_t n, uint64_t lo)
{
    uint64_t low = 0, high = n, first, end;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        uz_piece_span(&pieces[mid], &first, &end);
        if (end <= lo)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The part of a tensor that is being put: element lo of it goes to element `at` of the storage. */
struct part {
    uint64_t at, lo, hi;
};

/* What a piece has of the part, run by run. */
static int put_runs(struct uz_stored *stored, const struct uz_piece *piece, const struct part *part,
                    struct uz_error *err)
{
    struct uz_runs runs;
    struct uz_run run;
    const char *name = stored->source->tensors[piece->tensor].name;
    uz_runs_begin(&runs, piece, part->lo, part->hi);
    for (uint64_t n = 0; uz_runs_next(&runs, &run); n++) {
        if (n >= MAX_STRIDED_RUNS || (piece->map && uz_divides(piece->map->divisor)))
            return uz_fail(err, UZ_UNSUPPORTED,
                           "%s is stored with strides, in too many parts, or scaled", name);
        if (run.dst - part->lo != stored->at - part->at)
            return uz_fail(err, UZ_UNSUPPORTED, "the parts of %s lie among one another", name);
        UZ_TRY(add_piece(stored, piece->storage, run.src, run.n_elems, err));
    }
    return UZ_OK;
}

int uz_stored_put(struct uz_stored *stored, uint64_t at, uint32_t tensor, uint64_t lo,
                  uint64_t n_elems, struct uz_error *err)
{
    const struct uz_tensor *t = &stored->source->tensors[tensor];
    const struct uz_piece *pieces = &stored->source->pieces[t->first_piece];
    const struct part part = {at, lo, lo + n_elems};
    uint64_t first, end;
    UZ_TRY(fill(stored, at, err));
    for (uint64_t i = first_piece(pieces, t->n_pieces, lo); n_elems && i < t->n_pieces; i++) {
        uz_piece_span(&pieces[i], &first, &end);
        if (first >= part.hi)
            break;
        UZ_TRY(put_runs(stored, &pieces[i], &part, err));
    }
    return UZ_OK;
}

int uz_stored_close(struct uz_stored *stored, struct uz_error *err)
{
    return fill(stored, stored->numel, err);
}

int uz_stored_whole(struct uz_stored *stored, const char *name, enum uz_dtype dtype, uint64_t numel,
                    const struct uz_place *place, uint32_t *tensor, struct uz_error *err)
{
    uint32_t index;
    UZ_TRY(uz_stored_open(stored, name, dtype, numel, tensor, err));
    UZ_TRY(uz_model_add_place(&stored->model, place, &index, err));
    return numel ? add_piece(stored, index, 0, numel, err) : UZ_OK;
}
