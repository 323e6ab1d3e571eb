/* SPDX-License-Identifier: Apache-2.0 */
/* The model states of several model-parallel ranks beside parameters that are whole. */
#ifndef UZ_ZERO_UNIVERSAL_GRID_H
#define UZ_ZERO_UNIVERSAL_GRID_H

#include "zero/reading.h"

/* Names of parameters, each once, in the order of ranks; texts live as long as the model. */
struct uz_universal_names {
    const char **items;
    size_t n, cap;
    struct uz_map *index;
};

/*
 * Adds the names in param_shapes of all ranks' model states, whose files become the model's first
 * ones, and checks that these belong together. Metadata is that of the first.
 */
int uz_universal_grid_open(struct uz_reading *reading, uint32_t n_mp,
                           struct uz_universal_names *names, struct uz_error *err);

/*
 * Afterwards, when the model has its parameters: adds buffers and ties that the ranks' modules
 * tell of, and the dtypes of low-precision copies (which are shards, so no copies are taken).
 */
int uz_universal_grid_modules(struct uz_reading *reading, uint32_t n_mp, struct uz_error *err);

/* Adds a name (copied); nothing if it is there. */
int uz_universal_add_name(struct uz_universal_names *names, struct uz_model *model,
                          const char *name, size_t nbytes, struct uz_error *err);

#endif
