/* SPDX-License-Identifier: Apache-2.0 */
/* Reads param_shapes. */
#include "zero/params.h"

#include <stdlib.h>
#include <string.h>

/* One entry of param_shapes. */
struct entry {
    const char *name; /* terminated; lives as long as the model */
    char shown[256];
    size_t group;
    unsigned ndim;
    uint64_t shape[UZ_MAX_NDIM];
};

static int read_entry(const struct uz_params_source *source, struct uz_model *model,
                      const struct uz_pair *pair, struct entry *entry, struct uz_error *err)
{
    const struct uz_text *name = &pair->key->u.text;
    if (pair->key->kind != UZ_NODE_STR)
        return uz_fail_at(err, UZ_CORRUPT, uz_torch_path(source->file), UZ_NO_OFFSET,
                          "param_shapes[%zu] has a key that is no name", entry->group);
    uz_printable(entry->shown, sizeof entry->shown, name->data, name->nbytes);
    UZ_TRY(
        uz_torch_shape(source->file, pair->value, entry->shown, &entry->ndim, entry->shape, err));
    return uz_arena_strndup(model->arena, name->data, name->nbytes, &entry->name, err);
}

static int add_tensor(const struct uz_params_source *source, struct uz_model *model,
                      const struct entry *entry, const char *name, size_t name_nbytes,
                      uint32_t *tensor, struct uz_error *err)
{
    int rc = uz_model_add_tensor(model, name, name_nbytes, UZ_ROLE_PARAM, UZ_DTYPE_INVALID,
                                 entry->ndim, entry->shape, tensor, err);
    if (rc == UZ_OK)
        return UZ_OK;
    uz_context(err, rc, "param_shapes: %s", entry->shown);
    return uz_error_in_file(err, rc, uz_torch_path(source->file));
}

/* Adds the row of a parameter whose tensors begin at `tensor`. */
static int add_row(struct uz_params *params, const struct entry *entry, uint32_t tensor,
                   uint64_t numel, const struct uz_expert_layer *stack, struct uz_error *err)
{
    uint64_t need = (uint64_t)params->n + 1;
    UZ_TRY(uz_reserve(&params->numels, &params->cap_numels, need, sizeof *params->numels, err));
    UZ_TRY(uz_reserve(&params->names, &params->cap_names, need, sizeof *params->names, err));
    UZ_TRY(uz_reserve(&params->tensors, &params->cap_tensors, need, sizeof *params->tensors, err));
    UZ_TRY(uz_reserve(&params->stacks, &params->cap_stacks, need, sizeof *params->stacks, err));
    params->numels[params->n] = numel;
    params->names[params->n] = entry->name;
    params->tensors[params->n] = tensor;
    params->stacks[params->n++] = stack;
    return UZ_OK;
}

static int add_plain(struct uz_params *params, const struct uz_params_source *source,
                     struct uz_model *model, const struct entry *entry, struct uz_error *err)
{
    uint32_t tensor;
    UZ_TRY(add_tensor(source, model, entry, entry->name, strlen(entry->name), &tensor, err));
    return add_row(params, entry, tensor, model->tensors[tensor].numel, NULL, err);
}

/* A parameter of one native expert: a tensor for each expert-parallel rank. */
static int add_native(struct uz_params *params, const struct uz_params_source *source,
                      struct uz_model *model, const struct entry *entry,
                      const struct uz_expert_name *found, struct uz_error *err)
{
    uint32_t first = (uint32_t)model->n_tensors, tensor;
    uint64_t ep = params->group_ranks[entry->group].ep;
    uint64_t n_local = found->layer->n_experts / ep;
    if (found->layer->n_experts % ep || found->expert >= n_local)
        return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(source->file), UZ_NO_OFFSET,
                          "%s does not fit the expert files: there are %u experts in layer %u, "
                          "over %llu expert-parallel ranks",
                          entry->shown, found->layer->n_experts, found->layer->number,
                          (unsigned long long)ep);
    for (uint64_t e = 0; e < ep; e++) {
        const char *name;
        UZ_TRY(uz_expert_global_name(model->arena, found, e * n_local + found->expert, &name, err));
        UZ_TRY(add_tensor(source, model, entry, name, strlen(name), &tensor, err));
    }
    return add_row(params, entry, first, model->tensors[first].numel, NULL, err);
}

/* A stack of experts: those of all expert-parallel ranks are one tensor. */
static int add_stack(struct uz_params *params, const struct uz_params_source *source,
                     struct uz_model *model, struct entry *entry,
                     const struct uz_expert_layer *layer, struct uz_error *err)
{
    uint32_t tensor;
    if (entry->ndim == 0 || entry->shape[0] != layer->n_local)
        return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(source->file), UZ_NO_OFFSET,
                          "%s does not hold %u experts, as ds_autoep_layers tells", entry->shown,
                          layer->n_local);
    entry->shape[0] = layer->n_experts;
    UZ_TRY(add_tensor(source, model, entry, entry->name, strlen(entry->name), &tensor, err));
    uint64_t numel = model->tensors[tensor].numel / layer->n_experts * layer->n_local;
    return add_row(params, entry, tensor, numel, layer, err);
}

/* Experts are cut over other ranks than other parameters, so a group holds experts or none. */
static int check_group(struct uz_params *params, const struct uz_params_source *source,
                       const struct entry *entry, bool is_expert, uint64_t ep, bool is_first,
                       struct uz_error *err)
{
    struct uz_expert_ranks *ranks = &params->group_ranks[entry->group];
    if (is_first) {
        params->group_has_experts[entry->group] = is_expert;
        *ranks = (struct uz_expert_ranks){source->world, ep, source->experts->data_first};
    }
    if (params->group_has_experts[entry->group] != is_expert || ranks->ep != ep)
        return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(source->file), UZ_NO_OFFSET,
                          "param_shapes[%zu] mixes %s with parameters that are cut over other "
                          "ranks",
                          entry->group, entry->shown);
    if (source->world % ep == 0)
        return UZ_OK;
    return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(source->file), UZ_NO_OFFSET,
                      "the experts of %s are spread over %llu expert-parallel ranks, which do not "
                      "divide the %llu data-parallel ranks",
                      entry->shown, (unsigned long long)ep, (unsigned long long)source->world);
}

static int add_entry(struct uz_params *params, const struct uz_params_source *source,
                     struct uz_model *model, struct entry *entry, bool is_first,
                     struct uz_error *err)
{
    struct uz_expert_name found;
    bool is_expert = uz_expert_find(source->experts, entry->name, strlen(entry->name), &found);
    uint64_t ep = 1;
    if (is_expert && found.layer->fused)
        ep = found.layer->ep;
    else if (is_expert)
        UZ_TRY(uz_expert_group_ep(source->experts, entry->group, source->world, &ep, err));
    UZ_TRY(check_group(params, source, entry, is_expert, ep, is_first, err));
    if (!is_expert)
        return add_plain(params, source, model, entry, err);
    if (found.layer->fused)
        return add_stack(params, source, model, entry, found.layer, err);
    return add_native(params, source, model, entry, &found, err);
}

static int add_group(struct uz_params *params, const struct uz_params_source *source,
                     struct uz_model *model, const struct uz_dict *shapes, size_t group,
                     struct uz_error *err)
{
    params->group_ranks[group] = (struct uz_expert_ranks){.dp = source->world, .ep = 1};
    params->group_first[group] = params->n;
    params->group_tensor[group] = (uint32_t)model->n_tensors;
    for (size_t i = 0; i < shapes->n; i++) {
        struct entry entry = {.group = group};
        UZ_TRY(read_entry(source, model, &shapes->pairs[i], &entry, err));
        UZ_TRY(add_entry(params, source, model, &entry, i == 0, err));
    }
    return UZ_OK;
}

int uz_params_read(struct uz_params *params, struct uz_model *model,
                   const struct uz_params_source *source, struct uz_error *err)
{
    *params = (struct uz_params){0};
    const struct uz_seq *groups = uz_node_list(source->param_shapes);
    if (!groups || groups->n == 0)
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(source->file), UZ_NO_OFFSET,
                          "has no 'param_shapes', the list of parameters in the order of the flat "
                          "buffers");
    uint64_t n = (uint64_t)groups->n + 1;
    UZ_TRY(uz_alloc(&params->group_first, n, sizeof *params->group_first, err));
    UZ_TRY(uz_alloc(&params->group_tensor, n, sizeof *params->group_tensor, err));
    UZ_TRY(uz_alloc(&params->group_ranks, n, sizeof *params->group_ranks, err));
    UZ_TRY(uz_alloc(&params->group_has_experts, n, sizeof *params->group_has_experts, err));
    params->n_groups = groups->n;
    if (source->experts->n_groups == groups->n)
        params->group_names = source->experts->group_names;
    for (size_t group = 0; group < groups->n; group++) {
        const struct uz_dict *shapes = uz_node_dict(groups->items[group]);
        if (!shapes)
            return uz_fail_at(err, UZ_CORRUPT, uz_torch_path(source->file), UZ_NO_OFFSET,
                              "param_shapes[%zu] is no dictionary", group);
        UZ_TRY(add_group(params, source, model, shapes, group, err));
    }
    params->group_first[groups->n] = params->n;
    params->group_tensor[groups->n] = (uint32_t)model->n_tensors;
    return UZ_OK;
}

/* Elements of the stack up to where the experts no longer follow one another in the whole one. */
static uint64_t run_end(const struct uz_expert_layer *layer, const uint32_t *ids, uint64_t local,
                        uint64_t of_expert)
{
    while (local + 1 < layer->n_local && ids[local + 1] == ids[local] + 1)
        local++;
    return (local + 1) * of_expert;
}

/* Cuts the piece where the whole stack has other experts between those of this rank. */
static int add_stack_pieces(const struct uz_expert_layer *layer, uint64_t numel,
                            struct uz_model *model, uint64_t ep_rank, struct uz_piece piece,
                            struct uz_error *err)
{
    const uint32_t *ids = layer->ids + ep_rank * layer->n_local;
    uint64_t of_expert = numel / layer->n_local, end = piece.lo + piece.n_elems, at = piece.lo;
    while (at < end) {
        uint64_t local = at / of_expert, inside = at % of_expert;
        uint64_t n = run_end(layer, ids, local, of_expert) - at;
        n = n < end - at ? n : end - at;
        piece.lo = ids[local] * of_expert + inside;
        piece.n_elems = n;
        UZ_TRY(uz_model_add_piece(model, &piece, err));
        piece.src += n;
        at += n;
    }
    return UZ_OK;
}

int uz_params_add_piece(const struct uz_params *params, struct uz_model *model, size_t group,
                        size_t param, uint64_t ep_rank, uint32_t first_tensor,
                        const struct uz_piece *piece, struct uz_error *err)
{
    struct uz_piece made = *piece;
    made.tensor = first_tensor + (params->tensors[param] - params->group_tensor[group]);
    if (params->stacks[param])
        return add_stack_pieces(params->stacks[param], params->numels[param], model, ep_rank, made,
                                err);
    made.tensor += (uint32_t)ep_rank;
    return uz_model_add_piece(model, &made, err);
}

void uz_params_free(struct uz_params *params)
{
    free(params->group_first);
    free(params->group_tensor);
    free(params->group_ranks);
    free(params->group_has_experts);
    free(params->numels);
    free(params->names);
    free(params->tensors);
    free(params->stacks);
    *params = (struct uz_params){0};
}
