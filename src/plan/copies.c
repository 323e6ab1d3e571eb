/* SPDX-License-Identifier: Apache-2.0 */
/* From tiles to copies: elements become bytes of files. */
#include "plan/copies.h"

#include <stdlib.h>

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

static int check_piece(const struct uz_model *model, const struct uz_piece *piece,
                       enum uz_dtype dtype, struct uz_error *err)
{
    const struct uz_place *place = &model->places[piece->storage];
    uint64_t room = place->nbytes / uz_dtype_size(dtype);
    if (piece->map || (piece->src <= room && piece->n_elems <= room - piece->src))
        return UZ_OK; /* a mapped piece is a view that was checked when it was resolved */
    return uz_fail_at(err, UZ_CORRUPT, model->files[place->file], UZ_NO_OFFSET,
                      "%s: a piece of it reaches past the end of its storage",
                      model->tensors[piece->tensor].name);
}

int uz_check_pieces(const struct uz_model *model, struct uz_error *err)
{
    for (size_t i = 0; i < model->n_pieces; i++)
        UZ_TRY(check_piece(model, &model->pieces[i], model->tensors[model->pieces[i].tensor].dtype,
                           err));
    for (size_t i = 0; i < model->n_tensors; i++) {
        const struct uz_tensor *tensor = &model->tensors[i];
        if (tensor->lp != UZ_NONE)
            UZ_TRY(check_piece(model, &model->lp_pieces[tensor->lp], tensor->lp_dtype, err));
    }
    return UZ_OK;
}
