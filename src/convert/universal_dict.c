/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys beside `param`, by which a loader cuts the tensor for its own tensor ranks (DeepSpeed:
 * checkpoint/ds_to_universal.py, merge_tp_slices; checkpoint/universal_checkpoint.py).
 */
#include <string.h>

#include "convert/universal_impl.h"
#include "zero/experts.h"

/* ---- Experts ---- */

static const struct uz_seq *autoep_layers(const struct uz_torch_file *states)
{
    const struct uz_node *root = uz_torch_root(states);
    const struct uz_node *layers = uz_node_get(root, "ds_autoep_layers");
    if (!layers || uz_node_is_none(layers))
        layers = uz_node_get(root, "autoep_layers");
    return uz_node_list(layers);
}

/* The largest number of experts that a layer has; model states list it for each of their own. */
static uint64_t most_experts(const struct uz_universal_job *job)
{
    uint64_t most = 0, n;
    for (uint32_t mp = 0; mp < job->source.n_mp; mp++) {
        const struct uz_node *root = uz_torch_root(job->source.states[mp]);
        const struct uz_node *node = uz_node_get(root, "num_experts");
        const struct uz_seq *list = uz_node_list(node);
        if (uz_node_u64(node, &n) && n > most)
            most = n;
        for (size_t i = 0; list && i < list->n; i++)
            if (uz_node_u64(list->items[i], &n) && n > most)
                most = n;
    }
    return most;
}

/* Experts in the stack of that name, if it is one of AutoEP's layers that model states list. */
static uint64_t stacked_experts(const struct uz_torch_file *states, const char *name)
{
    const struct uz_seq *layers = autoep_layers(states);
    for (size_t i = 0; layers && i < layers->n; i++) {
        const struct uz_node *prefix = uz_node_get_small(layers->items[i], "expert_key_prefix");
        uint64_t n;
        if (!prefix || prefix->kind != UZ_NODE_STR ||
            !uz_node_u64(uz_node_get_small(layers->items[i], "num_experts"), &n))
            continue;
        size_t nbytes = prefix->u.text.nbytes;
        const char *rest = name + nbytes;
        if (!strncmp(name, prefix->u.text.data, nbytes) && strlen(name) == nbytes + 3 &&
            rest[0] == '.' && rest[1] == 'w' && rest[2] >= '1' && rest[2] <= '3')
            return n;
    }
    return 0;
}

/*
 * DeepSpeed's converter knows no native experts. Every rank of a job has them under the same local
 * names, so a job that spreads them over ranks would take those of rank 0 on all of them; the
 * number makes its loader stop, and is not looked at where all experts are on each rank.
 */
uint64_t uz_universal_experts(const struct uz_universal_job *job, const char *name)
{
    uint64_t n = 0;
    if (strstr(name, UZ_NATIVE_EXPERTS))
        return job->options.dialect == UZ_UNIVERSAL_ANY ? most_experts(job) : 0;
    for (uint32_t mp = 0; mp < job->source.n_mp && n == 0; mp++)
        n = stacked_experts(job->source.states[mp], name);
    return n;
}

/* ---- Sub-parameters ---- */

/* A field of the dictionary that AutoTP writes, or of a SubparamShape object. */
static const struct uz_node *field(const struct uz_node *node, const char *name)
{
    if (node->kind == UZ_NODE_OBJECT && !uz_node_dict(node))
        return uz_node_get(node->u.object->state, name);
    return uz_node_get(node, name);
}

/* The shape with sizes where older metadata has the number of equal sub-parameters. */
static const struct uz_node *whole_shape(struct uz_maker *maker, const struct uz_node *shape,
                                         const struct uz_tp_subparams *sub, uint64_t dim_size)
{
    const struct uz_node *items[UZ_MAX_NDIM];
    const struct uz_seq *list = uz_node_list(shape);
    if (!list || list->n != sub->ndim || sub->ndim > UZ_MAX_NDIM ||
        uz_node_list(list->items[sub->dim]))
        return shape;
    const struct uz_node *const part = uz_make_int(maker, (int64_t)(dim_size / sub->n));
    const struct uz_node **parts;
    maker->status = uz_arena_alloc(maker->arena, sub->n, sizeof *parts, &parts, NULL);
    if (maker->status < 0)
        return shape; /* which is never written */
    for (size_t i = 0; i < sub->n; i++)
        parts[i] = part;
    for (size_t i = 0; i < list->n; i++)
        items[i] = i == sub->dim ? uz_make_tuple(maker, sub->n, parts) : list->items[i];
    return uz_make_tuple(maker, list->n, items);
}

/*
 * Elements along the dimension that is cut, of the view that the shape describes; -1 in it stands
 * for what is left.
 */
static uint64_t cut_size(const struct uz_tp_subparams *sub, const struct uz_tensor *tensor)
{
    uint64_t others = 1;
    for (unsigned j = 0; j < sub->ndim; j++)
        if (j != sub->dim && sub->shape[j] > 0)
            others *= (uint64_t)sub->shape[j];
    bool open = false;
    for (unsigned j = 0; j < sub->ndim; j++)
        open |= j != sub->dim && sub->shape[j] < 0;
    if (open && sub->dim < tensor->ndim)
        return tensor->shape[sub->dim];
    return others ? tensor->numel / others : 0;
}

static const struct uz_node *subparam_shape(const struct uz_universal_job *job,
                                            struct uz_maker *maker,
                                            const struct uz_tp_subparams *sub, uint32_t index)
{
    const struct uz_tensor *tensor = &job->source.model.tensors[index];
    const struct uz_node *info =
        uz_node_get(uz_torch_root(job->source.states[0]), "universal_checkpoint_info");
    const struct uz_seq *list = uz_node_list(uz_node_get(info, "parameter_with_sub_params"));
    if (!list || sub->entry >= list->n)
        return NULL;
    const struct uz_node *entry = list->items[sub->entry];
    struct uz_node *state = uz_make_dict(maker);
    uz_make_set(maker, state, "patterns", field(entry, "patterns"));
    uz_make_set(maker, state, "shape",
                whole_shape(maker, field(entry, "shape"), sub, cut_size(sub, tensor)));
    uz_make_set(maker, state, "partition_dim", field(entry, "partition_dim"));
    return uz_make_new(
        maker, uz_make_global(maker, "deepspeed.checkpoint.universal_checkpoint", "SubparamShape"),
        state);
}

/* ---- All keys ---- */

static int find_rule(const struct uz_universal_job *job, uint32_t tensor, struct uz_tp_rule *rule,
                     struct uz_error *err)
{
    const char *name = job->source.model.tensors[tensor].name;
    return uz_tp_rule_sets_find(&job->source.rules, name, rule, err);
}

static int put_join(const struct uz_universal_job *job, struct uz_maker *maker,
                    struct uz_node *dict, const struct uz_tp_rule *rule, uint32_t tensor,
                    struct uz_error *err)
{
    const struct uz_node *shape;
    switch (rule->join) {
    case UZ_TP_COLUMNS:
    case UZ_TP_ROWS:
        uz_make_set(maker, dict, "cat_dim", uz_make_int(maker, rule->join == UZ_TP_ROWS));
        return UZ_OK;
    case UZ_TP_HALVES:
        uz_make_set(maker, dict, "cat_dim", uz_make_int(maker, 0));
        uz_make_set(maker, dict, "param_n_sub_params", uz_make_int(maker, 2));
        return UZ_OK;
    case UZ_TP_SUBPARAMS:
        shape = subparam_shape(job, maker, rule->subparams, tensor);
        if (!shape)
            return uz_fail(err, UZ_UNSUPPORTED,
                           "%s consists of sub-parameters by the map of --tp-map, which a "
                           "universal checkpoint cannot tell",
                           job->source.model.tensors[tensor].name);
        uz_make_set(maker, dict, "sub_param_shape", shape);
        return UZ_OK;
    default:
        return UZ_OK; /* averaged, replicated, by affine_map: DeepSpeed writes no key */
    }
}

int uz_universal_param_dict(const struct uz_universal_job *job, struct uz_maker *maker,
                            uint32_t index, const struct uz_node *param,
                            const struct uz_node **value, struct uz_error *err)
{
    const struct uz_tensor *tensor = &job->source.model.tensors[index];
    struct uz_node *dict = uz_make_dict(maker);
    struct uz_tp_rule rule;
    uint64_t experts = uz_universal_experts(job, tensor->name);
    UZ_TRY(find_rule(job, index, &rule, err));
    UZ_TRY(put_join(job, maker, dict, &rule, index, err));
    if (rule.is_vocabulary)
        uz_make_set(maker, dict, "vocab_tensor", uz_make_bool(maker, true));
    uz_make_set(maker, dict, "param", param);
    if (experts > 0) {
        uz_make_set(maker, dict, "is_expert_param", uz_make_bool(maker, true));
        uz_make_set(maker, dict, "ep_num_experts", uz_make_int(maker, (int64_t)experts));
    }
    *value = dict;
    return UZ_OK;
}

/* Plain ZeRO 3 in DeepSpeed's dialect: everything but stacks of experts. */
bool uz_universal_is_flat(const struct uz_universal_job *job, uint32_t tensor)
{
    return !job->in_dicts && uz_universal_experts(job, job->source.model.tensors[tensor].name) == 0;
}

/* With several ranks the reader has stripped the padding of the vocabulary already. */
int uz_universal_kept(const struct uz_universal_job *job, uint32_t index, uint64_t *rows,
                      uint64_t *numel, struct uz_error *err)
{
    const struct uz_tensor *tensor = &job->source.model.tensors[index];
    struct uz_tp_rule rule;
    uint64_t vocabulary;
    *rows = tensor->ndim ? tensor->shape[0] : 0;
    *numel = tensor->numel;
    if (uz_universal_is_flat(job, index))
        return UZ_OK;
    UZ_TRY(find_rule(job, index, &rule, err));
    if (!rule.is_vocabulary || tensor->ndim != 2 ||
        !uz_tp_rule_sets_vocabulary(&job->source.rules, &vocabulary) || vocabulary >= *rows)
        return UZ_OK;
    *numel = *numel / *rows * vocabulary;
    *rows = vocabulary;
    return UZ_OK;
}
