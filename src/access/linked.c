/* SPDX-License-Identifier: Apache-2.0 */
/* Links a parameter of a checkpoint to the partitions of all ranks. */
#include <stdlib.h>

#include "access/checkpoint_impl.h"
#include "layout/linkage.h"

/* A linked parameter with what its ranks point to. */
struct linked {
    struct uz_linked_param public; /* first: the caller has its address */
    struct uz_origin lp;
    struct uz_dp_group group;
    struct uz_lp_param_list *lists; /* of one parameter each */
    struct uz_lp_param **items;
};

static const struct uz_partition *sorted_partition(const struct uz_checkpoint *c, uint32_t at)
{
    return &c->model.partitions[c->sorted[at]];
}

static struct uz_tensor_view view_of(const struct uz_checkpoint *c, uint32_t at)
{
    const struct uz_partition *partition = sorted_partition(c, at);
    return (struct uz_tensor_view){
        .source = &c->partitions[c->sorted[at]].source,
        .numel = partition->numel,
        .dtype = partition->dtype,
    };
}

/* Partitions must hold whole runs of the parameter itself. */
static int check_pieces(const struct uz_checkpoint *c, const struct uz_tensor *tensor,
                        struct uz_error *err)
{
    const struct uz_piece *pieces = &c->model.pieces[tensor->first_piece];
    if (tensor->role != UZ_ROLE_PARAM || tensor->n_pieces == 0)
        return uz_fail(err, UZ_ARG, "%s is not partitioned: it has no high-precision fragments",
                       tensor->name);
    for (uint64_t i = 0; i < tensor->n_pieces; i++) {
        uint32_t at = c->at_place[pieces[i].storage];
        if (at == UZ_NONE)
            return uz_fail(err, UZ_ARG, "%s is not partitioned: it is stored whole", tensor->name);
        const struct uz_partition *partition = sorted_partition(c, at);
        if (pieces[i].map || partition->rank >= c->zero.dp_world_size ||
            partition->mp != sorted_partition(c, c->at_place[pieces[0].storage])->mp)
            return uz_fail(err, UZ_UNSUPPORTED,
                           "%s is cut by tensor parallelism before it is partitioned: a partition "
                           "links to a shard of it; open one model_parallel_rank",
                           tensor->name);
    }
    return UZ_OK;
}

/* The states of the partition stand behind it. Elements that only they have are padding. */
static int link_states(const struct uz_checkpoint *c, uint32_t at,
                       const struct uz_tensor_view *flat, struct uz_hp_mapping *mapping,
                       struct uz_error *err)
{
    const struct uz_partition *first = sorted_partition(c, at);
    struct uz_state_values states = {0};
    struct uz_state_value *values;
    UZ_TRY(uz_alloc(&values, c->model.n_states, sizeof *values, err));
    states.items = values;
    for (uint32_t i = at + 1; i < c->model.n_partitions; i++) {
        const struct uz_partition *next = sorted_partition(c, i);
        if (next->mp != first->mp || next->rank != first->rank || next->group != first->group)
            break;
        struct uz_state_value *value = &values[states.n++];
        value->key = c->model.states[next->state];
        value->ndim = 1;
        value->view = view_of(c, i);
        if (value->view.numel > flat->numel)
            value->view.numel = flat->numel;
    }
    int rc = uz_set_optim_state_fragment(mapping, flat, &states, err);
    free(values);
    return rc;
}

static int link_piece(const struct uz_checkpoint *c, const struct uz_piece *piece,
                      struct uz_lp_param *param, struct uz_error *err)
{
    uint32_t at = c->at_place[piece->storage];
    const struct uz_partition *partition = sorted_partition(c, at);
    struct uz_linkage linkage = {
        .flat_hp_partition = view_of(c, at),
        .param_group_index = partition->group,
    };
    struct uz_hp_fragment fragment = {
        .lp = {piece->lo, piece->n_elems},
        .hp = {piece->src - partition->first, piece->n_elems},
    };
    if (param->hp_mapping)
        return uz_fail(err, UZ_UNSUPPORTED, "%s has several fragments on rank %u", param->name,
                       partition->rank);
    UZ_TRY(uz_hp_mapping_of(&linkage, param, &fragment, &param->hp_mapping, err));
    return link_states(c, at, &linkage.flat_hp_partition, param->hp_mapping, err);
}

static int make_ranks(struct uz_checkpoint *c, size_t index, struct linked *linked,
                      struct uz_error *err)
{
    const struct uz_tensor *tensor = &c->model.tensors[index];
    size_t n = (size_t)c->zero.dp_world_size;
    UZ_TRY(uz_alloc(&linked->public.ranks, n, sizeof *linked->public.ranks, err));
    UZ_TRY(uz_alloc(&linked->lists, n, sizeof *linked->lists, err));
    UZ_TRY(uz_alloc(&linked->items, n, sizeof(struct uz_lp_param *), err));
    linked->public.n_ranks = n;
    linked->group = (struct uz_dp_group){linked->lists, n, NULL};
    linked->lp = (struct uz_origin){
        .checkpoint = c,
        .number = (uint32_t)index,
        .source = {.read = uz_read_lp, .cookie = &linked->lp},
    };
    for (size_t rank = 0; rank < n; rank++) {
        struct uz_lp_param *param = &linked->public.ranks[rank];
        param->name = tensor->name;
        param->lp.source = tensor->lp == UZ_NONE ? NULL : &linked->lp.source;
        param->lp.numel = tensor->numel;
        param->lp.dtype = tensor->lp_dtype;
        param->dp_group = &linked->group;
        linked->items[rank] = param;
        linked->lists[rank] = (struct uz_lp_param_list){&linked->items[rank], 1};
    }
    return UZ_OK;
}

static int link_all(struct uz_checkpoint *c, size_t index, struct linked *linked,
                    struct uz_error *err)
{
    const struct uz_tensor *tensor = &c->model.tensors[index];
    UZ_TRY(make_ranks(c, index, linked, err));
    for (uint64_t i = 0; i < tensor->n_pieces; i++) {
        const struct uz_piece *piece = &c->model.pieces[tensor->first_piece + i];
        uint32_t rank = sorted_partition(c, c->at_place[piece->storage])->rank;
        UZ_TRY(link_piece(c, piece, &linked->public.ranks[rank], err));
    }
    return UZ_OK;
}

int uz_checkpoint_link(struct uz_checkpoint *c, size_t index, struct uz_linked_param **out,
                       struct uz_error *err)
{
    struct linked *linked;
    uz_error_clear(err);
    if (index >= c->n_weights)
        return uz_fail(err, UZ_ARG, "there is no tensor number %zu, only %zu", index, c->n_weights);
    UZ_TRY(check_pieces(c, &c->model.tensors[index], err));
    UZ_TRY(uz_alloc(&linked, 1, sizeof *linked, err));
    int rc = link_all(c, index, linked, err);
    if (rc < 0) {
        uz_linked_param_free(&linked->public);
        return rc;
    }
    *out = &linked->public;
    return UZ_OK;
}

void uz_linked_param_free(struct uz_linked_param *param)
{
    struct linked *linked = (struct linked *)param;
    if (!linked)
        return;
    if (linked->items)
        uz_unlink_hp_params(linked->items, linked->public.n_ranks);
    free(linked->public.ranks);
    free(linked->lists);
    free(linked->items);
    free(linked);
}
