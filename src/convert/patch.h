/* SPDX-License-Identifier: Apache-2.0 */
/* Writes new values of a tensor to where a checkpoint keeps it. */
#ifndef UZ_CONVERT_PATCH_H
#define UZ_CONVERT_PATCH_H

#include <stdbool.h>

#include "engine/fetch.h"
#include "layout/model.h"

/* New values: a tensor of a model, checked with uz_fetch_check. */
struct uz_values {
    struct uz_model model;
    bool opened;
    uint32_t tensor;
};

/* Where a tensor is kept: [0] itself, [1] its low-precision copy. */
struct uz_patch_pieces {
    const struct uz_piece *items[2];
    uint64_t n[2];
};

struct uz_patch_pieces uz_patch_pieces_of(const struct uz_model *model, uint32_t tensor);

/* True if the tensor's values come from more than one set of pieces. */
bool uz_patch_is_joined(const struct uz_model *model, uint32_t tensor);

/*
 * Writes the values into the files of the model, which are this caller's alone, converted to the
 * stored dtype; then rounds the low-precision copy from what is stored; then renews the CRC-32s of
 * zip entries; then reads all back and compares: UZ_IO if the files do not give back what was
 * written. *n_overflows: finite values that became infinite.
 */
int uz_patch_tensor(const struct uz_model *model, uint32_t tensor, const struct uz_values *values,
                    uint64_t *n_overflows, struct uz_error *err);

#endif
