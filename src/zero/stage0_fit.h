/* SPDX-License-Identifier: Apache-2.0 */
/* Finds out which parameters the nameless masters of a stage 0 checkpoint belong to. */
#ifndef UZ_ZERO_STAGE0_FIT_H
#define UZ_ZERO_STAGE0_FIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { UZ_FIT_LEFT_OUT = -1 };

/*
 * Every optimizer group is a subsequence of the candidates (parameters in the order of the module),
 * no candidate is in two groups, and what no group takes is frozen. A group is filled from place 0
 * up to its total; candidate c takes weights[c] places: 1 each if groups are lists of tensors, its
 * elements if they are flat.
 */
struct uz_fit {
    size_t n_candidates, n_groups;
    const uint64_t *weights; /* of each candidate */
    const uint64_t *totals;  /* of each group */
    /* True if candidate c can stand at `place` of the group, which it does not leave. */
    int (*matches)(void *cookie, size_t candidate, size_t group, uint64_t place, bool *matches,
                   struct uz_error *err);
    void *cookie;
};

/* The one way to assign all, if there is one. */
enum uz_fit_result { UZ_FIT_UNIQUE, UZ_FIT_NONE, UZ_FIT_AMBIGUOUS };

/*
 * Gives each candidate its group (or UZ_FIT_LEFT_OUT) and place, if there is exactly one way.
 * `group_of` and `place_of` have room for n_candidates numbers.
 */
int uz_fit_assign(const struct uz_fit *fit, int32_t *group_of, uint64_t *place_of,
                  enum uz_fit_result *result, struct uz_error *err);

#endif
