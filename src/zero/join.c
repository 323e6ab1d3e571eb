/* SPDX-License-Identifier: Apache-2.0 */
/* What the joins of all stages share. */
#include "zero/join.h"

#include <string.h>

int uz_ranks_state(const struct uz_ranks *ranks, const struct uz_model *model, uint64_t rank,
                   size_t group, const struct uz_optim_state *state,
                   const struct uz_flat_view **view, struct uz_error *err)
{
    const struct uz_optim_group *part = &ranks->shards[rank].groups[group];
    const char *path = model->files[ranks->optim_files[rank]];
    for (size_t i = 0; i < part->n_states; i++) {
        const struct uz_optim_state *found = &part->states[i];
        if (strcmp(found->name, state->name))
            continue;
        if (found->view.dtype != state->view.dtype)
            return uz_fail_at(err, UZ_MISMATCH, path, UZ_NO_OFFSET,
                              "stores the optimizer state %s of group %zu as %s, rank 0 as %s",
                              state->name, group, uz_dtype_name(found->view.dtype),
                              uz_dtype_name(state->view.dtype));
        *view = &found->view;
        return UZ_OK;
    }
    return uz_fail_at(err, UZ_MISMATCH, path, UZ_NO_OFFSET,
                      "has no optimizer state %s of the partition's size for group %zu, which rank "
                      "0 has",
                      state->name, group);
}
