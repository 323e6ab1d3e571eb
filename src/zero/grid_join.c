/* SPDX-License-Identifier: Apache-2.0 */
/* Name by name: who holds it, how it is joined, and the same for its states and copies. */
#include "zero/grid_join.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "zero/grid_join_impl.h"

enum { LABEL_NBYTES = 64 };

/* ---- Setting up ---- */

/* Files and storages of all ranks become the model's. */
static int take_places(struct uz_joiner *j, struct uz_error *err)
{
    for (uint32_t mp = 0; mp < j->n_slices; mp++) {
        const struct uz_model *slice = j->sources->slices[mp];
        if (slice->n_layers > 0)
            return uz_fail(err, UZ_UNSUPPORTED,
                           "Muon's momenta, which several data-parallel ranks keep whole, are not "
                           "read under model parallelism; the weights and other states are");
        uint32_t first_file = (uint32_t)j->model->n_files, index;
        for (size_t i = 0; i < slice->n_files; i++)
            UZ_TRY(uz_model_add_file(j->model, slice->files[i], &index, err));
        j->first_place[mp] = (uint32_t)j->model->n_places;
        for (size_t i = 0; i < slice->n_places; i++) {
            struct uz_place place = slice->places[i];
            place.file += first_file;
            UZ_TRY(uz_model_add_place(j->model, &place, &index, err));
        }
    }
    return UZ_OK;
}

/* Flat tensors of all ranks; their states get the model's numbers. */
static int take_partitions(struct uz_joiner *j, struct uz_error *err)
{
    for (uint32_t mp = 0; mp < j->n_slices; mp++) {
        const struct uz_model *slice = j->sources->slices[mp];
        for (size_t i = 0; i < slice->n_partitions; i++) {
            struct uz_partition partition = slice->partitions[i];
            const char *state = slice->states[partition.state];
            partition.mp = mp;
            partition.place += j->first_place[mp];
            UZ_TRY(uz_model_add_state(j->model, state, strlen(state), &partition.state, err));
            UZ_TRY(uz_model_add_partition(j->model, &partition, err));
        }
    }
    return UZ_OK;
}

static int make_labels(struct uz_joiner *j, struct uz_error *err)
{
    const struct uz_grid *grid = &j->sources->grid;
    for (uint32_t mp = 0; mp < j->n_slices; mp++) {
        char label[LABEL_NBYTES];
        if (mp / grid->tp == grid->pp)
            snprintf(label, sizeof label, "the layer files of tensor rank %u", mp % grid->tp);
        else if (grid->pp > 1 && grid->tp > 1)
            snprintf(label, sizeof label, "tensor rank %u of pipeline stage %u", mp % grid->tp,
                     mp / grid->tp);
        else
            snprintf(label, sizeof label, "%s %u", grid->pp > 1 ? "pipeline stage" : "tensor rank",
                     mp);
        UZ_TRY(uz_arena_strndup(j->model->arena, label, strlen(label), &j->labels[mp], err));
    }
    return UZ_OK;
}

static int set_up(struct uz_joiner *j, struct uz_error *err)
{
    UZ_TRY(uz_alloc(&j->labels, j->n_slices, sizeof *j->labels, err));
    UZ_TRY(uz_alloc(&j->first_place, j->n_slices, sizeof *j->first_place, err));
    UZ_TRY(uz_alloc(&j->first_state, j->n_slices, sizeof *j->first_state, err));
    UZ_TRY(uz_alloc(&j->next_state, j->n_slices, sizeof *j->next_state, err));
    UZ_TRY(uz_alloc(&j->main, j->sources->grid.tp, sizeof *j->main, err));
    UZ_TRY(uz_alloc(&j->shards, j->sources->grid.tp, sizeof *j->shards, err));
    UZ_TRY(take_places(j, err));
    UZ_TRY(take_partitions(j, err));
    UZ_TRY(make_labels(j, err));
    for (uint32_t mp = 0; mp < j->n_slices; mp++)
        UZ_TRY(uz_joiner_chain_states(j, mp, err));
    return uz_grid_names_list(&j->names, j->sources->slices, j->n_slices, err);
}

/* ---- All names ---- */

static int join_planned(struct uz_joiner *j, size_t number, const struct uz_tp_plan *plan,
                        uint32_t reference, const struct uz_held *ties, struct uz_error *err)
{
    const char *name = j->names.names[number];
    const struct uz_tensor *local = uz_joiner_tensor(j, &j->main[reference]);
    uint32_t tensor;
    UZ_TRY(uz_model_add_tensor(j->model, name, strlen(name), local->role, local->dtype, plan->ndim,
                               plan->shape, &tensor, err));
    j->model->tensors[tensor].order = number;
    UZ_TRY(uz_joiner_place(j, plan, j->main, ties, tensor, err));
    UZ_TRY(uz_joiner_place_lp(j, number, plan, ties, reference, tensor, err));
    return uz_joiner_join_states(j, plan, reference, tensor, ties, err);
}

/* `ties` is scratch for one entry a rank. */
static int join_name(struct uz_joiner *j, size_t number, struct uz_held *ties, struct uz_error *err)
{
    const char *name = j->names.names[number];
    struct uz_tp_rule rule;
    struct uz_tp_plan plan;
    bool any_ties;
    uz_joiner_find_main(j, number);
    uint32_t reference = uz_joiner_reference_rank(j);
    const struct uz_held *held = &j->main[reference];
    struct uz_tp_rules *rules = uz_joiner_rules(j, held->slice);
    UZ_TRY(uz_joiner_check_alike(j, name, reference, err));
    UZ_TRY(uz_joiner_find_ties(j, number, ties, &any_ties, err));
    UZ_TRY(uz_joiner_find_rule(j, name, uz_joiner_tensor(j, held)->role, rules, &rule, err));
    int rc = uz_tp_plan_make(&plan, name, rules, &rule, j->shards, j->sources->grid.tp,
                             j->model->arena, err);
    if (rc == UZ_OK && rules)
        rc = uz_tp_rules_check_shape(rules, &rule, name, plan.ndim, plan.shape, err);
    if (rc == UZ_OK)
        rc = join_planned(j, number, &plan, reference, any_ties ? ties : NULL, err);
    uz_tp_plan_free(&plan);
    return rc;
}

/* Second names of tensors, from whichever rank knows them. */
static int join_aliases(struct uz_joiner *j, struct uz_error *err)
{
    struct uz_map *seen = uz_map_new();
    int rc = seen ? UZ_OK : uz_fail_nomem(err, sizeof(void *));
    for (uint32_t mp = 0; rc == UZ_OK && mp < j->n_slices; mp++) {
        const struct uz_model *slice = j->sources->slices[mp];
        for (size_t i = 0; rc == UZ_OK && i < slice->n_aliases; i++) {
            const struct uz_alias *alias = &slice->aliases[i];
            const char *holder = slice->tensors[alias->tensor].name;
            bool present = false;
            uint32_t tensor;
            rc = uz_map_add(seen, alias->name, strlen(alias->name), 0, &present, err);
            if (rc == UZ_OK && !present && uz_model_find(j->model, holder, strlen(holder), &tensor))
                rc = uz_model_add_alias(j->model, alias->name, strlen(alias->name), tensor,
                                        j->names.n + alias->order, err);
        }
    }
    uz_map_free(seen);
    return rc;
}

static int join(struct uz_joiner *j, struct uz_error *err)
{
    struct uz_held *ties;
    UZ_TRY(set_up(j, err));
    UZ_TRY(uz_joiner_find_own_rules(j, err));
    UZ_TRY(uz_alloc(&ties, j->n_slices, sizeof *ties, err));
    int rc = UZ_OK;
    for (size_t i = 0; rc == UZ_OK && i < j->names.n; i++)
        rc = join_name(j, i, ties, err);
    free(ties);
    UZ_TRY(rc);
    UZ_TRY(join_aliases(j, err));
    if (j->own_rules)
        return uz_tp_rules_report_unused(&j->own_rules, 1, j->notes, err);
    return uz_tp_rules_report_unused(j->sources->rules, j->sources->grid.pp, j->notes, err);
}

int uz_grid_join(struct uz_model *model, const struct uz_grid_sources *sources,
                 struct uz_tp_rules **own_rules, struct uz_notes *notes, struct uz_error *err)
{
    struct uz_joiner j = {
        .model = model,
        .sources = sources,
        .notes = notes,
        .n_stages = sources->grid.pp + sources->has_layers,
    };
    j.n_slices = j.n_stages * sources->grid.tp;
    int rc = join(&j, err);
    for (uint32_t mp = 0; mp < j.n_slices; mp++) {
        if (j.first_state)
            free(j.first_state[mp]);
        if (j.next_state)
            free(j.next_state[mp]);
    }
    uz_grid_names_free(&j.names);
    *own_rules = j.own_rules;
    free(j.labels);
    free(j.first_place);
    free(j.first_state);
    free(j.next_state);
    free(j.main);
    free(j.shards);
    return rc;
}
