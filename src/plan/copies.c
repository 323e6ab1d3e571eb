/* SPDX-License-Identifier: Apache-2.0 */
/* From tiles to copies: elements become bytes of files. */
#include "plan/copies.h"

#include <stdlib.h>

#include "base/mem.h"

void uz_copies_free(struct uz_copies *copies)
{
    free(copies->items);
    uz_tiles_free(&copies->tiles);
    *copies = (struct uz_copies){0};
}

static struct uz_copy copy_of(const struct uz_model *model, const struct uz_tile *tile,
                              enum uz_dtype from, enum uz_dtype to, uint64_t dst)
{
    const struct uz_place *place = &model->places[tile->storage];
    uint64_t from_size = uz_dtype_size(from), to_size = uz_dtype_size(to);
    return (struct uz_copy){
        .file = place->file,
        .from = from,
        .to = to,
        .swap = uz_place_swaps(place, from),
        .src = place->offset + tile->src * from_size,
        .dst = dst + tile->dst * to_size,
        .n_elems = tile->n_elems,
        .n_rows = tile->n_rows,
        .src_stride = tile->src_stride * from_size,
        .dst_stride = tile->dst_stride * to_size,
        .divisor = tile->divisor,
    };
}

int uz_copies_add(struct uz_copies *copies, const struct uz_model *model,
                  const struct uz_region *region, enum uz_dtype to, uint64_t dst,
                  struct uz_error *err)
{
    copies->tiles.n = 0;
    UZ_TRY(uz_compose(region->pieces, region->n_pieces, region->lo, region->hi, 0, 0,
                      &copies->tiles, err));
    for (size_t i = 0; i < copies->tiles.n; i++) {
        UZ_TRY(uz_reserve(&copies->items, &copies->cap, (uint64_t)copies->n + 1,
                          sizeof *copies->items, err));
        copies->items[copies->n++] = copy_of(model, &copies->tiles.items[i], region->from, to, dst);
    }
    return UZ_OK;
}

/* Where element i of a shard lies in the storage, from element 0. */
static uint64_t src_distance(const struct uz_shard_map *map, uint64_t i)
{
    uint64_t distance = 0;
    for (unsigned j = map->ndim; j-- > 0;) {
        distance += i % map->shape[j] * map->src_stride[j];
        i /= map->shape[j];
    }
    return distance;
}

/*
 * The largest distance among elements 0 to `last`: that of `last` itself, or of an element which
 * has a smaller index in one dimension and the largest in all inside of it.
 */
static uint64_t largest_distance(const struct uz_shard_map *map, uint64_t last)
{
    uint64_t largest = src_distance(map, last), inner = 0, numel = 1;
    for (unsigned j = map->ndim; j-- > 0; numel *= map->shape[j]) {
        uint64_t block = last / numel; /* indices of dimensions 0 to j, as one number */
        if (block % map->shape[j] > 0) {
            uint64_t other = src_distance(map, (block - 1) * numel) + inner;
            largest = other > largest ? other : largest;
        }
        inner += (map->shape[j] - 1) * map->src_stride[j];
    }
    return largest;
}

/*
 * Elements of the storage that a piece reaches over, from its first one on. Where going upwards in
 * the shard is not going upwards in the storage, the piece's elements lie before its first one,
 * too; then the shard's element 0 must be inside.
 */
static bool find_extent(const struct uz_piece *piece, uint64_t *extent)
{
    const struct uz_shard_map *map = piece->map;
    uint64_t whole = 0, step;
    bool upwards = true;
    *extent = piece->n_elems - 1;
    if (!map)
        return true;
    for (unsigned j = map->ndim; j-- > 0;) {
        upwards &= map->shape[j] == 1 || map->src_stride[j] > whole;
        if (!uz_mul_u64(map->shape[j] - 1, map->src_stride[j], &step) ||
            !uz_add_u64(whole, step, &whole))
            return false;
    }
    uint64_t first = src_distance(map, piece->lo), last = piece->lo + piece->n_elems - 1;
    *extent = (upwards ? src_distance(map, last) : largest_distance(map, last)) - first;
    return upwards || piece->src >= first;
}

static int check_piece(const struct uz_model *model, const struct uz_piece *piece,
                       enum uz_dtype dtype, struct uz_error *err)
{
    const struct uz_place *place = &model->places[piece->storage];
    uint64_t room = place->nbytes / uz_dtype_size(dtype), extent;
    if (piece->n_elems == 0 ||
        (find_extent(piece, &extent) && piece->src <= room && extent < room - piece->src))
        return UZ_OK;
    return uz_fail_at(err, UZ_CORRUPT, model->files[place->file], UZ_NO_OFFSET,
                      "%s: a piece of it reaches past the end of its storage",
                      model->tensors[piece->tensor].name);
}

static int check_layer(const struct uz_model *model, const struct uz_layer *layer,
                       struct uz_error *err)
{
    const struct uz_tensor *tensor = &model->tensors[layer->tensor];
    enum uz_dtype dtype = layer->op == UZ_LAYER_LP ? tensor->lp_dtype : tensor->dtype;
    for (uint64_t k = 0; k < layer->n_pieces; k++)
        UZ_TRY(check_piece(model, &model->layer_pieces[layer->first_piece + k], dtype, err));
    return UZ_OK;
}

int uz_check_pieces(const struct uz_model *model, struct uz_error *err)
{
    for (size_t i = 0; i < model->n_pieces; i++)
        UZ_TRY(check_piece(model, &model->pieces[i], model->tensors[model->pieces[i].tensor].dtype,
                           err));
    for (size_t i = 0; i < model->n_layers; i++)
        UZ_TRY(check_layer(model, &model->layers[i], err));
    for (size_t i = 0; i < model->n_tensors; i++) {
        const struct uz_tensor *tensor = &model->tensors[i];
        for (uint32_t k = 0; k < tensor->n_lp; k++)
            UZ_TRY(check_piece(model, &model->lp_pieces[tensor->lp + k], tensor->lp_dtype, err));
    }
    return UZ_OK;
}
