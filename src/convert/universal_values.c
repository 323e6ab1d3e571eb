/* SPDX-License-Identifier: Apache-2.0 */
/* zero/optimizer_state.pt: values of the source, with what belongs to ranks left out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "convert/universal_impl.h"
#include "zero/source.h"

static bool is_any(const struct uz_universal_job *job)
{
    return job->options.dialect == UZ_UNIVERSAL_ANY;
}

/* What the optimizer keeps for a whole group (ZeRO 3: sub-group): the step, and other numbers. */
static struct uz_node *group_numbers(const struct uz_universal_job *job, struct uz_maker *maker,
                                     size_t group)
{
    const struct uz_dict *states = uz_node_dict(uz_universal_states_of(&job->source, 0, group));
    struct uz_node *numbers = uz_make_dict(maker);
    for (size_t i = 0; states && i < states->n; i++)
        if (!uz_universal_is_sharded(&job->source, 0, group, states->pairs[i].key))
            uz_make_put(maker, numbers, states->pairs[i].key, states->pairs[i].value);
    return numbers;
}

/*
 * {group: its numbers}, by the numbers that `params` of param_groups gives. The loader of ZeRO 3
 * takes the step of 0, wherever the optimizer itself counts.
 */
static const struct uz_node *group_states(const struct uz_universal_job *job,
                                          struct uz_maker *maker)
{
    const struct uz_universal_optim *optim = &job->source.optims[0];
    const struct uz_seq *groups = uz_node_list(uz_node_get(optim->base, "param_groups"));
    struct uz_node *all = uz_make_dict(maker), *first = group_numbers(job, maker, 0);
    const struct uz_node *step = groups && groups->n > 0
                                     ? uz_node_get_small(groups->items[0], "step")
                                     : uz_node_get(optim->zero, "base_optimizer_state_step");
    if (step && !uz_node_get(first, "step"))
        uz_make_set(maker, first, "step", step);
    uz_make_put(maker, all, uz_make_int(maker, 0), first);
    for (size_t g = 1; g < optim->n_groups; g++)
        uz_make_put(maker, all, uz_make_int(maker, uz_universal_state_id(&job->source, 0, g)),
                    group_numbers(job, maker, g));
    return all;
}

/*
 * An elastic checkpoint holds no hyperparameters. DeepSpeed's loader goes through the groups and
 * takes what they have, so empty ones leave the hyperparameters of the loading engine alone.
 */
static int param_groups(struct uz_universal_job *job, struct uz_maker *maker,
                        const struct uz_node **groups, struct uz_error *err)
{
    const struct uz_universal_optim *optim = &job->source.optims[0];
    *groups = uz_node_get(optim->base, "param_groups");
    if (uz_node_list(*groups))
        return UZ_OK;
    struct uz_node *list = uz_make_list(maker);
    for (size_t g = 0; g < optim->n_groups; g++) {
        struct uz_node *group = uz_make_dict(maker), *params = uz_make_list(maker);
        uz_make_append(maker, params, uz_make_int(maker, (int64_t)g));
        uz_make_set(maker, group, "params", params);
        uz_make_append(maker, list, group);
    }
    *groups = list;
    return uz_warn(&job->notes, err,
                   "an elastic checkpoint holds no hyperparameters (learning rate, betas): those "
                   "of the engine that loads the universal one stay as they are");
}

static bool read_number(const struct uz_node *node, double *value)
{
    int64_t integer = 0;
    bool is_real = node->kind == UZ_NODE_FLOAT;
    bool is_number = is_real || uz_node_int(node, &integer);
    *value = is_real ? node->u.real : (double)integer;
    return is_number;
}

/* Numbers and sequences of them; other values (None, tensors) count as the same. */
static bool same_setting(const struct uz_node *a, const struct uz_node *b)
{
    const struct uz_seq *as = uz_node_list(a), *bs = uz_node_list(b);
    double x, y;
    bool same = (as != NULL) == (bs != NULL) && (!as || as->n == bs->n);
    for (size_t i = 0; as && same && i < as->n; i++)
        same =
            !read_number(as->items[i], &x) || !read_number(bs->items[i], &y) || !(x < y || x > y);
    return as || !read_number(a, &x) || !read_number(b, &y) ? same : !(x < y || x > y);
}

/* Those of a large dictionary, which no optimizer has, are not looked at. */
enum { MAX_SETTINGS = 1024 };

/* A key whose value in the first group is another in `group`; NULL: there is none. */
static const struct uz_node *find_difference(const struct uz_dict *first,
                                             const struct uz_dict *group)
{
    for (size_t i = 0; i < first->n && first->n <= MAX_SETTINGS; i++) {
        const struct uz_node *key = first->pairs[i].key;
        if (key->kind != UZ_NODE_STR || uz_node_is_str(key, "params") ||
            uz_node_is_str(key, "_ds_source_param_group_id"))
            continue;
        for (size_t j = 0; j < group->n && group->n <= MAX_SETTINGS; j++) {
            const struct uz_node *other = group->pairs[j].key;
            if (other->kind == UZ_NODE_STR && other->u.text.nbytes == key->u.text.nbytes &&
                !memcmp(other->u.text.data, key->u.text.data, key->u.text.nbytes) &&
                !same_setting(first->pairs[i].value, group->pairs[j].value))
                return key;
        }
    }
    return NULL;
}

/* The stage 3 loader (runtime/zero/stage3.py) sets what the first group has in all of them. */
static int tell_settings(struct uz_universal_job *job, const struct uz_node *groups,
                         struct uz_error *err)
{
    const struct uz_seq *list = uz_node_list(groups);
    const struct uz_dict *first = list->n ? uz_node_dict(list->items[0]) : NULL;
    char name[128];
    for (size_t g = 1; first && g < list->n; g++) {
        const struct uz_dict *group = uz_node_dict(list->items[g]);
        const struct uz_node *key = group ? find_difference(first, group) : NULL;
        if (!key)
            continue;
        uz_printable(name, sizeof name, key->u.text.data, key->u.text.nbytes);
        return uz_warn(&job->notes, err,
                       "parameter groups differ in %s: under ZeRO 3 DeepSpeed's universal load "
                       "gives all of them the hyperparameters of the first; set them again after "
                       "loading, or make shards with unzero reshard instead",
                       name);
    }
    return UZ_OK;
}

/* The same loader reads two states by name, and must find them. */
static int tell_states(struct uz_universal_job *job, struct uz_error *err)
{
    const struct uz_model *model = &job->source.model;
    unsigned n_read = 0;
    const char *other = NULL;
    for (size_t i = UZ_STATE_WEIGHT + 1; i < model->n_states; i++) {
        const char *state = model->states[i];
        if (!strcmp(state, "exp_avg") || !strcmp(state, "exp_avg_sq"))
            n_read++;
        else
            other = state;
    }
    if (n_read == 2 && !other)
        return UZ_OK;
    if (n_read == 2)
        return uz_warn(&job->notes, err,
                       "under ZeRO 3 DeepSpeed's universal load restores no states but exp_avg and "
                       "exp_avg_sq, so not %s; under ZeRO 1 and 2 it does, and unzero reshard "
                       "makes shards with all states for each stage",
                       other);
    return uz_warn(&job->notes, err,
                   "under ZeRO 3 DeepSpeed's universal load needs the states exp_avg and "
                   "exp_avg_sq, which this optimizer does not have: load it under ZeRO 1 or 2, or "
                   "make shards with unzero reshard");
}

/* What a rank stores of its own is dropped, or in ds_to_universal.py's way set to what it sets. */
static void drop_sharded(const struct uz_universal_job *job, struct uz_maker *maker,
                         struct uz_node *dict)
{
    static const char *const sharded[] = {
        "base_optimizer_state", "param_slice_mappings",     "single_partition_of_fp32_groups",
        "fp32_flat_groups",     "ds_zero_partition_groups",
    };
    for (size_t i = 0; i < sizeof sharded / sizeof sharded[0]; i++)
        uz_make_drop(maker, dict, sharded[i]);
    if (job->source.info.stage == 3)
        return;
    if (is_any(job)) {
        uz_make_drop(maker, dict, "group_paddings"); /* partition_count tells of experts' ranks */
        return;
    }
    struct uz_node *paddings = uz_make_list(maker), *counts = uz_make_list(maker);
    for (size_t g = 0; g < job->source.optims[0].n_groups; g++) {
        uz_make_append(maker, paddings, uz_make_int(maker, 0));
        uz_make_append(maker, counts, uz_make_int(maker, (int64_t)job->source.info.dp_world_size));
    }
    if (uz_node_get(dict, "group_paddings"))
        uz_make_set(maker, dict, "group_paddings", paddings);
    if (uz_node_get(dict, "partition_count"))
        uz_make_set(maker, dict, "partition_count", counts);
}

/* What the loaders of other stages look for. */
static void add_for_all_stages(const struct uz_universal_job *job, struct uz_maker *maker,
                               struct uz_node *dict, const struct uz_node *groups)
{
    const struct uz_node *root = uz_torch_root(job->source.states[0]);
    const struct uz_node *version = uz_node_get(root, "ds_version");
    const struct uz_node *clip = uz_node_get(uz_node_get(root, "ds_config"), "gradient_clipping");
    struct uz_node *base = uz_make_dict(maker);
    uz_make_set(maker, base, "state", group_states(job, maker));
    uz_make_set(maker, base, "param_groups", groups);
    uz_make_set(maker, dict, "optimizer_state_dict", base);
    if (!uz_node_get(dict, "ds_version") && version && version->kind == UZ_NODE_STR)
        uz_make_set(maker, dict, "ds_version",
                    uz_make_strn(maker, version->u.text.data, version->u.text.nbytes));
    if (!uz_node_get(dict, "zero_stage"))
        uz_make_set(maker, dict, "zero_stage", uz_make_int(maker, job->source.info.stage));
    if (!uz_node_get(dict, "clip_grad") && clip && clip->kind == UZ_NODE_FLOAT)
        uz_make_set(maker, dict, "clip_grad", uz_make_real(maker, clip->u.real));
}

static int add_optimizer(struct uz_universal_job *job, struct uz_graph *graph, struct uz_error *err)
{
    struct uz_maker *maker = &graph->maker;
    const struct uz_universal_optim *optim = &job->source.optims[0];
    const struct uz_node *groups;
    struct uz_node *dict = uz_make_copy(maker, optim->zero);
    UZ_TRY(param_groups(job, maker, &groups, err));
    UZ_TRY(uz_maker_check(maker, err));
    if (is_any(job) || job->source.info.stage < 3)
        drop_sharded(job, maker, dict);
    uz_make_set(maker, dict, "param_groups", groups);
    if (is_any(job) || job->source.info.stage == 3)
        UZ_TRY(tell_settings(job, groups, err));
    if (is_any(job))
        UZ_TRY(tell_states(job, err));
    if (is_any(job))
        add_for_all_stages(job, maker, dict, groups);
    return uz_graph_finish(graph, dict, &job->values, err);
}

int uz_universal_add_optimizer(struct uz_universal_job *job, struct uz_error *err)
{
    struct uz_graph graph = {0};
    int rc = uz_graph_start(&graph, "zero/optimizer_state.pt", &job->stored,
                            job->source.optims[0].file, &job->source.limits, err);
    if (rc == UZ_OK)
        rc = add_optimizer(job, &graph, err);
    uz_graph_free(&graph);
    return rc;
}
