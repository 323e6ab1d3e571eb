/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ZeRO stage 0: masters and states stand in the model states, in lists or flat tensors without
 * names. Which parameter each belongs to follows from the order of the module, shapes and values:
 * the low-precision copy must be the rounded master. With experts there is a file expp_rank_E for
 * each expert-parallel rank, which holds that rank's experts and, as copies, all the rest; the
 * model states hold another copy of rank 0's.
 */
#include "zero/stage0.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "zero/optim_state.h"

/* ---- One source ---- */

static int fail_fit(const struct uz_stage0_source *source, enum uz_fit_result result,
                    struct uz_error *err)
{
    if (result == UZ_FIT_AMBIGUOUS)
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(source->file), UZ_NO_OFFSET,
                          "ZeRO stage 0 stores its fp32 weights without names, and here shapes and "
                          "values fit the parameters in more than one way; --source lp exports the "
                          "low-precision weights");
    return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(source->file), UZ_NO_OFFSET,
                      "ZeRO stage 0 stores its fp32 weights without names, and no order of the "
                      "module's parameters makes them the rounded masters; --source lp exports the "
                      "low-precision weights");
}

/* Without masters the weights are the module's; only the states would need to be assigned. */
static int forget_groups(struct uz_stage0 *s, struct uz_stage0_source *source,
                         enum uz_fit_result result, struct uz_error *err)
{
    s->any_misfit = true;
    for (size_t c = 0; c < source->n; c++)
        source->group_of[c] = 0;
    if (!s->reading->options->state || source->masters.n_groups == 0)
        return UZ_OK;
    return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(source->file), UZ_NO_OFFSET,
                      "the optimizer's states stand without names in a ZeRO stage 0 checkpoint, "
                      "and their shapes fit the parameters in %s; the weights can be had",
                      result == UZ_FIT_AMBIGUOUS ? "more than one way" : "no way");
}

/* All ranks' optimizers are of one kind. */
static int check_form(struct uz_stage0 *s, const struct uz_stage0_source *source,
                      struct uz_error *err)
{
    if (s->has_form && s->form != source->masters.form)
        return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(source->file), UZ_NO_OFFSET,
                          "holds masters in another form than other ranks' optimizers");
    s->has_form = true;
    s->form = source->masters.form;
    return UZ_OK;
}

/* What one file holds outside of experts, all do. */
static int check_taken(const struct uz_stage0 *s, const struct uz_stage0_source *source,
                       struct uz_error *err)
{
    const struct uz_model *model = s->reading->model;
    struct uz_expert_name name;
    for (size_t c = 0; source->number > 0 && c < source->n; c++) {
        const struct uz_tensor *tensor = &model->tensors[source->candidates[c].tensor];
        if ((tensor->role == UZ_ROLE_PARAM) == (source->group_of[c] >= 0) ||
            uz_expert_find(&s->reading->experts, tensor->name, strlen(tensor->name), &name))
            continue;
        return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(source->file), UZ_NO_OFFSET,
                          "%s is trained by this rank's optimizer or by another's, but not by both",
                          tensor->name);
    }
    return UZ_OK;
}

static int assign(struct uz_stage0 *s, struct uz_stage0_source *source, struct uz_error *err)
{
    enum uz_fit_result result;
    UZ_TRY(uz_masters_read(&source->masters, source->file, err));
    UZ_TRY(check_form(s, source, err));
    UZ_TRY(uz_stage0_list_candidates(s, source, err));
    UZ_TRY(uz_stage0_assign(source, &result, err));
    if (result == UZ_FIT_UNIQUE)
        return check_taken(s, source, err);
    if (s->form != UZ_MASTERS_NONE)
        return fail_fit(source, result, err);
    return forget_groups(s, source, result, err);
}

static int read_source(struct uz_stage0 *s, struct uz_stage0_source *source, struct uz_error *err)
{
    int rc = assign(s, source, err);
    if (rc == UZ_OK)
        rc = uz_stage0_add_masters(s, source, err);
    if (rc == UZ_OK && !s->any_misfit)
        rc = uz_stage0_add_states(s, source, err);
    uz_masters_free(&source->masters);
    free(source->candidates);
    free(source->weights);
    free(source->group_of);
    free(source->place_of);
    return rc;
}

/* ---- All sources ---- */

static int set_label(struct uz_stage0 *s, uint32_t number, const char *label, struct uz_error *err)
{
    return uz_arena_strndup(s->reading->model->arena, label, strlen(label), &s->labels[number],
                            err);
}

static int read_model_states(struct uz_stage0 *s, struct uz_error *err)
{
    struct uz_stage0_source source = {
        .file = s->model_states,
        .file_index = s->model_states_index,
        .number = s->n_ranks,
    };
    UZ_TRY(set_label(s, source.number, "the model states", err));
    return read_source(s, &source, err);
}

static int read_expp(struct uz_stage0 *s, const struct uz_shard_file *shard, struct uz_error *err)
{
    struct uz_reading *r = s->reading;
    struct uz_stage0_source source = {.number = shard->dp, .rank = shard->dp};
    char label[64];
    char *path = uz_shard_path(r->topology, shard);
    if (!path)
        return uz_fail_nomem(err, strlen(shard->name));
    snprintf(label, sizeof label, "expert-parallel rank %u", shard->dp);
    int rc = set_label(s, source.number, label, err);
    if (rc == UZ_OK)
        rc = uz_model_add_file(r->model, path, &source.file_index, err);
    if (rc == UZ_OK)
        rc = uz_torch_open(&source.file, path, &r->options->input.limits, err);
    free(path);
    UZ_TRY(rc);
    rc = read_source(s, &source, err);
    uz_torch_close(source.file);
    return rc;
}

/* A parameter without a master is what the module, or an expert's file, holds. */
static int use_copies(struct uz_stage0 *s, struct uz_error *err)
{
    struct uz_model *model = s->reading->model;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        struct uz_tensor *tensor = &model->tensors[i];
        if (tensor->lp == UZ_NONE || (tensor->role != UZ_ROLE_FROZEN && s->form != UZ_MASTERS_NONE))
            continue;
        uint32_t first = tensor->lp, n = tensor->n_lp;
        tensor->lp = UZ_NONE;
        tensor->n_lp = 0;
        for (uint32_t k = 0; k < n; k++) {
            struct uz_piece piece = model->lp_pieces[first + k];
            UZ_TRY(uz_model_add_piece(model, &piece, err));
        }
    }
    return UZ_OK;
}

/* The files of expert-parallel ranks must be 0, 1, 2, ...; the optimizer tells how many. */
static int find_ranks(struct uz_stage0 *s, const struct uz_shard_file **shards,
                      struct uz_error *err)
{
    const struct uz_reading *r = s->reading;
    const struct uz_node *optimizer = uz_node_get(uz_torch_root(s->model_states), "optimizer");
    size_t n = 0;
    *shards = NULL;
    if (r->experts.n_layers == 0)
        return UZ_OK;
    *shards = uz_topology_shards_of(r->topology, UZ_SHARD_EXPERT_OPTIM, r->mp, &n);
    for (size_t i = 0; i < n; i++)
        if ((*shards)[i].dp != i)
            return uz_fail_at(err, UZ_MISMATCH, r->topology->dir, UZ_NO_OFFSET,
                              "the optimizer states of an expert-parallel rank are missing: "
                              "expp_rank_%zu_mp_rank_%02u_optim_states.pt",
                              i, r->mp);
    if (n == 0 && optimizer && !uz_node_is_none(optimizer))
        return uz_fail_at(err, UZ_MISMATCH, r->topology->dir, UZ_NO_OFFSET,
                          "Expected 'expp_rank_*_optim_states.pt' of every expert-parallel rank "
                          "under %s but found none; --source lp exports the low-precision weights",
                          r->topology->dir);
    s->n_ranks = (uint32_t)n;
    return UZ_OK;
}

static int join(struct uz_stage0 *s, struct uz_error *err)
{
    const struct uz_shard_file *shards;
    UZ_TRY(find_ranks(s, &shards, err));
    UZ_TRY(uz_alloc(&s->labels, s->n_ranks + 1, sizeof *s->labels, err));
    s->owners = uz_map_new();
    s->states = uz_map_new();
    if (!s->owners || !s->states)
        return uz_fail_nomem(err, sizeof(void *));
    for (uint32_t rank = 0; rank < s->n_ranks; rank++)
        UZ_TRY(read_expp(s, &shards[rank], err));
    UZ_TRY(read_model_states(s, err));
    UZ_TRY(use_copies(s, err));
    if (s->compressed)
        UZ_TRY(uz_warn_of_states(s->reading->notes, s->compressed, err));
    s->reading->info->masters_by_fit = s->form != UZ_MASTERS_NONE;
    return UZ_OK;
}

int uz_reading_join_stage0(struct uz_reading *reading, struct uz_torch_file *file,
                           uint32_t file_index, struct uz_error *err)
{
    struct uz_stage0 s = {
        .reading = reading,
        .model_states = file,
        .model_states_index = file_index,
    };
    int rc = join(&s, err);
    uz_map_free(s.owners);
    uz_map_free(s.states);
    free(s.labels);
    return rc;
}
