/* SPDX-License-Identifier: Apache-2.0 */
/* Adds stored tensors to the model. */
#include "zero/source.h"

int uz_source_add_place(struct uz_model *model, uint32_t file, const struct uz_storage *storage,
                        uint32_t *place, struct uz_error *err)
{
    struct uz_place made = {
        .file = file,
        .packing = storage->packing,
        .big_endian = storage->big_endian,
        .offset = storage->offset,
        .nbytes = storage->nbytes,
        .entry = storage->entry,
        .stream_nbytes = storage->stream_nbytes,
    };
    return uz_model_add_place(model, &made, place, err);
}

int uz_source_add_partition(struct uz_model *model, uint32_t file, const struct uz_flat_view *view,
                            struct uz_partition what, uint32_t *place, struct uz_error *err)
{
    UZ_TRY(uz_source_add_place(model, file, &view->storage, place, err));
    what.place = *place;
    what.first = view->first;
    what.numel = view->numel;
    what.dtype = view->dtype;
    return uz_model_add_partition(model, &what, err);
}

int uz_source_whole(struct uz_model *model, uint32_t file, const struct uz_view *view,
                    uint32_t tensor, struct uz_piece *piece, struct uz_error *err)
{
    *piece = (struct uz_piece){.tensor = tensor, .n_elems = view->numel, .src = view->first};
    if (view->numel == 0)
        return UZ_OK;
    UZ_TRY(uz_source_add_place(model, file, &view->storage, &piece->storage, err));
    if (view->contiguous)
        return UZ_OK;
    return uz_model_strided_map(model, view->ndim, view->shape, view->stride, &piece->map, err);
}
