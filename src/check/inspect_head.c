/* SPDX-License-Identifier: Apache-2.0 */
/* What one file of each kind tells of the whole checkpoint. */
#include <stdlib.h>
#include <string.h>

#include "check/inspection.h"
#include "check/value_json.h"
#include "zero/metadata.h"

enum { MAX_GROUPS = 4096, MAX_VALUES = 256 };

/* Keys of model states that DeepSpeed writes itself: runtime/engine.py, 0.14.5 to 0.19.8. */
static const char *const own_keys[] = {
    "module",
    "buffer_names",
    "optimizer",
    "param_shapes",
    "frozen_param_shapes",
    "frozen_param_fragments",
    "shared_params",
    "lr_scheduler",
    "data_sampler",
    "random_ltd",
    "sparse_tensor_module_names",
    "skipped_steps",
    "global_steps",
    "global_samples",
    "dp_world_size",
    "mp_world_size",
    "checkpoint_parallel_dimensions",
    "ds_config",
    "ds_version",
    "num_experts",
    "ds_autoep_layers",
    "universal_checkpoint_info",
    "moe_folding_metadata",
};

static bool is_own_key(const struct uz_node *key)
{
    for (size_t i = 0; i < sizeof own_keys / sizeof own_keys[0]; i++)
        if (uz_node_is_str(key, own_keys[i]))
            return true;
    return false;
}

static int read_client_keys(struct uz_inspection *in, const struct uz_node *root,
                            struct uz_error *err)
{
    const struct uz_dict *dict = uz_node_dict(root);
    for (size_t i = 0; dict && i < dict->n; i++) {
        const struct uz_node *key = dict->pairs[i].key;
        char shown[256];
        if (key->kind != UZ_NODE_STR || is_own_key(key))
            continue;
        uz_printable(shown, sizeof shown, key->u.text.data, key->u.text.nbytes);
        UZ_TRY(uz_reserve(&in->client_keys, &in->cap_client_keys, (uint64_t)in->n_client_keys + 1,
                          sizeof *in->client_keys, err));
        UZ_TRY(uz_inspect_keep(in, shown, &in->client_keys[in->n_client_keys], err));
        in->n_client_keys++;
    }
    return UZ_OK;
}

static int read_optimizer_type(struct uz_inspection *in, const struct uz_node *config,
                               struct uz_error *err)
{
    const struct uz_node *type = uz_node_get(uz_node_get(config, "optimizer"), "type");
    char shown[128];
    if (!type || type->kind != UZ_NODE_STR)
        return UZ_OK;
    uz_printable(shown, sizeof shown, type->u.text.data, type->u.text.nbytes);
    return uz_inspect_keep(in, shown, &in->summary.optimizer, err);
}

static int read_group(struct uz_inspection *in, struct uz_torch_file *file,
                      const struct uz_dict *dict, struct uz_param_group *group,
                      struct uz_error *err)
{
    struct uz_hyperparameter *values;
    size_t n = dict->n < MAX_VALUES ? dict->n : MAX_VALUES;
    UZ_TRY(uz_arena_alloc(in->arena, n, sizeof *values, &values, err));
    group->values = values;
    for (size_t i = 0; i < n; i++) {
        const struct uz_node *key = dict->pairs[i].key;
        char shown[128], *text = NULL;
        size_t nbytes = 0;
        if (key->kind != UZ_NODE_STR || uz_node_is_str(key, "params"))
            continue;
        uz_printable(shown, sizeof shown, key->u.text.data, key->u.text.nbytes);
        struct uz_hyperparameter *value = &values[group->n_values];
        UZ_TRY(uz_inspect_keep(in, shown, &value->name, err));
        FILE *to = open_memstream(&text, &nbytes);
        if (!to)
            return uz_fail_nomem(err, sizeof *to);
        int rc = uz_value_json(to, file, dict->pairs[i].value, err);
        if (fclose(to) != 0 && rc == UZ_OK)
            rc = uz_fail_nomem(err, nbytes);
        if (rc == UZ_OK)
            rc = uz_inspect_keep(in, text, &value->json, err);
        free(text);
        UZ_TRY(rc);
        group->n_values++;
    }
    return UZ_OK;
}

/* "ep_size_4" is the name that DeepSpeed gives groups of experts. */
static void read_expert_degree(struct uz_inspection *in, const struct uz_node *group)
{
    static const char prefix[] = "ep_size_";
    const struct uz_node *name = uz_node_get_small(group, "name");
    char text[64];
    if (!name || name->kind != UZ_NODE_STR || name->u.text.nbytes >= sizeof text)
        return;
    uz_printable(text, sizeof text, name->u.text.data, name->u.text.nbytes);
    if (!strncmp(text, prefix, sizeof prefix - 1)) {
        uint64_t degree = strtoull(text + sizeof prefix - 1, NULL, 10);
        in->summary.ep = degree > in->summary.ep ? degree : in->summary.ep;
    }
}

static int read_groups(struct uz_inspection *in, struct uz_torch_file *file,
                       const struct uz_node *optimizer, struct uz_error *err)
{
    const struct uz_seq *list = uz_node_list(uz_node_get(optimizer, "param_groups"));
    for (size_t g = 0; list && g < list->n && g < MAX_GROUPS; g++) {
        const struct uz_dict *dict = uz_node_dict(list->items[g]);
        struct uz_param_group *group;
        if (!dict)
            continue;
        UZ_TRY(UZ_APPEND(in->groups, in->n_groups, in->cap_groups, &group, err));
        UZ_TRY(read_group(in, file, dict, group, err));
        read_expert_degree(in, list->items[g]);
    }
    return UZ_OK;
}

static void read_degrees(struct uz_inspection *in, const struct uz_metadata *metadata)
{
    struct uz_inspect_summary *s = &in->summary;
    s->dp = metadata->dp_world_size;
    s->tp = metadata->tp_degree;
    s->pp = metadata->pp_degree;
    if (s->tp == 0 && s->pp == 0 && metadata->mp_world_size <= 1)
        s->tp = s->pp = 1;
}

int uz_inspect_model_states(struct uz_inspection *in, struct uz_torch_file *file,
                            struct uz_error *err)
{
    struct uz_inspect_summary *s = &in->summary;
    const struct uz_node *root = uz_torch_root(file);
    const struct uz_node *config = uz_node_get(root, "ds_config");
    struct uz_metadata metadata;
    int64_t stage;
    if (uz_metadata_read(&metadata, file, NULL) == UZ_OK) {
        s->has_steps = metadata.has_steps;
        s->global_steps = metadata.global_steps;
        s->skipped_steps = metadata.skipped_steps;
        read_degrees(in, &metadata);
        if (*metadata.ds_version)
            UZ_TRY(uz_inspect_keep(in, metadata.ds_version, &s->ds_version, err));
    }
    if (uz_node_int(uz_node_get(uz_node_get(config, "zero_optimization"), "stage"), &stage) &&
        stage >= 0 && stage <= 3)
        s->zero_stage = (int)stage;
    UZ_TRY(read_optimizer_type(in, config, err));
    const struct uz_node *optimizer = uz_node_get(root, "optimizer"); /* of stage 0 */
    UZ_TRY(read_groups(in, file, optimizer, err));
    UZ_TRY(read_groups(in, file, uz_node_get(optimizer, "optimizer_state_dict"), err));
    return read_client_keys(in, root, err);
}

int uz_inspect_optimizer(struct uz_inspection *in, struct uz_torch_file *file, struct uz_error *err)
{
    const struct uz_node *state = uz_node_get(uz_torch_root(file), "optimizer_state_dict");
    int64_t stage;
    if (uz_node_int(uz_node_get(state, "zero_stage"), &stage) && stage >= 0 && stage <= 3)
        in->summary.zero_stage = (int)stage;
    UZ_TRY(read_groups(in, file, uz_node_get(state, "base_optimizer_state"), err));
    return read_groups(in, file, uz_node_get(state, "optimizer_state_dict"), err);
}
