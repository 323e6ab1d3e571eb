/* SPDX-License-Identifier: Apache-2.0 */
/* Walks through the values of one file and counts its tensors. */
#ifndef UZ_CHECK_CENSUS_WALK_H
#define UZ_CHECK_CENSUS_WALK_H

#include "check/census.h"

struct uz_file_census {
    struct uz_stored *contents;
    size_t n_contents, cap_contents;
    uint64_t dead_nbytes;
    struct uz_arena *arena; /* names of states */
};

/* As uz_census_add. Free with uz_file_census_free, after failures too. */
int uz_census_walk(struct uz_file_census *found, struct uz_torch_file *file,
                   enum uz_census_role role, struct uz_error *fault, struct uz_error *err);

void uz_file_census_free(struct uz_file_census *found);

#endif
