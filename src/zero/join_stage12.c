/* SPDX-License-Identifier: Apache-2.0 */
/* ZeRO 1 and 2: pieces from the lp -> hp mapping of each rank. */
#include <stdlib.h>
#include <string.h>

#include "layout/linkage.h"
#include "layout/split.h"
#include "zero/join_flat.h"
#include "zero/optim_state.h"
#include "zero/source.h"

static int mismatch(const struct uz_model *model, const struct uz_ranks *ranks, uint64_t rank,
                    struct uz_error *err, const char *message)
{
    return uz_fail_at(err, UZ_MISMATCH, model->files[ranks->optim_files[rank]], UZ_NO_OFFSET, "%s",
                      message);
}

/*
 * Every rank's partition with its padding has the same size, and together they hold the group's
 * parameters; check_partition holds each rank's padding against that. Where no paddings are
 * recorded, DeepSpeed's rule gives the size: the flat buffer is padded to a multiple of 2 * dp.
 */
static int find_part_size(struct uz_flat_group *group, const struct uz_model *model,
                          const struct uz_ranks *ranks, struct uz_error *err)
{
    uint64_t by_rule = uz_partition_size(group->total, group->n_parts);
    const struct uz_optim_group *first = &ranks->shards[0].groups[group->index];
    group->part_size = first->has_padding ? first->fp32.numel + first->padding : by_rule;
    if (ranks->shards[0].bf16_optimizer)
        group->part_size = first->fp32.numel;
    uint64_t sum;
    if (!uz_mul_u64(group->part_size, group->n_parts, &sum) || sum > INT64_MAX)
        return mismatch(model, ranks, 0, err, "the partitions of a group are beyond 63 bits");
    if (sum >= group->total && (first->has_padding || group->part_size == by_rule))
        return UZ_OK;
    return uz_fail_at(err, UZ_MISMATCH, model->files[ranks->optim_files[0]], UZ_NO_OFFSET,
                      "group %zu does not add up: param_shapes has %llu elements, %llu partitions "
                      "of %llu hold %llu",
                      group->index, (unsigned long long)group->total,
                      (unsigned long long)group->n_parts, (unsigned long long)group->part_size,
                      (unsigned long long)sum);
}

static bool fits_books(const struct uz_optim_group *part, struct uz_partition_books books)
{
    return part->fp32.numel == books.numel &&
           (!part->has_padding || part->padding == books.padding);
}

/* A partition is stored without the padding at its end, as one of the ways to book it tells. */
static int check_partition(const struct uz_flat_group *group, const struct uz_model *model,
                           const struct uz_ranks *ranks, uint64_t rank, struct uz_error *err)
{
    const struct uz_optim_group *part = &ranks->shards[rank].groups[group->index];
    uint64_t ep_rank, number;
    uz_expert_place(&group->split, rank, &ep_rank, &number);
    struct uz_partition_books books = uz_books_of_each_rank(group->total, group->part_size, number);
    if (ranks->shards[rank].bf16_optimizer)
        books = uz_books_of_bf16_optimizer(group->total, group->part_size, group->n_parts, number);
    if (fits_books(part, books) ||
        fits_books(part,
                   uz_books_of_last_rank(group->total, group->part_size, group->n_parts, number)))
        return UZ_OK;
    return uz_fail_at(err, UZ_MISMATCH, model->files[ranks->optim_files[rank]], UZ_NO_OFFSET,
                      "group %zu does not add up: rank %llu stores %llu elements and records %llu "
                      "of padding; by param_shapes (%llu elements in partitions of %llu) it has "
                      "%llu and %llu",
                      group->index, (unsigned long long)rank, (unsigned long long)part->fp32.numel,
                      (unsigned long long)part->padding, (unsigned long long)group->total,
                      (unsigned long long)group->part_size, (unsigned long long)books.numel,
                      (unsigned long long)books.padding);
}

uint64_t uz_first_param_after(const struct uz_flat_group *group, uint64_t start)
{
    uint64_t low = 0, high = group->n_params;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        if (group->offsets[mid] + group->numels[mid] <= start)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/*
 * The pieces that a rank's partition, or one of its states, gives to the group's parameters, whose
 * tensors begin at first_tensor.
 */
static int add_rank(const struct uz_flat_group *group, struct uz_model *model,
                    const struct uz_params *params, const struct uz_ranks *ranks, uint64_t rank,
                    const struct uz_flat_view *view, uint32_t state, uint32_t first_tensor,
                    struct uz_error *err)
{
    uint64_t ep_rank, part;
    uz_expert_place(&group->split, rank, &ep_rank, &part);
    uint64_t start = part * group->part_size;
    uint64_t size = view->numel < group->part_size ? view->numel : group->part_size;
    uint32_t place;
    if (size == 0)
        return UZ_OK;
    struct uz_partition what = {
        .rank = (uint32_t)rank, .group = (uint32_t)group->index, .state = state, .start = start};
    UZ_TRY(uz_source_add_partition(model, ranks->optim_files[rank], view, what, &place, err));
    for (uint64_t p = uz_first_param_after(group, start);
         p < group->n_params && group->offsets[p] < start + size; p++) {
        struct uz_hp_fragment fragment;
        if (!uz_hp_fragment(group->offsets[p], group->numels[p], start, size, &fragment))
            continue;
        struct uz_piece piece = {
            .storage = place,
            .lo = fragment.lp.start,
            .n_elems = fragment.lp.numel,
            .src = view->first + fragment.hp.start,
        };
        UZ_TRY(uz_params_add_piece(params, model, group->index, group->first_param + p, ep_rank,
                                   first_tensor, &piece, err));
    }
    return UZ_OK;
}

static int check_same_layout(const struct uz_flat_group *group, const struct uz_model *model,
                             const struct uz_ranks *ranks, uint64_t rank, struct uz_error *err)
{
    const struct uz_optim_group *first = &ranks->shards[0].groups[group->index];
    const struct uz_optim_group *part = &ranks->shards[rank].groups[group->index];
    if (part->fp32.dtype != first->fp32.dtype)
        return mismatch(model, ranks, rank, err,
                        "stores its partition in another dtype than rank 0");
    if (!part->alignment != !first->alignment)
        return mismatch(model, ranks, rank, err, "and rank 0 disagree on param_alignment_paddings");
    for (uint64_t p = 0; first->alignment && p < group->n_params; p++)
        if (part->alignment[p] != first->alignment[p])
            return mismatch(model, ranks, rank, err,
                            "and rank 0 disagree on param_alignment_paddings");
    return UZ_OK;
}

/* Adds one state of the group's parameters, which rank 0 has. */
static int join_state(const struct uz_flat_group *group, struct uz_model *model,
                      const struct uz_params *params, const struct uz_ranks *ranks,
                      const struct uz_optim_state *state, struct uz_error *err)
{
    uint32_t number, first_tensor = (uint32_t)model->n_tensors, made;
    bool whole;
    const uint32_t *tensors = &params->group_tensor[group->index];
    UZ_TRY(uz_model_add_state(model, state->name, strlen(state->name), &number, err));
    for (uint32_t tensor = tensors[0]; tensor < tensors[1]; tensor++)
        UZ_TRY(uz_model_add_state_tensor(model, tensor, number, state->view.dtype, &made, err));
    UZ_TRY(uz_muon_is_whole(group, model, ranks, state, &whole, err));
    if (whole)
        return uz_muon_join(group, model, params, ranks, state, first_tensor, err);
    for (uint64_t rank = 0; rank < ranks->world; rank++) {
        const struct uz_flat_view *view;
        UZ_TRY(uz_ranks_state(ranks, model, rank, group->index, state, &view, err));
        UZ_TRY(add_rank(group, model, params, ranks, rank, view, number, first_tensor, err));
    }
    return UZ_OK;
}

static int join_states(const struct uz_flat_group *group, struct uz_model *model,
                       const struct uz_params *params, const struct uz_ranks *ranks,
                       struct uz_error *err)
{
    const struct uz_optim_group *first = &ranks->shards[0].groups[group->index];
    for (size_t i = 0; i < first->n_states; i++) {
        const char *name = first->states[i].name;
        if (uz_state_is_wanted(ranks->state, name, strlen(name)))
            UZ_TRY(join_state(group, model, params, ranks, &first->states[i], err));
    }
    return UZ_OK;
}

static int join_group(struct uz_flat_group *group, struct uz_model *model,
                      const struct uz_params *params, const struct uz_ranks *ranks,
                      struct uz_error *err)
{
    const struct uz_optim_group *first = &ranks->shards[0].groups[group->index];
    UZ_TRY(uz_flat_group_offsets(group->n_params, group->numels, first->alignment, group->offsets,
                                 &group->total, err));
    UZ_TRY(find_part_size(group, model, ranks, err));
    for (uint64_t rank = 0; rank < ranks->world; rank++) {
        UZ_TRY(check_same_layout(group, model, ranks, rank, err));
        UZ_TRY(check_partition(group, model, ranks, rank, err));
        UZ_TRY(add_rank(group, model, params, ranks, rank,
                        &ranks->shards[rank].groups[group->index].fp32, UZ_STATE_WEIGHT,
                        params->group_tensor[group->index], err));
    }
    for (uint32_t tensor = params->group_tensor[group->index];
         tensor < params->group_tensor[group->index + 1]; tensor++)
        model->tensors[tensor].dtype = first->fp32.dtype;
    return join_states(group, model, params, ranks, err);
}

int uz_join_stage12(struct uz_model *model, const struct uz_params *params,
                    const struct uz_ranks *ranks, struct uz_error *err)
{
    for (size_t g = 0; g < params->n_groups; g++) {
        struct uz_flat_group group = {
            .index = g,
            .first_param = params->group_first[g],
            .split = params->group_ranks[g],
            .n_parts = uz_params_n_parts(params, g),
            .n_params = uz_params_in_group(params, g),
            .numels = params->numels + params->group_first[g],
        };
        UZ_TRY(uz_alloc(&group.offsets, group.n_params, sizeof *group.offsets, err));
        int rc = join_group(&group, model, params, ranks, err);
        free(group.offsets);
        UZ_TRY(rc);
    }
    return UZ_OK;
}
