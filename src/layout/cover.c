/* SPDX-License-Identifier: Apache-2.0 */
/* Proves that the pieces of a tensor cover it exactly, by merging their runs. */
#include <stdlib.h>

#include "base/mem.h"
#include "layout/piece.h"

struct head {
    struct uz_run run;
    struct uz_runs rest;
};

/* A binary heap by where the next run begins. */
struct heap {
    struct head *heads;
    uint64_t n;
};

static void sift_down(struct heap *heap, uint64_t i)
{
    for (;;) {
        uint64_t least = i;
        for (uint64_t child = 2 * i + 1; child <= 2 * i + 2 && child < heap->n; child++)
            if (heap->heads[child].run.dst < heap->heads[least].run.dst)
                least = child;
        if (least == i)
            return;
        struct head swap = heap->heads[i];
        heap->heads[i] = heap->heads[least];
        heap->heads[least] = swap;
        i = least;
    }
}

static int fill_heap(struct heap *heap, const struct uz_piece *pieces, uint64_t n_pieces,
                     struct uz_error *err)
{
    UZ_TRY(uz_alloc(&heap->heads, n_pieces, sizeof *heap->heads, err));
    for (uint64_t i = 0; i < n_pieces; i++) {
        struct head *head = &heap->heads[heap->n];
        uz_runs_begin(&head->rest, &pieces[i], 0, UINT64_MAX);
        if (uz_runs_next(&head->rest, &head->run))
            heap->n++;
    }
    for (uint64_t i = heap->n / 2; i-- > 0;)
        sift_down(heap, i);
    return UZ_OK;
}

/* Expects the next run to begin at *end and moves *end past it. */
static int add_run(const struct uz_run *run, uint64_t *end, const char *name, struct uz_error *err)
{
    if (run->dst > *end)
        return uz_fail(err, UZ_MISMATCH, "%s: no shard holds its elements %llu to %llu", name,
                       (unsigned long long)*end, (unsigned long long)(run->dst - 1));
    if (run->dst < *end)
        return uz_fail(err, UZ_MISMATCH, "%s: two shards hold its element %llu", name,
                       (unsigned long long)run->dst);
    *end += run->n_elems;
    return UZ_OK;
}

static int merge(struct heap *heap, uint64_t *end, const char *name, struct uz_error *err)
{
    while (heap->n > 0) {
        struct head *first = &heap->heads[0];
        UZ_TRY(add_run(&first->run, end, name, err));
        if (!uz_runs_next(&first->rest, &first->run))
            heap->heads[0] = heap->heads[--heap->n];
        sift_down(heap, 0);
    }
    return UZ_OK;
}

static bool any_mapped(const struct uz_piece *pieces, uint64_t n_pieces)
{
    for (uint64_t i = 0; i < n_pieces; i++)
        if (pieces[i].map)
            return true;
    return false;
}

/* True if the piece is the whole shard and the shard, in order, the whole tensor. */
static bool is_whole_tensor(const struct uz_piece *piece, uint64_t numel)
{
    const struct uz_shard_map *map = piece->map;
    uint64_t step = 1;
    if (piece->lo != 0 || piece->n_elems != numel || !map || map->dst_first != 0)
        return false;
    for (unsigned j = map->ndim; j-- > 0; step *= map->shape[j])
        if (map->shape[j] != 1 && map->dst_stride[j] != step)
            return false;
    return step == numel;
}

int uz_pieces_cover(const struct uz_piece *pieces, uint64_t n_pieces, uint64_t numel,
                    const char *name, struct uz_error *err)
{
    uint64_t end = 0;
    if (n_pieces == 1 && is_whole_tensor(&pieces[0], numel))
        return UZ_OK; /* a view with strides may have as many runs as elements */
    if (any_mapped(pieces, n_pieces)) {
        struct heap heap = {0};
        int rc = fill_heap(&heap, pieces, n_pieces, err);
        if (rc == UZ_OK)
            rc = merge(&heap, &end, name, err);
        free(heap.heads);
        UZ_TRY(rc);
    } else {
        for (uint64_t i = 0; i < n_pieces; i++) {
            struct uz_run run = {.dst = pieces[i].lo, .n_elems = pieces[i].n_elems};
            UZ_TRY(add_run(&run, &end, name, err));
        }
    }
    if (end != numel)
        return uz_fail(err, UZ_MISMATCH,
                       "%s: the shards hold %llu of its elements, its shape has %llu", name,
                       (unsigned long long)end, (unsigned long long)numel);
    return UZ_OK;
}
