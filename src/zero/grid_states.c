/* SPDX-License-Identifier: Apache-2.0 */
/* Optimizer states are joined like their parameters. */
#include <stdlib.h>
#include <string.h>

#include "zero/grid_join_impl.h"

/* Chains each parameter's states, so that they are found without a search. */
int uz_joiner_chain_states(struct uz_joiner *j, uint32_t mp, struct uz_error *err)
{
    const struct uz_model *slice = j->sources->slices[mp];
    UZ_TRY(uz_alloc(&j->first_state[mp], slice->n_tensors, sizeof **j->first_state, err));
    UZ_TRY(uz_alloc(&j->next_state[mp], slice->n_tensors, sizeof **j->next_state, err));
    for (size_t i = 0; i < slice->n_tensors; i++)
        j->first_state[mp][i] = UZ_NONE;
    for (uint32_t i = (uint32_t)slice->n_tensors; i-- > 0;) {
        const struct uz_tensor *tensor = &slice->tensors[i];
        if (tensor->role != UZ_ROLE_STATE)
            continue;
        j->next_state[mp][i] = j->first_state[mp][tensor->param];
        j->first_state[mp][tensor->param] = i;
    }
    return UZ_OK;
}

/* The state called like state number `state` of slice `from`, of what `held` holds. */
static struct uz_held find_state(const struct uz_joiner *j, const struct uz_held *held,
                                 const char *name)
{
    if (held->slice != UZ_NONE) {
        const struct uz_model *slice = j->sources->slices[held->slice];
        uint32_t i = j->first_state[held->slice][held->tensor];
        for (; i != UZ_NONE; i = j->next_state[held->slice][i])
            if (!strcmp(slice->states[slice->tensors[i].state], name))
                return (struct uz_held){held->slice, i};
    }
    return (struct uz_held){UZ_NONE, UZ_NONE};
}

static int lacks_state(const struct uz_joiner *j, const struct uz_held *held, const char *param,
                       const char *name, struct uz_error *err)
{
    return uz_fail(err, UZ_MISMATCH, "%s: %s has no optimizer state %s of it, other ranks have",
                   param, j->labels[held->slice], name);
}

/* Joins one state of a parameter as the parameter itself was. */
static int join_state(struct uz_joiner *j, const struct uz_tp_plan *plan, uint32_t param,
                      const char *name, const struct uz_held *ties, struct uz_error *err)
{
    const struct uz_grid *grid = &j->sources->grid;
    const char *param_name = j->model->tensors[param].name;
    struct uz_held *main = NULL, *state_ties = NULL;
    enum uz_dtype dtype = UZ_DTYPE_INVALID;
    uint32_t number, tensor;
    if (plan->is_scaled)
        return uz_fail(err, UZ_UNSUPPORTED,
                       "%s: the state %s cannot be had, because the parameter is stored scaled "
                       "(affine_map): its moments belong to other hyperparameters",
                       param_name, name);
    UZ_TRY(uz_alloc(&main, grid->tp + (uint64_t)j->n_slices, sizeof *main, err));
    state_ties = main + grid->tp;
    int rc = uz_model_add_state(j->model, name, strlen(name), &number, err);
    for (uint32_t tp = 0; rc == UZ_OK && tp < grid->tp; tp++) {
        main[tp] = find_state(j, &j->main[tp], name);
        if (main[tp].slice == UZ_NONE && j->shards[tp].numel > 0)
            rc = lacks_state(j, &j->main[tp], param_name, name, err);
        else if (main[tp].slice == UZ_NONE)
            main[tp] = j->main[tp]; /* without elements: no piece is taken */
        else if (dtype == UZ_DTYPE_INVALID)
            dtype = uz_joiner_tensor(j, &main[tp])->dtype;
        else if (dtype != uz_joiner_tensor(j, &main[tp])->dtype)
            rc = uz_fail(err, UZ_MISMATCH, "%s: the state %s has another dtype on %s", param_name,
                         name, j->labels[main[tp].slice]);
    }
    for (uint32_t mp = 0; rc == UZ_OK && mp < j->n_slices; mp++) {
        state_ties[mp] = ties ? find_state(j, &ties[mp], name) : (struct uz_held){UZ_NONE, UZ_NONE};
        if (ties && ties[mp].slice != UZ_NONE && state_ties[mp].slice == UZ_NONE)
            rc = lacks_state(j, &ties[mp], param_name, name, err);
    }
    if (rc == UZ_OK)
        rc = uz_model_add_state_tensor(j->model, param, number, dtype, &tensor, err);
    if (rc == UZ_OK)
        rc = uz_joiner_place(j, plan, main, ties ? state_ties : NULL, tensor, err);
    free(main);
    return rc;
}

int uz_joiner_join_states(struct uz_joiner *j, const struct uz_tp_plan *plan, uint32_t reference,
                          uint32_t param, const struct uz_held *ties, struct uz_error *err)
{
    const struct uz_held *held = &j->main[reference];
    const struct uz_model *slice = j->sources->slices[held->slice];
    uint32_t i = j->first_state[held->slice][held->tensor];
    for (; i != UZ_NONE; i = j->next_state[held->slice][i])
        UZ_TRY(join_state(j, plan, param, slice->states[slice->tensors[i].state], ties, err));
    return UZ_OK;
}
