/* SPDX-License-Identifier: Apache-2.0 */
/* From pieces of shards to pieces of the tensor they are joined to. */
#include "layout/placement.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TURNED_ROWS = 1 << 20 };

struct dim {
    uint64_t size, shard, dst; /* strides of one dimension */
};

/* Distance from the first to the last element of dimensions [j, n); UINT64_MAX if it overflows. */
static uint64_t extent(const uint64_t *shape, const uint64_t *stride, unsigned j, unsigned n)
{
    uint64_t sum = 0, step;
    for (; j < n; j++)
        if (!uz_mul_u64(shape[j] - 1, stride[j], &step) || !uz_add_u64(sum, step, &sum))
            return UINT64_MAX;
    return sum;
}

/* True if each step of a dimension leads past all elements of those inside of it. */
static bool is_nested(const uint64_t *shape, const uint64_t *stride, unsigned n)
{
    for (unsigned j = 0; j < n; j++)
        if (stride[j] <= extent(shape, stride, j + 1, n))
            return false;
    return true;
}

static int by_dst(const void *a, const void *b)
{
    const struct dim *x = a, *y = b;
    return x->dst > y->dst ? -1 : x->dst < y->dst;
}

static int by_shard(const void *a, const void *b)
{
    const struct dim *x = a, *y = b;
    return x->shard > y->shard ? -1 : x->shard < y->shard;
}

/* Dimensions of more than one element; *empty if one has none. */
static unsigned list_dims(const struct uz_block *block, struct dim *dims, bool *empty)
{
    unsigned n = 0;
    *empty = false;
    for (unsigned j = 0; j < block->ndim; j++) {
        *empty |= block->shape[j] == 0;
        if (block->shape[j] > 1)
            dims[n++] = (struct dim){block->shape[j], block->shard_stride[j], block->dst_stride[j]};
    }
    return n;
}

/* Neighbours that go on without a break on both sides become one. */
static unsigned merge_dims(struct dim *dims, unsigned n)
{
    unsigned kept = 0;
    for (unsigned j = 0; j < n; j++) {
        struct dim *outer = kept ? &dims[kept - 1] : NULL;
        uint64_t shard, dst;
        if (outer && uz_mul_u64(dims[j].shard, dims[j].size, &shard) && shard == outer->shard &&
            uz_mul_u64(dims[j].dst, dims[j].size, &dst) && dst == outer->dst)
            *outer = (struct dim){outer->size * dims[j].size, dims[j].shard, dims[j].dst};
        else
            dims[kept++] = dims[j];
    }
    return kept;
}

static int copy_numbers(struct uz_arena *arena, const uint64_t *from, unsigned n,
                        const uint64_t **to, struct uz_error *err)
{
    uint64_t *copy;
    UZ_TRY(uz_arena_alloc(arena, n ? n : 1, sizeof *copy, &copy, err));
    if (n)
        memcpy(copy, from, n * sizeof *copy);
    *to = copy;
    return UZ_OK;
}

static int keep_raw(struct uz_placement *placement, const struct uz_block *block,
                    struct uz_arena *arena, struct uz_error *err)
{
    placement->raw = *block;
    UZ_TRY(copy_numbers(arena, block->shape, block->ndim, &placement->raw.shape, err));
    UZ_TRY(
        copy_numbers(arena, block->shard_stride, block->ndim, &placement->raw.shard_stride, err));
    return copy_numbers(arena, block->dst_stride, block->ndim, &placement->raw.dst_stride, err);
}

static int make_map(struct uz_arena *arena, const struct dim *dims, unsigned n,
                    const struct uz_block *block, const struct uz_shard_map **map,
                    struct uz_error *err)
{
    struct uz_shard_map *made;
    uint64_t *numbers;
    UZ_TRY(uz_arena_alloc(arena, 1, sizeof *made, &made, err));
    UZ_TRY(uz_arena_alloc(arena, 3 * (uint64_t)n + 1, sizeof *numbers, &numbers, err));
    for (unsigned j = 0; j < n; j++) {
        numbers[j] = dims[j].size;
        numbers[n + j] = dims[j].dst;
        numbers[2 * n + j] = dims[j].shard;
    }
    *made = (struct uz_shard_map){
        .ndim = n,
        .dst_first = block->dst_first,
        .shape = numbers,
        .dst_stride = numbers + n,
        .src_stride = numbers + 2 * n,
        .divisor = block->divisor,
    };
    *map = made;
    return UZ_OK;
}

/* How many elements of the block, counted in an order that is nested, lie less than `rel` away. */
static uint64_t count_below(const struct uz_shard_map *map, const uint64_t *stride, uint64_t rel)
{
    uint64_t count = 0, inner = 1;
    for (unsigned j = 0; j < map->ndim; j++)
        inner *= map->shape[j];
    if (map->ndim == 0)
        return rel > 0;
    for (unsigned j = 0; j < map->ndim; j++) {
        uint64_t whole = rel / stride[j];
        bool last = j + 1 == map->ndim;
        inner /= map->shape[j];
        if (last && rel % stride[j])
            whole++;
        if (whole >= map->shape[j])
            return count + map->shape[j] * inner;
        count += whole * inner;
        rel %= stride[j];
        if (rel == 0)
            break;
    }
    return count;
}

/* Where element i of the block, in the tensor's order, lies; relative to its first. */
static uint64_t shard_distance(const struct uz_shard_map *map, uint64_t i)
{
    uint64_t distance = 0;
    for (unsigned j = map->ndim; j-- > 0;) {
        distance += i % map->shape[j] * map->src_stride[j];
        i /= map->shape[j];
    }
    return distance;
}

static int leaves(const char *what, uint64_t numel, struct uz_error *err)
{
    return uz_fail(err, UZ_CORRUPT, "a block of it reaches past the end of %s (%llu elements)",
                   what, (unsigned long long)numel);
}

/* No element twice on either side, none outside. */
static int check_dims(const struct uz_block *block, struct dim *dims, unsigned n,
                      uint64_t shard_numel, uint64_t dst_numel, struct uz_error *err)
{
    uint64_t shape[UZ_MAX_BLOCK_DIMS] = {0}, stride[UZ_MAX_BLOCK_DIMS] = {0}, end;
    bool distinct = true;
    qsort(dims, n, sizeof *dims, by_shard);
    for (unsigned j = 0; j < n; j++) {
        shape[j] = dims[j].size;
        stride[j] = dims[j].shard;
    }
    distinct &= is_nested(shape, stride, n);
    if (!uz_add_u64(block->shard_first, extent(shape, stride, 0, n), &end) || end >= shard_numel)
        return leaves("its shard", shard_numel, err);
    qsort(dims, n, sizeof *dims, by_dst);
    for (unsigned j = 0; j < n; j++) {
        shape[j] = dims[j].size;
        stride[j] = dims[j].dst;
    }
    distinct &= is_nested(shape, stride, n);
    if (!uz_add_u64(block->dst_first, extent(shape, stride, 0, n), &end) || end >= dst_numel)
        return leaves("the whole", dst_numel, err);
    if (!distinct)
        return uz_fail(err, UZ_CORRUPT, "a block of it has strides that lead to one element twice");
    return UZ_OK;
}

int uz_placement_init(struct uz_placement *placement, const struct uz_block *block,
                      uint64_t shard_numel, uint64_t dst_numel, uint64_t dst_end,
                      struct uz_arena *arena, struct uz_error *err)
{
    struct dim dims[UZ_MAX_BLOCK_DIMS];
    bool empty;
    *placement = (struct uz_placement){.shard_first = block->shard_first};
    if (block->ndim > UZ_MAX_BLOCK_DIMS)
        return uz_fail(err, UZ_LIMIT, "a block of it has %u dimensions", block->ndim);
    unsigned n = list_dims(block, dims, &empty);
    if (empty)
        return UZ_OK;
    UZ_TRY(keep_raw(placement, block, arena, err));
    UZ_TRY(check_dims(block, dims, n, shard_numel, dst_numel, err));
    n = merge_dims(dims, n);
    UZ_TRY(make_map(arena, dims, n, block, &placement->map, err));
    const struct uz_shard_map *map = placement->map;
    placement->last = extent(map->shape, map->src_stride, 0, n);
    placement->in_order = is_nested(map->shape, map->src_stride, n);
    if (dst_end > block->dst_first)
        placement->n_elems = count_below(map, map->dst_stride, dst_end - block->dst_first);
    bool dense = n == 0 || (n == 1 && map->dst_stride[0] == 1 && map->src_stride[0] == 1);
    placement->is_contiguous = dense && !uz_divides(map->divisor);
    return UZ_OK;
}

/* A part of the block, [first, first + n) in the tensor's order, that lies in a plain piece. */
static int emit_interval(const struct uz_placement *placement, const struct uz_piece *piece,
                         uint64_t first, uint64_t n, uz_piece_fn emit, void *cookie,
                         struct uz_error *err)
{
    uint64_t at = placement->shard_first + shard_distance(placement->map, first);
    struct uz_piece made = {
        .tensor = piece->tensor,
        .storage = piece->storage,
        .lo = first,
        .n_elems = n,
        .src = piece->src + (at - piece->lo),
        .map = placement->map,
    };
    if (placement->is_contiguous) {
        made.lo += placement->map->dst_first;
        made.map = NULL;
    }
    return emit(cookie, &made, err);
}

/* The block in rows, of which each is in order. */
static int apply_rows(const struct uz_placement *placement, const struct uz_piece *piece,
                      struct uz_arena *arena, uz_piece_fn emit, void *cookie, struct uz_error *err)
{
    const struct uz_shard_map *map = placement->map;
    unsigned inner = map->ndim - 1;
    uint64_t n_rows = (placement->n_elems + map->shape[inner] - 1) / map->shape[inner];
    if (n_rows > MAX_TURNED_ROWS)
        return uz_fail(err, UZ_UNSUPPORTED,
                       "a block of it is turned round and cut by ZeRO, in more than %d rows",
                       MAX_TURNED_ROWS);
    for (uint64_t row = 0; row < n_rows; row++) {
        uint64_t at = row, left = placement->n_elems - row * map->shape[inner];
        struct uz_block block = {
            .ndim = 1,
            .shape = &map->shape[inner],
            .shard_first = placement->shard_first,
            .dst_first = map->dst_first,
            .shard_stride = &map->src_stride[inner],
            .dst_stride = &map->dst_stride[inner],
            .divisor = map->divisor,
        };
        if (left < map->shape[inner])
            block.shape = &left;
        for (unsigned j = inner; j-- > 0; at /= map->shape[j]) {
            block.shard_first += at % map->shape[j] * map->src_stride[j];
            block.dst_first += at % map->shape[j] * map->dst_stride[j];
        }
        struct uz_placement one;
        UZ_TRY(uz_placement_init(&one, &block, UINT64_MAX, UINT64_MAX, UINT64_MAX, arena, err));
        UZ_TRY(uz_placement_apply(&one, piece, arena, emit, cookie, err));
    }
    return UZ_OK;
}

/* A shard that is a view with strides: the block must be a box of its dimensions. */
static int apply_view(const struct uz_placement *placement, const struct uz_piece *piece,
                      struct uz_arena *arena, uz_piece_fn emit, void *cookie, struct uz_error *err)
{
    const struct uz_shard_map *view = piece->map;
    struct uz_block block = placement->raw;
    uint64_t stride[UZ_MAX_BLOCK_DIMS], numel = 1, src = piece->src, at = block.shard_first;
    bool fits = view->ndim == block.ndim && view->dst_first == 0 && !uz_divides(view->divisor);
    for (unsigned j = block.ndim; fits && j-- > 0; numel *= view->shape[j]) {
        uint64_t start = at % view->shape[j];
        fits &= block.shape[j] == 1 || block.shard_stride[j] == view->dst_stride[j];
        fits &= view->dst_stride[j] == numel || view->shape[j] == 1;
        fits &= start + block.shape[j] <= view->shape[j];
        src += start * view->src_stride[j];
        stride[j] = view->src_stride[j];
        at /= view->shape[j];
    }
    if (!fits || piece->lo != 0 || piece->n_elems != numel)
        return uz_fail(err, UZ_UNSUPPORTED,
                       "a shard of it is stored with strides, and the part that is wanted is no "
                       "box of it");
    struct dim dims[UZ_MAX_BLOCK_DIMS];
    struct uz_piece made = {.tensor = piece->tensor, .storage = piece->storage, .src = src};
    bool empty;
    block.shard_stride = stride;
    unsigned n = list_dims(&block, dims, &empty);
    qsort(dims, n, sizeof *dims, by_dst);
    n = merge_dims(dims, n);
    UZ_TRY(make_map(arena, dims, n, &block, &made.map, err));
    made.n_elems = placement->n_elems;
    return emit(cookie, &made, err);
}

int uz_placement_apply(const struct uz_placement *placement, const struct uz_piece *piece,
                       struct uz_arena *arena, uz_piece_fn emit, void *cookie, struct uz_error *err)
{
    if (placement->n_elems == 0 || piece->n_elems == 0)
        return UZ_OK;
    if (piece->map)
        return apply_view(placement, piece, arena, emit, cookie, err);
    uint64_t lo = piece->lo, hi = piece->lo + piece->n_elems, first = placement->shard_first;
    if (lo <= first && hi > first + placement->last) /* the whole block is in the piece */
        return emit_interval(placement, piece, 0, placement->n_elems, emit, cookie, err);
    if (hi <= first || lo > first + placement->last)
        return UZ_OK;
    if (!placement->in_order)
        return apply_rows(placement, piece, arena, emit, cookie, err);
    const struct uz_shard_map *map = placement->map;
    uint64_t begin = lo > first ? count_below(map, map->src_stride, lo - first) : 0;
    uint64_t end = count_below(map, map->src_stride, hi - first);
    if (end > placement->n_elems)
        end = placement->n_elems;
    if (begin >= end)
        return UZ_OK;
    return emit_interval(placement, piece, begin, end - begin, emit, cookie, err);
}
