/* SPDX-License-Identifier: Apache-2.0 */
/* ZeRO 3: each parameter's equal parts follow one another in a rank's flat groups. */
#include <stdlib.h>
#include <string.h>

#include "layout/split.h"
#include "zero/join.h"
#include "zero/optim_state.h"
#include "zero/source.h"

/* A flat tensor of a sub-group: the weights (lane 0), or a state that was asked for. */
struct lane {
    uint32_t state; /* number of the state in the model; UZ_STATE_WEIGHT */
    enum uz_dtype dtype;
};

/* Where the next part lies on each rank: sub-groups are walked through one after another. */
struct walk {
    size_t subgroup;
    uint64_t used; /* elements of it that are explained */
    size_t n_lanes, cap_lanes;
    struct lane *lanes;
    size_t cap_places;
    uint32_t *places; /* of lane l on rank r: l * world + r */
    const struct uz_flat_view **views;
    size_t cap_views;
};

static int check_subgroup(const struct uz_model *model, const struct uz_ranks *ranks,
                          size_t subgroup, struct uz_error *err)
{
    const struct uz_flat_view *first = &ranks->shards[0].groups[subgroup].fp32;
    for (uint64_t rank = 1; rank < ranks->world; rank++) {
        const struct uz_flat_view *view = &ranks->shards[rank].groups[subgroup].fp32;
        if (view->numel != first->numel || view->dtype != first->dtype)
            return uz_fail_at(err, UZ_MISMATCH, model->files[ranks->optim_files[rank]],
                              UZ_NO_OFFSET,
                              "sub-group %zu has %llu elements (%s), that of rank 0 %llu (%s)",
                              subgroup, (unsigned long long)view->numel, uz_dtype_name(view->dtype),
                              (unsigned long long)first->numel, uz_dtype_name(first->dtype));
    }
    return UZ_OK;
}

/* Adds a lane; `state` is that of rank 0, NULL for the weights. */
static int add_lane(struct walk *walk, struct uz_model *model, const struct uz_ranks *ranks,
                    const struct uz_optim_state *state, struct uz_error *err)
{
    size_t first = walk->n_lanes * ranks->world;
    uint32_t number = UZ_STATE_WEIGHT;
    if (state)
        UZ_TRY(uz_model_add_state(model, state->name, strlen(state->name), &number, err));
    UZ_TRY(uz_reserve(&walk->lanes, &walk->cap_lanes, walk->n_lanes + 1, sizeof *walk->lanes, err));
    UZ_TRY(uz_reserve(&walk->places, &walk->cap_places, first + ranks->world, sizeof *walk->places,
                      err));
    UZ_TRY(
        uz_reserve(&walk->views, &walk->cap_views, first + ranks->world, sizeof *walk->views, err));
    for (uint64_t rank = 0; rank < ranks->world; rank++) {
        const struct uz_flat_view *view = &ranks->shards[rank].groups[walk->subgroup].fp32;
        if (state)
            UZ_TRY(uz_ranks_state(ranks, model, rank, walk->subgroup, state, &view, err));
        walk->views[first + rank] = view;
        struct uz_partition what = {
            .rank = (uint32_t)rank, .group = (uint32_t)walk->subgroup, .state = number};
        UZ_TRY(uz_source_add_partition(model, ranks->optim_files[rank], view, what,
                                       &walk->places[first + rank], err));
    }
    walk->lanes[walk->n_lanes++] =
        (struct lane){.state = number, .dtype = walk->views[first]->dtype};
    return UZ_OK;
}

/* What each rank records of a sub-group's partitions must be what the parameters need. */
static int check_parts(const struct uz_model *model, const struct uz_ranks *ranks, size_t subgroup,
                       const struct uz_expert_ranks *split, struct uz_error *err)
{
    for (uint64_t rank = 0; rank < ranks->world; rank++) {
        const struct uz_optim_group *group = &ranks->shards[rank].groups[subgroup];
        uint64_t ep_rank, part, n_parts = split->dp / split->ep;
        uz_expert_place(split, rank, &ep_rank, &part);
        if (group->partition_count == n_parts && (!group->has_part || group->part == part))
            continue;
        return uz_fail_at(err, UZ_MISMATCH, model->files[ranks->optim_files[rank]], UZ_NO_OFFSET,
                          "sub-group %zu is part %llu of %llu (ds_zero_partition_groups), by the "
                          "experts' ranks it is part %llu of %llu",
                          subgroup, (unsigned long long)group->part,
                          (unsigned long long)group->partition_count, (unsigned long long)part,
                          (unsigned long long)n_parts);
    }
    return UZ_OK;
}

static int enter_subgroup(struct walk *walk, struct uz_model *model, const struct uz_ranks *ranks,
                          const struct uz_expert_ranks *split, struct uz_error *err)
{
    const struct uz_optim_group *first = &ranks->shards[0].groups[walk->subgroup];
    UZ_TRY(check_subgroup(model, ranks, walk->subgroup, err));
    UZ_TRY(check_parts(model, ranks, walk->subgroup, split, err));
    walk->n_lanes = 0;
    UZ_TRY(add_lane(walk, model, ranks, NULL, err));
    for (size_t i = 0; i < first->n_states; i++)
        if (uz_state_is_wanted(ranks->state, first->states[i].name, strlen(first->states[i].name)))
            UZ_TRY(add_lane(walk, model, ranks, &first->states[i], err));
    return UZ_OK;
}

static int does_not_add_up(const struct uz_model *model, const struct uz_ranks *ranks,
                           const struct walk *walk, const char *name, uint64_t part,
                           struct uz_error *err)
{
    const struct uz_optim_shard *shard = &ranks->shards[0];
    uint64_t have = walk->subgroup < shard->n_groups ? shard->groups[walk->subgroup].fp32.numel : 0;
    return uz_fail_at(err, UZ_MISMATCH, model->files[ranks->optim_files[0]], UZ_NO_OFFSET,
                      "numel does not add up: %s needs %llu elements of every rank, sub-group %zu "
                      "has %llu left",
                      name, (unsigned long long)part, walk->subgroup,
                      (unsigned long long)(have - walk->used));
}

/* Moves to a sub-group with elements left; a part never crosses from one to the next. */
static int find_room(struct walk *walk, struct uz_model *model, const struct uz_ranks *ranks,
                     const struct uz_expert_ranks *split, const char *name, uint64_t part,
                     struct uz_error *err)
{
    const struct uz_optim_shard *shard = &ranks->shards[0];
    bool entered = walk->used > 0;
    while (walk->subgroup < shard->n_groups &&
           walk->used == shard->groups[walk->subgroup].fp32.numel) {
        walk->subgroup++;
        walk->used = 0;
        entered = false;
    }
    if (walk->subgroup == shard->n_groups ||
        shard->groups[walk->subgroup].fp32.numel - walk->used < part)
        return does_not_add_up(model, ranks, walk, name, part, err);
    return entered ? UZ_OK : enter_subgroup(walk, model, ranks, split, err);
}

/* A parameter while it is joined. */
struct joined {
    const struct uz_params *params;
    size_t group, param;
    const struct uz_expert_ranks *split;
    uint64_t n_parts; /* that each expert-parallel rank's values are cut into */
};

/*
 * Gives the parameter its piece of every rank's flat tensor of the lane; the tensors of its group
 * begin at first_tensor.
 */
static int add_pieces(const struct walk *walk, struct uz_model *model, const struct uz_ranks *ranks,
                      const struct joined *p, size_t lane, uint32_t first_tensor,
                      struct uz_error *err)
{
    for (uint64_t rank = 0; rank < ranks->world; rank++) {
        size_t at = lane * ranks->world + rank;
        uint64_t ep_rank, part;
        struct uz_piece piece = {
            .storage = walk->places[at],
            .src = walk->views[at]->first + walk->used,
        };
        uz_expert_place(p->split, rank, &ep_rank, &part);
        uz_ceil_split(p->params->numels[p->param], p->n_parts, part, &piece.lo, &piece.n_elems);
        UZ_TRY(uz_params_add_piece(p->params, model, p->group, p->param, ep_rank, first_tensor,
                                   &piece, err));
    }
    return UZ_OK;
}

static int join_parameter(struct walk *walk, struct uz_model *model, const struct uz_ranks *ranks,
                          const struct joined *p, struct uz_error *err)
{
    uint64_t part = uz_ceil_div(p->params->numels[p->param], p->n_parts);
    uint32_t tensor = p->params->tensors[p->param];
    uint32_t group_tensor = p->params->group_tensor[p->group];
    if (part == 0)
        return UZ_OK;
    UZ_TRY(find_room(walk, model, ranks, p->split, model->tensors[tensor].name, part, err));
    model->tensors[tensor].dtype = walk->lanes[0].dtype;
    UZ_TRY(add_pieces(walk, model, ranks, p, 0, group_tensor, err));
    for (size_t lane = 1; lane < walk->n_lanes; lane++) {
        uint32_t state;
        UZ_TRY(uz_model_add_state_tensor(model, tensor, walk->lanes[lane].state,
                                         walk->lanes[lane].dtype, &state, err));
        UZ_TRY(add_pieces(walk, model, ranks, p, lane, state - (tensor - group_tensor), err));
    }
    walk->used += part;
    return UZ_OK;
}

static int join_group(struct walk *walk, struct uz_model *model, const struct uz_params *params,
                      const struct uz_ranks *ranks, size_t group, struct uz_error *err)
{
    for (size_t param = params->group_first[group]; param < params->group_first[group + 1];
         param++) {
        struct joined p = {
            .params = params,
            .group = group,
            .param = param,
            .split = &params->group_ranks[group],
            .n_parts = uz_params_n_parts(params, group),
        };
        UZ_TRY(join_parameter(walk, model, ranks, &p, err));
    }
    return UZ_OK;
}

/* All that the ranks store must be explained: elements left over belong to no known parameter. */
static int check_all_used(struct walk *walk, const struct uz_model *model,
                          const struct uz_ranks *ranks, struct uz_error *err)
{
    const struct uz_optim_shard *shard = &ranks->shards[0];
    uint64_t left = 0;
    for (size_t g = walk->subgroup; g < shard->n_groups; g++)
        left += shard->groups[g].fp32.numel - (g == walk->subgroup ? walk->used : 0);
    if (left == 0)
        return UZ_OK;
    return uz_fail_at(err, UZ_MISMATCH, model->files[ranks->optim_files[0]], UZ_NO_OFFSET,
                      "numel does not add up: %llu elements are left over when all parameters of "
                      "param_shapes have theirs",
                      (unsigned long long)left);
}

static int check_group_counts(const struct uz_model *model, const struct uz_ranks *ranks,
                              struct uz_error *err)
{
    for (uint64_t rank = 1; rank < ranks->world; rank++)
        if (ranks->shards[rank].n_groups != ranks->shards[0].n_groups)
            return uz_fail_at(err, UZ_MISMATCH, model->files[ranks->optim_files[rank]],
                              UZ_NO_OFFSET, "has %zu sub-groups, rank 0 has %zu",
                              ranks->shards[rank].n_groups, ranks->shards[0].n_groups);
    return UZ_OK;
}

/* Parameters without elements have no partition to tell their dtype; they follow the others. */
static void set_empty_dtypes(struct uz_model *model, size_t n_tensors)
{
    enum uz_dtype dtype = UZ_DTYPE_F32;
    for (size_t i = 0; i < n_tensors; i++)
        if (model->tensors[i].numel > 0)
            dtype = model->tensors[i].dtype;
    for (size_t i = 0; i < n_tensors; i++)
        if (model->tensors[i].numel == 0)
            model->tensors[i].dtype = dtype;
}

int uz_join_stage3(struct uz_model *model, const struct uz_params *params,
                   const struct uz_ranks *ranks, struct uz_error *err)
{
    size_t n_tensors = params->group_tensor[params->n_groups];
    struct walk walk = {0};
    UZ_TRY(check_group_counts(model, ranks, err));
    int rc = UZ_OK;
    for (size_t group = 0; rc == UZ_OK && group < params->n_groups; group++)
        rc = join_group(&walk, model, params, ranks, group, err);
    if (rc == UZ_OK)
        rc = check_all_used(&walk, model, ranks, err);
    free(walk.places);
    free(walk.views);
    free(walk.lanes);
    UZ_TRY(rc);
    set_empty_dtypes(model, n_tensors);
    return UZ_OK;
}

int uz_join_frozen(struct uz_model *model, const struct uz_frozen *frozen,
                   const struct uz_ranks *ranks, struct uz_error *err)
{
    for (size_t i = 0; i < frozen->n; i++) {
        uint32_t tensor = frozen->first_tensor + (uint32_t)i;
        for (uint64_t rank = 0; rank < ranks->world; rank++) {
            const struct uz_flat_view *slice = &ranks->frozen_slices[rank][i];
            struct uz_piece piece = {.tensor = tensor, .src = slice->first};
            uz_ceil_split(model->tensors[tensor].numel, ranks->world, rank, &piece.lo,
                          &piece.n_elems);
            if (piece.n_elems == 0)
                continue;
            UZ_TRY(uz_source_add_place(model, ranks->model_files[rank], &slice->storage,
                                       &piece.storage, err));
            UZ_TRY(uz_model_add_piece(model, &piece, err));
        }
    }
    return UZ_OK;
}
