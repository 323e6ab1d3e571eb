/* SPDX-License-Identifier: Apache-2.0 */
/* Writes new values of a tensor to where a checkpoint keeps it. */
#ifndef UZ_CONVERT_PATCH_H
#define UZ_CONVERT_PATCH_H

#include <stdbool.h>

#include "convert/new_values.h"
#include "layout/model.h"

/* Pieces that hold a tensor, its low-precision copy, or a further copy of one of them. */
struct uz_patch_set {
    const struct uz_piece *pieces;
    uint64_t n;
    bool lp;
};

/*
 * Set number k of those that a tensor is kept in (0: its own, then further copies, then the
 * low-precision copy); false behind the last.
 */
bool uz_patch_set_of(const struct uz_model *model, uint32_t tensor, uint32_t k,
                     struct uz_patch_set *set);

/*
 * Why a tensor's values cannot be written back, in words; NULL if they can: they are a mean or
 * scaled, or there are copies that the model does not know of. (It was read with all_copies.)
 */
const char *uz_patch_obstacle(const struct uz_model *model, uint32_t tensor);

/* Is there a low-precision copy, which follows from the values? */
bool uz_patch_has_lp(const struct uz_model *model, uint32_t tensor);

/*
 * Writes the values into the files of the model, which are this caller's alone, converted to the
 * stored dtype; then rounds the low-precision copies from what is stored; then renews the CRC-32s
 * of zip entries; then reads all back and compares: UZ_IO if the files do not give back what was
 * written. *n_overflows: finite values that became infinite.
 */
int uz_patch_tensor(const struct uz_model *model, uint32_t tensor, const struct uz_values *values,
                    uint64_t *n_overflows, struct uz_error *err);

#endif
