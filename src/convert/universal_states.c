/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of the model states, under the names that DeepSpeed's loaders of all stages look for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "convert/universal_impl.h"

/* From this version of universal_checkpoint_info on widths are recorded; 0.19.8 writes it. */
static const double info_version = 0.4;

/* One file of model states, open. */
struct states {
    struct uz_universal_job *job;
    struct uz_torch_file *file;
    struct uz_maker maker;
};

/* ---- universal_checkpoint_info ---- */

/* {moe_layer_id, module_path, ...}: what ds_to_universal.py keeps of a layer with experts. */
static const struct uz_node *light_layer(struct uz_maker *maker, const struct uz_node *layer)
{
    static const char *const fields[] = {"moe_layer_id", "module_path",       "expert_key_prefix",
                                         "num_experts",  "num_local_experts", "ep_size"};
    struct uz_node *dict = uz_make_dict(maker);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const struct uz_node *value = uz_node_get_small(layer, fields[i]);
        if (value)
            uz_make_set(maker, dict, fields[i], value);
    }
    return dict;
}

/* The patterns and layers that a universal checkpoint of AutoEP carries; ZeRO 3 keeps layers whole.
 */
static void add_experts(struct states *s, struct uz_node *info)
{
    const bool stage3 = s->job->source.info.stage == 3;
    const struct uz_node *root = uz_torch_root(s->file);
    const struct uz_node *layers = uz_node_get(root, "ds_autoep_layers");
    if (!layers || uz_node_is_none(layers))
        layers = uz_node_get(root, "autoep_layers");
    const struct uz_seq *list = uz_node_list(layers);
    if (!list)
        return;
    struct uz_node *patterns = uz_make_list(&s->maker), *made = uz_make_list(&s->maker);
    uz_make_append(
        &s->maker, patterns,
        uz_make_str(&s->maker, stage3 ? ".*\\.experts\\.w[123]$" : "\\.experts\\.w[123]$"));
    for (size_t i = 0; i < list->n; i++)
        uz_make_append(&s->maker, made, light_layer(&s->maker, list->items[i]));
    uz_make_set(&s->maker, info, "expert_parameter_patterns", patterns);
    uz_make_set(&s->maker, info, "ds_autoep_layers", stage3 ? layers : made);
}

static bool has_autoep(const struct uz_node *root)
{
    return uz_node_list(uz_node_get(root, "ds_autoep_layers")) ||
           uz_node_list(uz_node_get(root, "autoep_layers"));
}

/* The root with the info added, or as it is. */
static const struct uz_node *with_info(struct states *s)
{
    const struct uz_node *root = uz_torch_root(s->file);
    const struct uz_node *old = uz_node_get(root, "universal_checkpoint_info");
    const bool autoep = has_autoep(root), add = s->job->adds_info && !uz_node_dict(old);
    if (!autoep && !add)
        return root;
    struct uz_node *copy = uz_make_copy(&s->maker, root);
    struct uz_node *info =
        uz_node_dict(old) ? uz_make_copy(&s->maker, old) : uz_make_dict(&s->maker);
    if (add)
        uz_make_set(&s->maker, info, "universal_checkpoint_version",
                    uz_make_real(&s->maker, info_version));
    if (autoep)
        add_experts(s, info);
    uz_make_set(&s->maker, copy, "universal_checkpoint_info", info);
    return copy;
}

/* ---- The second copy ---- */

/* Names in param_shapes: what stands in zero/ whole. */
static int list_trained(const struct uz_node *root, struct uz_map *names, struct uz_error *err)
{
    const struct uz_seq *groups = uz_node_list(uz_node_get(root, "param_shapes"));
    for (size_t g = 0; groups && g < groups->n; g++) {
        const struct uz_dict *shapes = uz_node_dict(groups->items[g]);
        for (size_t i = 0; shapes && i < shapes->n; i++) {
            const struct uz_text *name = &shapes->pairs[i].key->u.text;
            if (shapes->pairs[i].key->kind == UZ_NODE_STR)
                UZ_TRY(uz_map_add(names, name->data, name->nbytes, 0, NULL, err));
        }
    }
    return UZ_OK;
}

/* An empty tensor, as ZeRO 3 has in the place of a parameter that is partitioned. */
static int placeholder(struct states *s, const struct uz_node *value, const struct uz_node **made,
                       struct uz_error *err)
{
    static const uint64_t shape[] = {0};
    struct uz_view view;
    UZ_TRY(uz_torch_tensor(s->file, value, "a parameter", &view, err));
    const struct uz_node *storage =
        uz_make_storage(&s->maker, view.dtype, UINT32_MAX + (uint64_t)view.dtype, 0);
    if (storage)
        value = uz_make_tensor(&s->maker, storage, 0, 1, shape);
    *made = value;
    return UZ_OK;
}

/*
 * The module with placeholders for what stands in zero/: the name is that of ZeRO 3's model states,
 * which have them, too; no loader takes weights from them.
 */
static int without_weights(struct states *s, const struct uz_node *root,
                           const struct uz_node **made, struct uz_error *err)
{
    const struct uz_dict *module = uz_node_dict(uz_node_get(root, "module"));
    struct uz_node *copy = uz_make_copy(&s->maker, root);
    *made = copy;
    if (!module)
        return UZ_OK;
    struct uz_map *trained = uz_map_new();
    struct uz_node *lean = uz_make_ordered_dict(&s->maker);
    int rc = trained ? list_trained(root, trained, err) : uz_fail_nomem(err, sizeof(void *));
    for (size_t i = 0; i < module->n && rc == UZ_OK; i++) {
        const struct uz_node *key = module->pairs[i].key, *value = module->pairs[i].value;
        if (key->kind == UZ_NODE_STR && uz_torch_is_tensor(value) &&
            uz_map_get(trained, key->u.text.data, key->u.text.nbytes, NULL))
            rc = placeholder(s, value, &value, err);
        uz_make_put(&s->maker, lean, key, value);
    }
    uz_map_free(trained);
    uz_make_set(&s->maker, copy, "module", lean);
    return rc;
}

/* ---- Files ---- */

/* The name that the loader of the other stages looks for, of data-parallel rank 0's file. */
static int other_name(const struct uz_universal_job *job, const struct uz_shard_file *shard,
                      char *name, size_t size)
{
    return job->source.info.stage == 3
               ? snprintf(name, size, "mp_rank_%02u_model_states.pt", shard->mp)
               : snprintf(name, size, "zero_pp_rank_0_mp_rank_%02u_model_states.pt", shard->mp);
}

static int add_copies(struct states *s, const struct uz_shard_file *shard, struct uz_error *err)
{
    struct uz_universal_job *job = s->job;
    char name[256];
    size_t n = strlen(shard->name) - (shard->zst ? strlen(".zst") : 0);
    snprintf(name, sizeof name, "%.*s", (int)n, shard->name);
    bool states = shard->kind == UZ_SHARD_MODEL || shard->kind == UZ_SHARD_MODEL_Z3;
    const struct uz_node *root = states ? with_info(s) : uz_torch_root(s->file);
    UZ_TRY(uz_universal_add_value(job, name, s->file, root, &s->maker, err));
    if (job->options.dialect != UZ_UNIVERSAL_ANY || !states || shard->dp != 0)
        return UZ_OK;
    other_name(job, shard, name, sizeof name);
    if (job->source.info.stage < 3)
        UZ_TRY(without_weights(s, root, &root, err));
    return uz_universal_add_value(job, name, s->file, root, &s->maker, err);
}

static int add_states(struct uz_universal_job *job, const struct uz_shard_file *shard,
                      struct uz_error *err)
{
    struct states s = {.job = job};
    char *path = uz_shard_path(&job->source.topology, shard);
    int rc = path ? uz_torch_open(&s.file, path, &job->source.limits, err)
                  : uz_fail_nomem(err, strlen(shard->name));
    if (rc == UZ_OK)
        rc = uz_maker_init(&s.maker, &job->source.limits, err);
    if (rc == UZ_OK)
        rc = add_copies(&s, shard, err);
    uz_maker_free(&s.maker);
    uz_torch_close(s.file);
    free(path);
    return rc;
}

int uz_universal_add_model_states(struct uz_universal_job *job, struct uz_error *err)
{
    const struct uz_universal_source *source = &job->source;
    size_t n;
    const struct uz_shard_file *shards =
        uz_topology_shards(&source->topology, source->states_kind, &n);
    for (size_t i = 0; i < n; i++)
        UZ_TRY(add_states(job, &shards[i], err));
    shards = uz_topology_shards(&source->topology, UZ_SHARD_EXPERT, &n);
    for (size_t i = 0; job->options.dialect == UZ_UNIVERSAL_ANY && i < n; i++)
        UZ_TRY(add_states(job, &shards[i], err));
    return UZ_OK;
}
