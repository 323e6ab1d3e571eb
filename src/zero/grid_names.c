/* SPDX-License-Identifier: Apache-2.0 */
/* Collects the names of all model-parallel ranks. */
#include "zero/grid_names.h"

#include <stdlib.h>
#include <string.h>

static int add_name(struct uz_grid_names *names, const char *name, size_t *number,
                    struct uz_error *err)
{
    size_t n = names->n;
    UZ_TRY(uz_map_add(names->index, name, strlen(name), n, NULL, err));
    UZ_TRY(uz_reserve(&names->names, &names->cap, (uint64_t)n + 1, sizeof *names->names, err));
    UZ_TRY(uz_reserve(&names->held, &names->cap_held, ((uint64_t)n + 1) * names->n_slices,
                      sizeof *names->held, err));
    for (uint32_t mp = 0; mp < names->n_slices; mp++)
        names->held[n * names->n_slices + mp] = (struct uz_held){UZ_NONE, UZ_NONE};
    names->names[n] = name;
    names->n++;
    *number = n;
    return UZ_OK;
}

static int list_slice(struct uz_grid_names *names, const struct uz_model *model, uint32_t mp,
                      struct uz_error *err)
{
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        const struct uz_tensor *tensor = &model->tensors[i];
        uint64_t found;
        size_t number;
        if (tensor->role == UZ_ROLE_STATE)
            continue;
        if (uz_map_get(names->index, tensor->name, strlen(tensor->name), &found))
            number = (size_t)found;
        else
            UZ_TRY(add_name(names, tensor->name, &number, err));
        names->held[number * names->n_slices + mp] = (struct uz_held){mp, i};
    }
    return UZ_OK;
}

int uz_grid_names_list(struct uz_grid_names *names, const struct uz_model *const *slices,
                       uint32_t n_slices, struct uz_error *err)
{
    *names = (struct uz_grid_names){.n_slices = n_slices, .index = uz_map_new()};
    if (!names->index)
        return uz_fail_nomem(err, sizeof(void *));
    for (uint32_t mp = 0; mp < n_slices; mp++)
        UZ_TRY(list_slice(names, slices[mp], mp, err));
    return UZ_OK;
}

void uz_grid_names_free(struct uz_grid_names *names)
{
    free(names->names);
    free(names->held);
    uz_map_free(names->index);
    *names = (struct uz_grid_names){0};
}
