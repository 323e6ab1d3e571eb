/* SPDX-License-Identifier: Apache-2.0 */
/* Optimizer states that are one number for a whole group must be the same on all old ranks. */
#include <stdlib.h>
#include <string.h>

#include "convert/reshard_impl.h"
#include "zero/optim_state.h"

/* Is the state one that is kept as rank 0 has it? The reader compares `step` itself. */
static bool is_kept(const struct uz_reshard_source *source, size_t group, const struct uz_node *key,
                    const struct uz_node *value)
{
    const size_t param = source->groups[group].first;
    const bool is_number =
        uz_torch_is_tensor(value) || value->kind == UZ_NODE_INT || value->kind == UZ_NODE_FLOAT;
    return is_number && key->kind == UZ_NODE_STR && !uz_node_is_str(key, "step") &&
           uz_reshard_state_tensor(source, key->u.text.data, key->u.text.nbytes, param) == UZ_NONE;
}

static bool any_kept(const struct uz_reshard_source *source)
{
    for (size_t g = 0; g < source->n_groups; g++) {
        const struct uz_dict *states = uz_node_dict(uz_reshard_states_of(source, g));
        for (size_t i = 0; states && i < states->n; i++)
            if (is_kept(source, g, states->pairs[i].key, states->pairs[i].value))
                return true;
    }
    return false;
}

static int compare(const struct uz_reshard_source *source, size_t group, const struct uz_pair *pair,
                   struct uz_torch_file *file, const struct uz_node *states, struct uz_error *err)
{
    char name[128];
    double first, other;
    uz_printable(name, sizeof name, pair->key->u.text.data, pair->key->u.text.nbytes);
    UZ_TRY(uz_torch_number(source->optim, pair->value, name, &first, err));
    const struct uz_node *value = NULL;
    const struct uz_dict *dict = uz_node_dict(states);
    for (size_t i = 0; dict && i < dict->n; i++)
        if (dict->pairs[i].key->kind == UZ_NODE_STR &&
            dict->pairs[i].key->u.text.nbytes == pair->key->u.text.nbytes &&
            !memcmp(dict->pairs[i].key->u.text.data, pair->key->u.text.data,
                    pair->key->u.text.nbytes))
            value = dict->pairs[i].value;
    if (value)
        UZ_TRY(uz_torch_number(file, value, name, &other, err));
    if (!value || memcmp(&first, &other, sizeof first) != 0)
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(file), UZ_NO_OFFSET,
                          "has another %s for parameter group %zu than rank 0: which of them a new "
                          "rank is to have is unknown",
                          name, group);
    return UZ_OK;
}

static int compare_file(const struct uz_reshard_source *source, struct uz_torch_file *file,
                        struct uz_error *err)
{
    const struct uz_node *optimizer = uz_node_get(uz_torch_root(file), "optimizer_state_dict");
    const struct uz_node *base = uz_node_get(
        optimizer, source->stage == 3 ? "optimizer_state_dict" : "base_optimizer_state");
    for (size_t g = 0; g < source->n_groups; g++) {
        const struct uz_dict *states = uz_node_dict(uz_reshard_states_of(source, g));
        const struct uz_node *others = uz_states_of(base, source->state_ids[g]);
        for (size_t i = 0; states && i < states->n; i++)
            if (is_kept(source, g, states->pairs[i].key, states->pairs[i].value))
                UZ_TRY(compare(source, g, &states->pairs[i], file, others, err));
    }
    return UZ_OK;
}

int uz_reshard_check_kept(const struct uz_resharding *job, struct uz_error *err)
{
    const struct uz_reshard_source *source = &job->source;
    size_t n;
    const struct uz_shard_file *shards =
        uz_topology_shards_of(&source->topology, UZ_SHARD_OPTIM, 0, &n);
    if (source->info.is_universal || !any_kept(source))
        return UZ_OK;
    for (size_t i = 1; i < n; i++) {
        struct uz_torch_file *file = NULL;
        char *path = uz_shard_path(&source->topology, &shards[i]);
        int rc = path ? uz_torch_open(&file, path, &job->options.input.limits, err)
                      : uz_fail_nomem(err, 0);
        free(path);
        if (rc == UZ_OK)
            rc = compare_file(source, file, err);
        uz_torch_close(file);
        UZ_TRY(rc);
    }
    return UZ_OK;
}
