/* SPDX-License-Identifier: Apache-2.0 */
/* ZeRO 1 and 2: Muon's momenta, of which a rank keeps those of whole parameters. */
#include <stdio.h>
#include <string.h>

#include "layout/linkage.h"
#include "layout/split.h"
#include "zero/join_flat.h"
#include "zero/source.h"

/* What a rank's partition is of. */
struct share {
    uint64_t ep_rank;
    uint64_t start, size; /* in the flat buffer */
    uint64_t first, end;  /* the parameters that it touches */
};

static struct share share_at(const struct uz_flat_group *group, uint64_t start)
{
    struct share share = {.start = start, .size = group->part_size};
    share.first = share.end = uz_first_param_after(group, share.start);
    while (share.end < group->n_params && group->offsets[share.end] < share.start + share.size)
        share.end++;
    return share;
}

static struct share share_of(const struct uz_flat_group *group, uint64_t rank)
{
    uint64_t ep_rank, part;
    uz_expert_place(&group->split, rank, &ep_rank, &part);
    struct share share = share_at(group, part * group->part_size);
    share.ep_rank = ep_rank;
    return share;
}

static uint64_t whole_numel(const struct uz_flat_group *group, const struct share *share)
{
    uint64_t numel = 0;
    for (uint64_t p = share->first; p < share->end; p++)
        numel += group->numels[p];
    return numel;
}

uint64_t uz_numel_touched(const struct uz_flat_group *group, uint64_t start)
{
    struct share share = share_at(group, start);
    return whole_numel(group, &share);
}

/* The rank's view of the state; NULL if nothing but padding is there, for which none is made. */
static int view_of(const struct uz_flat_group *group, const struct uz_model *model,
                   const struct uz_ranks *ranks, const struct uz_optim_state *state, uint64_t rank,
                   const struct uz_flat_view **view, struct uz_error *err)
{
    struct share share = share_of(group, rank);
    *view = NULL;
    if (share.first == share.end && ranks->shards[rank].groups[group->index].n_states == 0)
        return UZ_OK;
    return uz_ranks_state(ranks, model, rank, group->index, state, view, err);
}

static int fail_size(const struct uz_flat_group *group, const struct uz_model *model,
                     const struct uz_ranks *ranks, const struct uz_optim_state *state,
                     uint64_t rank, uint64_t numel, struct uz_error *err)
{
    return uz_fail_at(
        err, UZ_MISMATCH, model->files[ranks->optim_files[rank]], UZ_NO_OFFSET,
        "has %llu elements of Muon's %s for group %zu: neither those of its partition "
        "nor of all parameters in it",
        (unsigned long long)numel, state->name, group->index);
}

int uz_muon_is_whole(const struct uz_flat_group *group, const struct uz_model *model,
                     const struct uz_ranks *ranks, const struct uz_optim_state *state, bool *whole,
                     struct uz_error *err)
{
    bool all_cut = true;
    *whole = false;
    if (!ranks->shards[0].groups[group->index].is_muon)
        return UZ_OK;
    for (uint64_t rank = 0; rank < ranks->world; rank++) {
        const struct uz_flat_view *view;
        struct share share = share_of(group, rank);
        UZ_TRY(view_of(group, model, ranks, state, rank, &view, err));
        uint64_t numel = view ? view->numel : 0;
        bool is_cut = view && (numel == ranks->shards[rank].groups[group->index].fp32.numel ||
                               numel == group->part_size);
        /* where both sizes are one on all ranks, parameters end where partitions do */
        if (!is_cut && numel != whole_numel(group, &share))
            return fail_size(group, model, ranks, state, rank, numel, err);
        all_cut = all_cut && is_cut;
    }
    *whole = !all_cut;
    for (uint64_t rank = 0; *whole && rank < ranks->world; rank++) {
        const struct uz_flat_view *view;
        struct share share = share_of(group, rank);
        UZ_TRY(view_of(group, model, ranks, state, rank, &view, err));
        if (view && view->numel != whole_numel(group, &share))
            return fail_size(group, model, ranks, state, rank, view->numel, err);
    }
    return UZ_OK;
}

/* A rank's copy of a parameter's momentum, at element `src` of the storage. */
struct copy {
    uint64_t param, src;
    uint32_t place;
};

/*
 * What the rank keeps beside its own fragment, which other ranks keep as well. (Experts of AutoEP
 * share a tensor with those of other ranks; theirs are not compared.)
 */
static int add_layer(const struct uz_flat_group *group, struct uz_model *model,
                     const struct uz_params *params, uint64_t rank, uint64_t ep_rank,
                     const struct copy *copy, const struct uz_hp_fragment *fragment,
                     uint32_t first_tensor, struct uz_error *err)
{
    size_t param = group->first_param + copy->param;
    uint64_t numel = group->numels[copy->param];
    uint64_t past = fragment->lp.start + fragment->lp.numel;
    uint32_t tensor = first_tensor + (params->tensors[param] - params->group_tensor[group->index]) +
                      (uint32_t)ep_rank;
    const uint64_t ranges[][2] = {{0, fragment->lp.start}, {past, numel}};
    struct uz_layer layer = {
        .tensor = tensor,
        .op = UZ_LAYER_EQUAL,
        .base = UZ_NONE,
        .base_rank = "the ranks whose partitions have the parameter",
    };
    char text[48];
    uint32_t index;
    if (fragment->lp.numel == numel || params->stacks[param])
        return UZ_OK;
    int n = snprintf(text, sizeof text, "data-parallel rank %llu", (unsigned long long)rank);
    UZ_TRY(uz_arena_strndup(model->arena, text, (size_t)n, &layer.rank, err));
    UZ_TRY(uz_model_add_layer(model, &layer, &index, err));
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        struct uz_piece piece = {
            .tensor = tensor,
            .storage = copy->place,
            .lo = ranges[i][0],
            .n_elems = ranges[i][1] - ranges[i][0],
            .src = copy->src + ranges[i][0],
        };
        if (piece.n_elems > 0)
            UZ_TRY(uz_model_add_layer_piece(model, &piece, err));
    }
    return UZ_OK;
}

static int join_rank(const struct uz_flat_group *group, struct uz_model *model,
                     const struct uz_params *params, const struct uz_ranks *ranks, uint64_t rank,
                     const struct uz_flat_view *view, uint32_t first_tensor, struct uz_error *err)
{
    struct share share = share_of(group, rank);
    struct copy copy = {.src = view->first};
    if (view->numel == 0)
        return UZ_OK;
    UZ_TRY(uz_source_add_place(model, ranks->optim_files[rank], &view->storage, &copy.place, err));
    for (uint64_t p = share.first; p < share.end; copy.src += group->numels[p++]) {
        struct uz_hp_fragment fragment;
        if (!uz_hp_fragment(group->offsets[p], group->numels[p], share.start, share.size,
                            &fragment))
            continue;
        struct uz_piece piece = {
            .storage = copy.place,
            .lo = fragment.lp.start,
            .n_elems = fragment.lp.numel,
            .src = copy.src + fragment.lp.start,
        };
        copy.param = p;
        UZ_TRY(uz_params_add_piece(params, model, group->index, group->first_param + p,
                                   share.ep_rank, first_tensor, &piece, err));
        UZ_TRY(add_layer(group, model, params, rank, share.ep_rank, &copy, &fragment, first_tensor,
                         err));
    }
    return UZ_OK;
}

int uz_muon_join(const struct uz_flat_group *group, struct uz_model *model,
                 const struct uz_params *params, const struct uz_ranks *ranks,
                 const struct uz_optim_state *state, uint32_t first_tensor, struct uz_error *err)
{
    for (uint64_t rank = 0; rank < ranks->world; rank++) {
        const struct uz_flat_view *view;
        UZ_TRY(view_of(group, model, ranks, state, rank, &view, err));
        if (view)
            UZ_TRY(join_rank(group, model, params, ranks, rank, view, first_tensor, err));
    }
    return UZ_OK;
}
