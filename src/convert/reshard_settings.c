/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what the layout of shards depends on. */
#include "convert/reshard_settings.h"

#include <string.h>

#include "convert/json_node.h"

/* The configuration, and that of the source, which says what "auto" became. */
struct reader {
    const struct uz_node *config, *old;
    const char *path; /* of the file; NULL: the source's own */
    struct uz_error *err;
};

static const struct uz_node *look_up(const struct uz_node *config, const char *section,
                                     const char *key)
{
    return uz_node_get(section ? uz_node_get(config, section) : config, key);
}

/* A value of the configuration; NULL: it has none, DeepSpeed's default counts. */
static const struct uz_node *find(const struct reader *r, const char *section, const char *key)
{
    const struct uz_node *node = look_up(r->config, section, key);
    if (uz_node_is_str(node, "auto"))
        node = look_up(r->old, section, key);
    return uz_node_is_none(node) || uz_node_is_str(node, "auto") ? NULL : node;
}

static int fail_value(const struct reader *r, const char *section, const char *key,
                      struct uz_error *err)
{
    return uz_fail(err, UZ_ARG, "%s: %s%s%s is not what DeepSpeed takes there",
                   r->path ? r->path : "ds_config of the checkpoint", section ? section : "",
                   section ? "." : "", key);
}

static int read_bool(const struct reader *r, const char *section, const char *key, bool *value)
{
    const struct uz_node *node = find(r, section, key);
    *value = false;
    if (node && node->kind != UZ_NODE_BOOL)
        return fail_value(r, section, key, r->err);
    *value = node && node->u.boolean;
    return UZ_OK;
}

/* A whole number, which may be written as 1e9. */
static int read_number(const struct reader *r, const char *section, const char *key,
                       uint64_t default_value, uint64_t *value)
{
    const struct uz_node *node = find(r, section, key);
    *value = default_value;
    if (!node)
        return UZ_OK;
    if (node->kind == UZ_NODE_FLOAT && node->u.real >= 0 && node->u.real < 9e18) {
        *value = (uint64_t)node->u.real;
        return UZ_OK;
    }
    return node->kind != UZ_NODE_STR && uz_node_u64(node, value)
               ? UZ_OK
               : fail_value(r, section, key, r->err);
}

static int refuse(const struct reader *r, const char *what)
{
    return uz_fail(r->err, UZ_UNSUPPORTED, "%s: %s",
                   r->path ? r->path : "ds_config of the checkpoint", what);
}

/* ---- What is not written ---- */

static int refuse_section(const struct reader *r, const char *section, const char *device,
                          const char *what)
{
    const struct uz_node *part = look_up(r->config, "zero_optimization", section);
    return uz_node_is_str(uz_node_get(part, "device"), device) ? refuse(r, what) : UZ_OK;
}

static int refuse_number(const struct reader *r, const char *section, const char *key,
                         uint64_t most, const char *what)
{
    uint64_t value;
    UZ_TRY(read_number(r, section, key, most, &value));
    return value > most ? refuse(r, what) : UZ_OK;
}

static int refuse_configurations(const struct reader *r, int stage)
{
    const char *zero = "zero_optimization";
    bool on;
    UZ_TRY(refuse_section(r, "offload_optimizer", "nvme",
                          "offload_optimizer to NVMe keeps the states in files of its own, which "
                          "are not written"));
    UZ_TRY(refuse_number(r, "tensor_parallel", "autotp_size", 1,
                         "tensor parallel shards are not written"));
    UZ_TRY(refuse_number(r, "pipeline", "stages", 1, "pipeline stages are not written"));
    UZ_TRY(read_bool(r, "expert_parallel", "enabled", &on));
    if (on)
        return refuse(r, "experts' shards (expert_parallel) are not written");
    if (stage == 3) {
        UZ_TRY(refuse_number(r, zero, "mics_shard_size", 0, "MiCS shards are not written"));
        UZ_TRY(read_bool(r, zero, "elastic_checkpoint", &on));
        if (on)
            return refuse(r, "DeepSpeed has no elastic_checkpoint under ZeRO 3: its engine stops "
                             "with that setting");
    }
    if (look_up(r->config, zero, "zenflow") &&
        !uz_node_is_none(look_up(r->config, zero, "zenflow")))
        return refuse(r, "ZenFlow's states are not written");
    return UZ_OK;
}

/* ---- The layout ---- */

/* The configuration's section for bf16, whose name changed with time. */
static const char *bf16_section(const struct uz_node *config)
{
    return uz_node_get(config, "bf16") ? "bf16" : "bfloat16";
}

static int read_bf16(const struct reader *r, bool *bf16)
{
    return read_bool(r, bf16_section(r->config), "enabled", bf16);
}

bool uz_config_has_bf16(const struct uz_node *config)
{
    int64_t enabled;
    return uz_node_int(look_up(config, bf16_section(config), "enabled"), &enabled) && enabled;
}

/* DeepSpeed's names for fp32 (runtime/config.py, DtypeEnum). */
static bool is_fp32(const struct uz_node *dtype)
{
    static const char *const names[] = {"torch.float32", "fp32", "float32", "float"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (uz_node_is_str(dtype, names[i]))
            return true;
    return false;
}

/*
 * BF16_Optimizer instead of the ZeRO optimizer (runtime/engine.py, _do_optimizer_sanity_check):
 * stage 1 in bf16 with gradients accumulated in fp32, not offloaded.
 */
static int read_bf16_optimizer(const struct reader *r, struct uz_zero_settings *zero)
{
    const struct uz_node *dtype = find(r, "data_types", "grad_accum_dtype");
    const struct uz_node *offload = look_up(r->config, "zero_optimization", "offload_optimizer");
    const struct uz_node *device = uz_node_get(offload, "device");
    bool bf16, old_offload;
    UZ_TRY(read_bf16(r, &bf16));
    UZ_TRY(read_bool(r, "zero_optimization", "cpu_offload", &old_offload));
    bool offloaded =
        old_offload || (device && !uz_node_is_none(device) && !uz_node_is_str(device, "none"));
    zero->bf16_optimizer = zero->stage == 1 && bf16 && !offloaded && is_fp32(dtype);
    return UZ_OK;
}

static int read_stage(const struct reader *r, const struct uz_reshard_wish *wish, int old,
                      int *stage)
{
    uint64_t configured;
    const bool has = find(r, "zero_optimization", "stage") != NULL;
    UZ_TRY(read_number(r, "zero_optimization", "stage", 0, &configured));
    if (r->path && wish->stage && has && configured != (uint64_t)wish->stage)
        return uz_fail(r->err, UZ_ARG, "--stage %d, but %s configures stage %llu", wish->stage,
                       r->path, (unsigned long long)configured);
    *stage = old;
    if (wish->stage)
        *stage = wish->stage;
    else if (r->path)
        *stage = has && configured <= 3 ? (int)configured : 0;
    if (*stage < 1 || *stage > 3)
        return uz_fail(r->err, UZ_ARG, "ZeRO shards are of stage 1, 2 or 3: give --stage");
    return UZ_OK;
}

static int read_layout(const struct reader *r, struct uz_zero_settings *zero)
{
    const char *section = "zero_optimization";
    UZ_TRY(read_bf16_optimizer(r, zero));
    UZ_TRY(read_bool(r, section, "round_robin_gradients", &zero->round_robin));
    UZ_TRY(read_bool(r, section, "parameter_alignment", &zero->align));
    return read_number(r, section, "sub_group_size", 1000000000, &zero->sub_group_size);
}

/* The shards' values are of one precision: they cannot become another's by being cut anew. */
static int check_precision(const struct reader *r, const struct uz_reshard_source *source)
{
    bool bf16, old_bf16, fp16, old_fp16;
    const struct reader old = {r->old, r->old, NULL, r->err};
    UZ_TRY(read_bf16(r, &bf16));
    UZ_TRY(read_bool(r, "fp16", "enabled", &fp16));
    UZ_TRY(read_bf16(&old, &old_bf16));
    UZ_TRY(read_bool(&old, "fp16", "enabled", &old_fp16));
    if (!r->config || (!r->path && bf16 == source->bf16))
        return UZ_OK;
    if (bf16 != source->bf16 || (r->old && fp16 != old_fp16))
        return uz_fail(r->err, UZ_ARG,
                       "%s configures %s, the checkpoint is of %s training: its precision stays",
                       r->path ? r->path : "ds_config of the checkpoint",
                       bf16   ? "bf16"
                       : fp16 ? "fp16"
                              : "fp32",
                       source->bf16 ? "bf16"
                       : old_fp16   ? "fp16"
                                    : "fp32");
    return UZ_OK;
}

/* ---- Batch sizes ---- */

/* False if all three are given and do not fit, or one is no multiple of what it must be. */
static bool batches_fit(uint64_t train, uint64_t micro, uint64_t steps, uint64_t world)
{
    uint64_t unit = world;
    if (!train)
        return true;
    if ((micro && !uz_mul_u64(unit, micro, &unit)) || (steps && !uz_mul_u64(unit, steps, &unit)))
        return false;
    return micro && steps ? unit == train : train % unit == 0;
}

static int check_batches(const struct reader *r, uint64_t world, struct uz_notes *notes)
{
    uint64_t train, micro, steps;
    UZ_TRY(read_number(r, NULL, "train_batch_size", 0, &train));
    UZ_TRY(read_number(r, NULL, "train_micro_batch_size_per_gpu", 0, &micro));
    UZ_TRY(read_number(r, NULL, "gradient_accumulation_steps", 0, &steps));
    if (batches_fit(train, micro, steps, world))
        return UZ_OK;
    return uz_warn(notes, r->err,
                   "%s: train_batch_size %llu does not fit train_micro_batch_size_per_gpu %llu, "
                   "gradient_accumulation_steps %llu (0: not given) and %llu ranks; DeepSpeed "
                   "starts with a configuration only in which they fit",
                   r->path ? r->path : "ds_config of the checkpoint", (unsigned long long)train,
                   (unsigned long long)micro, (unsigned long long)steps, (unsigned long long)world);
}

/* ---- The shards' own configuration ---- */

/*
 * A part of the configuration with what the source has in the place of "auto"; without it, where
 * the source has nothing: DeepSpeed's default counted.
 */
static struct uz_node *without_auto(struct uz_maker *maker, const struct uz_node *part,
                                    const struct uz_node *old)
{
    const struct uz_dict *dict = uz_node_dict(part);
    struct uz_node *filled = uz_make_dict(maker);
    for (size_t i = 0; i < dict->n; i++) {
        const struct uz_node *key = dict->pairs[i].key, *value = dict->pairs[i].value;
        if (uz_node_is_str(value, "auto"))
            value = uz_node_get(old, key->u.text.data);
        if (value)
            uz_make_put(maker, filled, key, value);
    }
    return filled;
}

/* Values are in the configuration, or in one of its sections; JSON's keys are terminated. */
static void fill_in(struct uz_reshard_target *target, const struct uz_node *old)
{
    struct uz_maker *maker = &target->maker;
    struct uz_node *config = without_auto(maker, target->config, old);
    for (size_t i = 0; i < config->u.dict.n; i++) {
        struct uz_pair *pair = &config->u.dict.pairs[i];
        if (uz_node_dict(pair->value))
            pair->value =
                without_auto(maker, pair->value, uz_node_get(old, pair->key->u.text.data));
    }
    target->config = config;
}

/* The source's configuration with another stage. */
static void change_stage(struct uz_reshard_target *target)
{
    struct uz_maker *maker = &target->maker;
    const struct uz_node *zero = uz_node_get(target->config, "zero_optimization");
    if (!uz_node_dict(target->config))
        return;
    struct uz_node *config = uz_make_copy(maker, target->config);
    struct uz_node *changed = uz_node_dict(zero) ? uz_make_copy(maker, zero) : uz_make_dict(maker);
    uz_make_set(maker, changed, "stage", uz_make_int(maker, target->zero.stage));
    uz_make_set(maker, config, "zero_optimization", changed);
    target->config = config;
}

int uz_reshard_target_read(struct uz_reshard_target *target, const struct uz_reshard_wish *wish,
                           const struct uz_reshard_source *source, const struct uz_limits *limits,
                           struct uz_notes *notes, struct uz_error *err)
{
    struct uz_zero_settings *zero = &target->zero;
    struct reader r = {.path = wish->ds_config, .err = err};
    UZ_TRY(uz_maker_init(&target->maker, limits, err));
    r.old = uz_node_get(uz_torch_root(source->states), "ds_config");
    target->config = r.old;
    if (wish->ds_config)
        UZ_TRY(uz_json_to_node(&target->maker, wish->ds_config, &target->config, err));
    r.config = target->config;
    zero->world = wish->world;
    UZ_TRY(read_stage(&r, wish, source->info.stage, &zero->stage));
    UZ_TRY(refuse_configurations(&r, zero->stage));
    UZ_TRY(read_layout(&r, zero));
    UZ_TRY(check_precision(&r, source));
    UZ_TRY(check_batches(&r, wish->world, notes));
    if (!wish->ds_config && zero->stage == 1)
        zero->bf16_optimizer |= source->bf16_optimizer; /* as its version of DeepSpeed chose */
    target->clipping = find(&r, NULL, "gradient_clipping");
    if (wish->ds_config)
        fill_in(target, r.old);
    UZ_TRY(uz_maker_check(&target->maker, err));
    change_stage(target);
    return uz_maker_check(&target->maker, err);
}

void uz_reshard_target_free(struct uz_reshard_target *target)
{
    uz_maker_free(&target->maker);
    *target = (struct uz_reshard_target){0};
}
