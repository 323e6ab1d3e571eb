/* SPDX-License-Identifier: Apache-2.0 */
/* From a safetensors header to tensors of the model. */
#include <string.h>

#include "input/safetensors_read.h"
#include "input/weights.h"

static int add_entry(struct uz_model *model, uint32_t file,
                     const struct uz_safetensors_entry *entry, struct uz_error *err)
{
    struct uz_piece piece = {.n_elems = entry->numel};
    struct uz_place place = {.file = file, .offset = entry->offset, .nbytes = entry->nbytes};
    UZ_TRY(uz_model_add_tensor(model, entry->name, strlen(entry->name), UZ_ROLE_PARAM, entry->dtype,
                               entry->ndim, entry->shape, &piece.tensor, err));
    if (entry->numel == 0)
        return UZ_OK;
    UZ_TRY(uz_model_add_place(model, &place, &piece.storage, err));
    return uz_model_add_piece(model, &piece, err);
}

/* __metadata__ keeps the names of tied weights that were left out: {left out: kept}. */
static int add_aliases(struct uz_model *model, const struct uz_safetensors *file,
                       struct uz_error *err)
{
    for (size_t i = 0; i < file->n_metadata; i++) {
        const struct uz_safetensors_metadata *pair = &file->metadata[i];
        uint32_t tensor, taken;
        if (!strcmp(pair->key, "format") ||
            uz_model_find(model, pair->key, strlen(pair->key), &taken) ||
            !uz_model_find(model, pair->value, strlen(pair->value), &tensor))
            continue;
        UZ_TRY(uz_model_add_alias(model, pair->key, strlen(pair->key), tensor,
                                  (uint64_t)model->n_tensors + i, err));
    }
    return UZ_OK;
}

int uz_weights_add_safetensors(const struct uz_weights *weights, const char *path,
                               struct uz_error *err)
{
    struct uz_safetensors file;
    uint32_t index = 0;
    int rc = uz_safetensors_read(&file, path, weights->limits, err);
    if (rc == UZ_OK)
        rc = uz_model_add_file(weights->model, path, &index, err);
    for (size_t i = 0; rc == UZ_OK && i < file.n_entries; i++)
        rc = uz_error_in_file(err, add_entry(weights->model, index, &file.entries[i], err), path);
    if (rc == UZ_OK)
        rc = add_aliases(weights->model, &file, err);
    uz_safetensors_free(&file);
    return rc;
}
