/* SPDX-License-Identifier: Apache-2.0 */
/* One rank's optimizer shard, with the keys that DeepSpeed 0.19.8 gives it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "convert/reshard_impl.h"

/* Keys that some stage's shards have: they are made anew, or left out. All others are kept. */
static const char *const known_keys[] = {
    "loss_scaler",
    "dynamic_loss_scale",
    "overflow",
    "clip_grad",
    "base_optimizer_state",
    "base_optimizer_state_step",
    "single_partition_of_fp32_groups",
    "zero_stage",
    "group_paddings",
    "param_alignment_paddings",
    "partition_count",
    "ds_version",
    "param_slice_mappings",
    "optimizer_state_dict",
    "fp32_flat_groups",
    "ds_zero_partition_groups",
    "param_groups", /* of a universal checkpoint */
};

static struct uz_maker *maker_of(struct uz_reshard_builder *b)
{
    return &b->graph.maker;
}

static const struct uz_node *old_value(const struct uz_reshard_builder *b, const char *key)
{
    return uz_node_get(b->job->source.optimizer, key);
}

/* Keeps a value that the source has; else `made`, unless that is NULL, too. */
static void keep(struct uz_reshard_builder *b, struct uz_node *state, const char *key,
                 const struct uz_node *made)
{
    const struct uz_node *old = old_value(b, key);
    if (old || made)
        uz_make_set(maker_of(b), state, key, old ? old : made);
}

/* ---- Single values ---- */

/* ZeroStageEnum(stage) */
static const struct uz_node *make_stage(struct uz_reshard_builder *b)
{
    struct uz_maker *maker = maker_of(b);
    const struct uz_node *stage = uz_make_int(maker, b->job->layout.settings.stage);
    return uz_make_reduced(maker,
                           uz_make_global(maker, "deepspeed.runtime.zero.config", "ZeroStageEnum"),
                           uz_make_tuple(maker, 1, &stage));
}

/* What BF16_Optimizer does not have: the scaler of a training that scales nothing. */
static const struct uz_node *make_scaler(struct uz_reshard_builder *b)
{
    struct uz_maker *maker = maker_of(b);
    struct uz_node *state = uz_make_dict(maker);
    uz_make_set(maker, state, "cur_scale", uz_make_real(maker, 1.0));
    uz_make_set(maker, state, "dynamic", uz_make_bool(maker, false));
    return uz_make_new(
        maker, uz_make_global(maker, "deepspeed.runtime.fp16.loss_scaler", "LossScaler"), state);
}

static void put_scaling(struct uz_reshard_builder *b, struct uz_node *state)
{
    keep(b, state, "loss_scaler", make_scaler(b));
    keep(b, state, "dynamic_loss_scale", uz_make_bool(maker_of(b), false));
    keep(b, state, "overflow", uz_make_bool(maker_of(b), false));
}

/* Without it the engine takes what its own configuration says. */
static void put_clipping(struct uz_reshard_builder *b, struct uz_node *state)
{
    keep(b, state, "clip_grad", b->job->target.clipping);
}

static const struct uz_node *find_version(const struct uz_reshard_builder *b)
{
    const struct uz_node *version = old_value(b, "ds_version");
    if (!version)
        version = uz_node_get(uz_torch_root(b->job->source.optim), "ds_version");
    if (!version)
        version = uz_node_get(uz_torch_root(b->job->source.states), "ds_version");
    return version;
}

/* ---- Stages 1 and 2 ---- */

static const struct uz_node *make_address(struct uz_reshard_builder *b,
                                          const struct uz_fragment_address *address)
{
    struct uz_maker *maker = maker_of(b);
    struct uz_node *state = uz_make_dict(maker);
    uz_make_set(maker, state, "numel", uz_make_int(maker, (int64_t)address->numel));
    uz_make_set(maker, state, "start", uz_make_int(maker, (int64_t)address->start));
    return uz_make_new(
        maker, uz_make_global(maker, "deepspeed.utils.tensor_fragment", "fragment_address"), state);
}

/* In the module's order. With round robin DeepSpeed's own mapping is wrong; this one is right. */
static int put_mapping(struct uz_reshard_builder *b, const struct uz_flat_group *flat,
                       struct uz_node *mappings, struct uz_error *err)
{
    const struct uz_zero_layout *layout = &b->job->layout;
    struct uz_node *mapping = uz_make_ordered_dict(maker_of(b));
    size_t first = layout->groups[flat->group].first, *place;
    struct uz_hp_fragment fragment;
    UZ_TRY(uz_alloc(&place, flat->n, sizeof *place, err));
    for (size_t i = 0; i < flat->n; i++)
        place[flat->params[i] - first] = i;
    for (size_t p = 0; p < flat->n; p++)
        if (uz_zero_fragment(layout, flat, place[p], b->rank, &fragment))
            uz_make_put(maker_of(b), mapping,
                        uz_make_str(maker_of(b), layout->params[first + p].name),
                        make_address(b, &fragment.hp));
    free(place);
    uz_make_append(maker_of(b), mappings, mapping);
    return UZ_OK;
}

static const struct uz_node *make_alignment(struct uz_reshard_builder *b,
                                            const struct uz_flat_group *flat)
{
    struct uz_node *paddings = uz_make_list(maker_of(b));
    for (size_t i = 0; i < flat->n; i++)
        uz_make_append(maker_of(b), paddings, uz_make_int(maker_of(b), (int64_t)flat->paddings[i]));
    return paddings;
}

/* What has an entry for each group. */
struct lists {
    struct uz_node *partitions, *paddings, *alignments, *counts, *mappings;
};

static int make_lists(struct uz_reshard_builder *b, struct lists *lists, struct uz_error *err)
{
    const struct uz_zero_layout *layout = &b->job->layout;
    struct uz_maker *maker = maker_of(b);
    *lists = (struct lists){uz_make_list(maker), uz_make_list(maker), uz_make_list(maker),
                            uz_make_list(maker), uz_make_list(maker)};
    for (size_t f = 0; f < layout->n_flats; f++) {
        const struct uz_flat_group *flat = &layout->flats[f];
        const struct uz_zero_books books = uz_zero_books(layout, flat, b->rank);
        const struct uz_node *partition = NULL;
        UZ_TRY(uz_reshard_partition(b, flat, NULL, books.numel, &partition, err));
        uz_make_append(maker, lists->partitions, partition);
        uz_make_append(maker, lists->paddings, uz_make_int(maker, (int64_t)books.padding));
        uz_make_append(maker, lists->alignments, make_alignment(b, flat));
        uz_make_append(maker, lists->counts, uz_make_int(maker, (int64_t)layout->settings.world));
        UZ_TRY(put_mapping(b, flat, lists->mappings, err));
    }
    return UZ_OK;
}

static int fill_stage12(struct uz_reshard_builder *b, struct uz_node *state, struct uz_error *err)
{
    const bool bf16_optimizer = b->job->layout.settings.bf16_optimizer;
    struct uz_maker *maker = maker_of(b);
    const struct uz_node *base, *version = find_version(b);
    struct lists lists;
    if (!bf16_optimizer)
        put_scaling(b, state);
    put_clipping(b, state);
    UZ_TRY(uz_reshard_base(b, &base, err));
    uz_make_set(maker, state, "base_optimizer_state", base);
    UZ_TRY(make_lists(b, &lists, err));
    uz_make_set(maker, state, "single_partition_of_fp32_groups", lists.partitions);
    if (!bf16_optimizer)
        uz_make_set(maker, state, "zero_stage", make_stage(b));
    uz_make_set(maker, state, "group_paddings", lists.paddings);
    if (!bf16_optimizer)
        uz_make_set(maker, state, "param_alignment_paddings", lists.alignments);
    uz_make_set(maker, state, "partition_count", lists.counts);
    if (version)
        uz_make_set(maker, state, "ds_version", version);
    uz_make_set(maker, state, "param_slice_mappings", lists.mappings);
    return UZ_OK;
}

/* ---- Stage 3 ---- */

static int fill_stage3(struct uz_reshard_builder *b, struct uz_node *state, struct uz_error *err)
{
    const struct uz_zero_layout *layout = &b->job->layout;
    struct uz_maker *maker = maker_of(b);
    struct uz_node *groups = uz_make_list(maker);
    const struct uz_node *base;
    uz_make_set(maker, state, "zero_stage", make_stage(b));
    put_scaling(b, state);
    uz_make_set(maker, state, "partition_count",
                uz_make_int(maker, (int64_t)layout->settings.world));
    UZ_TRY(uz_reshard_base(b, &base, err));
    uz_make_set(maker, state, "optimizer_state_dict", base);
    for (size_t f = 0; f < layout->n_flats; f++) {
        const struct uz_node *partition = NULL;
        UZ_TRY(uz_reshard_partition(b, &layout->flats[f], NULL, layout->flats[f].part_numel,
                                    &partition, err));
        uz_make_append(maker, groups, partition);
    }
    uz_make_set(maker, state, "fp32_flat_groups", groups);
    return UZ_OK;
}

/* ---- The file ---- */

static bool is_known(const struct uz_node *key)
{
    for (size_t i = 0; i < sizeof known_keys / sizeof known_keys[0]; i++)
        if (uz_node_is_str(key, known_keys[i]))
            return true;
    return false;
}

static void keep_others(struct uz_reshard_builder *b, struct uz_node *state)
{
    const struct uz_dict *old = uz_node_dict(b->job->source.optimizer);
    for (size_t i = 0; i < old->n; i++)
        if (!is_known(old->pairs[i].key))
            uz_make_put(maker_of(b), state, old->pairs[i].key, old->pairs[i].value);
}

static int fill_root(struct uz_reshard_builder *b, struct uz_node *root, struct uz_error *err)
{
    struct uz_maker *maker = maker_of(b);
    struct uz_node *state = uz_make_dict(maker);
    const struct uz_node *version = find_version(b);
    UZ_TRY(b->job->layout.settings.stage == 3 ? fill_stage3(b, state, err)
                                              : fill_stage12(b, state, err));
    keep_others(b, state);
    uz_make_set(maker, root, "optimizer_state_dict", state);
    if (b->job->target.config)
        uz_make_set(maker, root, "ds_config", b->job->target.config);
    if (version)
        uz_make_set(maker, root, "ds_version", version);
    return UZ_OK;
}

static int build(struct uz_reshard_builder *b, struct uz_error *err)
{
    const struct uz_reshard_source *source = &b->job->source;
    struct uz_node *root = source->info.is_universal
                               ? uz_make_dict(maker_of(b))
                               : uz_make_copy(maker_of(b), uz_torch_root(source->optim));
    UZ_TRY(uz_maker_check(maker_of(b), err));
    UZ_TRY(fill_root(b, root, err));
    return uz_graph_finish(&b->graph, root, &b->job->out, err);
}

int uz_reshard_add_optim(struct uz_resharding *job, uint64_t rank, struct uz_error *err)
{
    struct uz_reshard_builder b = {.job = job, .rank = rank};
    char *name;
    if (asprintf(&name, "%s/%szero_pp_rank_%" PRIu64 "_mp_rank_00_optim_states.pt", job->tag,
                 job->source.bf16 ? "bf16_" : "", rank) < 0)
        return uz_fail_nomem(err, 0);
    int rc = uz_graph_start(&b.graph, name, &job->stored, job->source.optim,
                            &job->options.input.limits, err);
    if (rc == UZ_OK)
        rc = build(&b, err);
    uz_graph_free(&b.graph);
    free(name);
    return rc;
}
