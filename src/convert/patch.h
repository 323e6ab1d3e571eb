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

/* Pieces that hold all of a tensor, of its low-precision copy, or of a replica. */
struct uz_patch_set {
    const struct uz_piece *pieces;
    uint64_t n;
    bool lp;
};

/*
 * Set number k of those that a tensor is kept in (0: its own, then replicas, then the low-precision
 * copy); false behind the last.
 */
bool uz_patch_set_of(const struct uz_model *model, uint32_t tensor, uint32_t k,
                     struct uz_patch_set *set);

/*
 * Why a tensor's values cannot be written back, in words; NULL if they can: they are a mean or
 * scaled, or there are low-precision copies that the model does not know of.
 */
const char *uz_patch_obstacle(const struct uz_model *model, uint32_t tensor);

/*
 * Writes the values into the files of the model, which are this caller's alone, converted to the
 * stored dtype; then rounds the low-precision copy from what is stored; then renews the CRC-32s of
 * zip entries; then reads all back and compares: UZ_IO if the files do not give back what was
 * written. *n_overflows: finite values that became infinite.
 */
int uz_patch_tensor(const struct uz_model *model, uint32_t tensor, const struct uz_values *values,
                    uint64_t *n_overflows, struct uz_error *err);

#endif
