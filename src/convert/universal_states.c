/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of the model states, under the names that DeepSpeed's loaders of all stages look for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "convert/universal_impl.h"

/* From this version of universal_checkpoint_info on widths are recorded; 0.19.8 writes it. */
static const double info_version = 0.4;

/* One file of model states, open, and one that is made of it. */
struct states {
    struct uz_universal_job *job;
    struct uz_torch_file *file;
    struct uz_graph graph;
};

static struct uz_maker *maker_of(struct states *s)
{
    return &s->graph.maker;
}

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
    struct uz_node *patterns = uz_make_list(maker_of(s)), *made = uz_make_list(maker_of(s));
    uz_make_append(
        maker_of(s), patterns,
        uz_make_str(maker_of(s), stage3 ? ".*\\.experts\\.w[123]$" : "\\.experts\\.w[123]$"));
    for (size_t i = 0; i < list->n; i++)
        uz_make_append(maker_of(s), made, light_layer(maker_of(s), list->items[i]));
    uz_make_set(maker_of(s), info, "expert_parameter_patterns", patterns);
    uz_make_set(maker_of(s), info, "ds_autoep_layers", stage3 ? layers : made);
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
    struct uz_node *copy = uz_make_copy(maker_of(s), root);
    struct uz_node *info =
        uz_node_dict(old) ? uz_make_copy(maker_of(s), old) : uz_make_dict(maker_of(s));
    if (add)
        uz_make_set(maker_of(s), info, "universal_checkpoint_version",
                    uz_make_real(maker_of(s), info_version));
    if (autoep)
        add_experts(s, info);
    uz_make_set(maker_of(s), copy, "universal_checkpoint_info", info);
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
    const struct uz_node *persid;
    struct uz_view view;
    UZ_TRY(uz_torch_tensor(s->file, value, "a parameter", &view, err));
    UZ_TRY(uz_graph_open_storage(&s->graph, view.dtype, view.dtype, 0, &persid, err));
    *made = uz_make_tensor(maker_of(s), persid, 0, 1, shape);
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
    struct uz_node *copy = uz_make_copy(maker_of(s), root);
    *made = copy;
    if (!module)
        return UZ_OK;
    struct uz_map *trained = uz_map_new();
    struct uz_node *lean = uz_make_ordered_dict(maker_of(s));
    int rc = trained ? list_trained(root, trained, err) : uz_fail_nomem(err, sizeof(void *));
    for (size_t i = 0; i < module->n && rc == UZ_OK; i++) {
        const struct uz_node *key = module->pairs[i].key, *value = module->pairs[i].value;
        if (key->kind == UZ_NODE_STR && uz_torch_is_tensor(value) &&
            uz_map_get(trained, key->u.text.data, key->u.text.nbytes, NULL))
            rc = placeholder(s, value, &value, err);
        uz_make_put(maker_of(s), lean, key, value);
    }
    uz_map_free(trained);
    uz_make_set(maker_of(s), copy, "module", lean);
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

/* The source has those of data-parallel rank 0 open; *opened is another one, to be closed. */
static int open_states(const struct uz_universal_job *job, const struct uz_shard_file *shard,
                       struct uz_torch_file **file, struct uz_torch_file **opened,
                       struct uz_error *err)
{
    const struct uz_universal_source *source = &job->source;
    *opened = NULL;
    if (shard->kind == source->states_kind && shard->dp == 0) {
        *file = source->states[shard->mp];
        return UZ_OK;
    }
    char *path = uz_shard_path(&source->topology, shard);
    int rc = path ? uz_torch_open(opened, path, &source->limits, err)
                  : uz_fail_nomem(err, strlen(shard->name));
    free(path);
    *file = *opened;
    return rc;
}

/* What a copy is made of: what stands in the file, without the weights that stand in zero/. */
enum copy { WHOLE, LEAN, AS_IT_IS };

static int add_copy(struct states *s, const char *name, enum copy copy, struct uz_error *err)
{
    struct uz_universal_job *job = s->job;
    int rc = uz_graph_start(&s->graph, name, &job->stored, s->file, &job->source.limits, err);
    const struct uz_node *root = uz_torch_root(s->file);
    if (rc == UZ_OK && copy != AS_IT_IS)
        root = with_info(s);
    if (rc == UZ_OK && copy == LEAN)
        rc = without_weights(s, root, &root, err);
    if (rc == UZ_OK)
        rc = uz_graph_finish(&s->graph, root, &job->values, err);
    uz_graph_free(&s->graph);
    return rc;
}

static int add_copies(struct states *s, const struct uz_shard_file *shard, struct uz_error *err)
{
    const struct uz_universal_job *job = s->job;
    char name[256];
    size_t n = strlen(shard->name) - (shard->zst ? strlen(".zst") : 0);
    snprintf(name, sizeof name, "%.*s", (int)n, shard->name);
    bool states = shard->kind == UZ_SHARD_MODEL || shard->kind == UZ_SHARD_MODEL_Z3;
    UZ_TRY(add_copy(s, name, states ? WHOLE : AS_IT_IS, err));
    if (job->options.dialect != UZ_UNIVERSAL_ANY || !states || shard->dp != 0)
        return UZ_OK;
    other_name(job, shard, name, sizeof name);
    return add_copy(s, name, job->source.info.stage < 3 ? LEAN : WHOLE, err);
}

static int add_states(struct uz_universal_job *job, const struct uz_shard_file *shard,
                      struct uz_error *err)
{
    struct states s = {.job = job};
    struct uz_torch_file *opened;
    UZ_TRY(open_states(job, shard, &s.file, &opened, err));
    int rc = add_copies(&s, shard, err);
    uz_torch_close(opened);
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
