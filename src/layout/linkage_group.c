/* SPDX-License-Identifier: Apache-2.0 */
/* Whole values: assembled from the ranks of a group, or set on them. */
#include <unzero/linkage.h>

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "layout/view.h"

/* Which value of a parameter is meant. */
struct subject {
    bool gradient;
    const char *key; /* of a state; NULL: the weight */
};

/* The ranks whose fragments can be reached from here. */
struct reach {
    const struct uz_dp_group *group; /* NULL: the parameter's own rank alone */
    const struct uz_lp_param *own;
    size_t n_ranks;
};

static const char *name_of(const struct uz_lp_param *param)
{
    return param->name ? param->name : "the parameter";
}

static struct reach reach_of(const struct uz_lp_param *param)
{
    struct reach reach = {.own = param, .n_ranks = 1};
    if (param->dp_group && !param->dp_group->collective) {
        reach.group = param->dp_group;
        reach.n_ranks = param->dp_group->n_ranks;
    }
    return reach;
}

/* The parameter on one of the ranks. */
static const struct uz_lp_param *on_rank(const struct reach *reach, size_t rank)
{
    return reach->group ? reach->group->ranks[rank].items[reach->own->list_index] : reach->own;
}

/* The ranks' lists must be of the same parameters. */
static int check_lists(const struct reach *reach, struct uz_error *err)
{
    size_t i = reach->own->list_index;
    for (size_t rank = 0; reach->group && rank < reach->n_ranks; rank++) {
        const struct uz_lp_param_list *list = &reach->group->ranks[rank];
        if (i >= list->n || list->items[i]->lp.numel != reach->own->lp.numel ||
            list->items[i]->list_index != i || list->items[i]->dp_group != reach->group)
            return uz_fail(err, UZ_MISMATCH,
                           "rank %zu of the group was not linked with it, or has another list of "
                           "parameters: %s is not its number %zu",
                           rank, name_of(reach->own), i);
    }
    return UZ_OK;
}

/* Where in the parameter the rank's fragment lies; without elements if it has none. */
static struct uz_fragment_address lp_address(const struct uz_lp_param *param)
{
    return param->hp_mapping ? param->hp_mapping->lp_fragment_address
                             : (struct uz_fragment_address){0};
}

/* The rank whose fragment begins at element `at`, looked for from rank `from` on; or n_ranks. */
static size_t rank_at(const struct reach *reach, uint64_t at, size_t from)
{
    for (size_t i = 0; i < reach->n_ranks; i++) {
        size_t rank = (from + i) % reach->n_ranks;
        struct uz_fragment_address address = lp_address(on_rank(reach, rank));
        if (address.numel > 0 && address.start == at)
            return rank;
    }
    return reach->n_ranks;
}

/* Every element of the parameter must be on one rank, and on no other. */
static int check_cover(const struct reach *reach, struct uz_error *err)
{
    uint64_t at = 0, numel = reach->own->lp.numel;
    size_t n_used = 0, n_mapped = 0, rank = 0;
    for (size_t r = 0; r < reach->n_ranks; r++)
        n_mapped += lp_address(on_rank(reach, r)).numel > 0;
    while (at < numel) {
        size_t next = rank_at(reach, at, rank);
        if (next == reach->n_ranks)
            break;
        at += lp_address(on_rank(reach, next)).numel;
        rank = next + 1;
        n_used++;
    }
    if (at == numel && n_used == n_mapped)
        return UZ_OK;
    return uz_fail(err, UZ_MISMATCH,
                   "the fragments of the group's %zu ranks do not cover %s exactly (%llu elements, "
                   "of which %llu follow one another)",
                   reach->n_ranks, name_of(reach->own), (unsigned long long)numel,
                   (unsigned long long)at);
}

/* The fragment of a mapped parameter that holds its part of the value. */
static int find_fragment(const struct uz_lp_param *param, const struct subject *subject,
                         struct uz_tensor_view *fragment, struct uz_error *err)
{
    const struct uz_hp_mapping *mapping = param->hp_mapping;
    if (subject->gradient)
        return uz_get_lp_grad_fragment(mapping, param->index_in_param_group, fragment, err);
    if (subject->key)
        return uz_get_optim_state_fragment(mapping, subject->key, fragment, err);
    *fragment = mapping->hp_fragment;
    return UZ_OK;
}

/* Copies the fragment of one rank to its place in the whole value. */
static int get_fragment(const struct uz_lp_param *param, const struct subject *subject, float *full,
                        struct uz_error *err)
{
    struct uz_fragment_address address = lp_address(param);
    struct uz_tensor_view fragment, to;
    uint64_t n_overflows = 0;
    if (!param->hp_mapping)
        return UZ_OK;
    UZ_TRY(find_fragment(param, subject, &fragment, err));
    if (subject->gradient && fragment.numel == param->lp.numel)
        fragment = uz_view_narrow(&fragment, address.start, address.numel);
    to = uz_view_of(full + address.start, UZ_DTYPE_F32, address.numel);
    return uz_view_copy(&to, &fragment, &n_overflows, err);
}

static int get_full(const struct uz_lp_param *param, const struct subject *subject, float *full,
                    uint64_t numel, struct uz_error *err)
{
    const struct uz_dp_group *group = param->dp_group;
    struct reach reach = reach_of(param);
    uz_error_clear(err);
    if (numel != param->lp.numel)
        return uz_fail(err, UZ_ARG, "%s has %llu elements, not %llu", name_of(param),
                       (unsigned long long)param->lp.numel, (unsigned long long)numel);
    if (group && group->collective) {
        struct uz_fragment_address own = lp_address(param);
        if (numel > 0)
            memset(full, 0, (size_t)numel * sizeof *full);
        UZ_TRY(get_fragment(param, subject, full, err));
        return group->collective->all_reduce(group->collective->cookie, full, numel, &own, err);
    }
    UZ_TRY(check_lists(&reach, err));
    UZ_TRY(check_cover(&reach, err));
    for (size_t rank = 0; rank < reach.n_ranks; rank++)
        UZ_TRY(get_fragment(on_rank(&reach, rank), subject, full, err));
    return UZ_OK;
}

int uz_get_full_hp_param(const struct uz_lp_param *param, const char *key, float *full,
                         uint64_t numel, struct uz_error *err)
{
    return get_full(param, &(struct subject){.key = key}, full, numel, err);
}

int uz_get_full_hp_grad(const struct uz_lp_param *param, float *full, uint64_t numel,
                        struct uz_error *err)
{
    return get_full(param, &(struct subject){.gradient = true}, full, numel, err);
}

/* Sets the fragment of one rank, or only checks that it can be set. */
static int set_fragment(const struct uz_lp_param *param, const struct subject *subject,
                        const struct uz_tensor_view *value, bool check_only, struct uz_error *err)
{
    struct uz_fragment_address address = lp_address(param);
    struct uz_tensor_view fragment, from;
    uint64_t n_overflows = 0;
    if (!param->hp_mapping)
        return UZ_OK;
    UZ_TRY(find_fragment(param, subject, &fragment, err));
    from = uz_view_narrow(value, address.start, address.numel);
    return check_only ? uz_view_check_copy(&fragment, &from, err)
                      : uz_view_copy(&fragment, &from, &n_overflows, err);
}

/* Sets *any if at least one rank within reach has a fragment. */
static int set_full(const struct uz_lp_param *param, const struct subject *subject,
                    const struct uz_tensor_view *value, bool *any, struct uz_error *err)
{
    struct reach reach = reach_of(param);
    *any = false;
    if (value->numel != param->lp.numel)
        return uz_fail(err, UZ_ARG, "%s has %llu elements, its new value %llu", name_of(param),
                       (unsigned long long)param->lp.numel, (unsigned long long)value->numel);
    UZ_TRY(check_lists(&reach, err));
    if (reach.group)
        UZ_TRY(check_cover(&reach, err));
    for (unsigned pass = 0; pass < 2; pass++)
        for (size_t rank = 0; rank < reach.n_ranks; rank++) {
            UZ_TRY(set_fragment(on_rank(&reach, rank), subject, value, pass == 0, err));
            *any |= on_rank(&reach, rank)->hp_mapping != NULL;
        }
    return UZ_OK;
}

int uz_set_full_hp_param(struct uz_lp_param *param, const char *key,
                         const struct uz_tensor_view *value, struct uz_error *err)
{
    bool any;
    uz_error_clear(err);
    return set_full(param, &(struct subject){.key = key}, value, &any, err);
}

/* True in *found if an element is infinite or no number. */
static int find_inf_or_nan(const struct uz_tensor_view *value, bool *found, struct uz_error *err)
{
    float block[1024];
    uint64_t n_overflows = 0;
    for (uint64_t at = 0; at < value->numel && !*found; at += 1024) {
        uint64_t n = value->numel - at < 1024 ? value->numel - at : 1024;
        struct uz_tensor_view part = uz_view_narrow(value, at, n);
        struct uz_tensor_view to = uz_view_of(block, UZ_DTYPE_F32, n);
        UZ_TRY(uz_view_copy(&to, &part, &n_overflows, err));
        for (uint64_t i = 0; i < n; i++)
            *found |= !isfinite(block[i]);
    }
    return UZ_OK;
}

int uz_set_full_hp_grad(struct uz_lp_param *param, const struct uz_tensor_view *value,
                        bool *overflow, struct uz_error *err)
{
    bool any, found = false;
    uz_error_clear(err);
    UZ_TRY(set_full(param, &(struct subject){.gradient = true}, value, &any, err));
    if (!overflow)
        return UZ_OK;
    if (any)
        UZ_TRY(find_inf_or_nan(value, &found, err));
    *overflow = found;
    return UZ_OK;
}
