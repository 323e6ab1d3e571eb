/* SPDX-License-Identifier: Apache-2.0 */
/* Which model-parallel ranks hold a tensor of which name. */
#ifndef UZ_ZERO_GRID_NAMES_H
#define UZ_ZERO_GRID_NAMES_H

#include "base/map.h"
#include "layout/model.h"

/* A tensor of one model-parallel rank. */
struct uz_held {
    uint32_t slice, tensor; /* slice: UZ_NONE if it is not there */
};

/* Every weight's name, with what each rank holds under it. */
struct uz_grid_names {
    size_t n, cap;
    const char **names;   /* borrowed from the slices, in the order they are met */
    struct uz_held *held; /* of name i on model-parallel rank mp: [i * n_slices + mp] */
    size_t cap_held;
    uint32_t n_slices;
    struct uz_map *index; /* name -> number */
};

/* Lists the names of n_slices models. Free with uz_grid_names_free, after failures too. */
int uz_grid_names_list(struct uz_grid_names *names, const struct uz_model *const *slices,
                       uint32_t n_slices, struct uz_error *err);

void uz_grid_names_free(struct uz_grid_names *names);

#endif
