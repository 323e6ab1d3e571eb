/* SPDX-License-Identifier: Apache-2.0 */
/* Opens what the model's reader has closed again: optimizer files and model states of each rank. */
#include "convert/universal_source.h"

#include <stdlib.h>
#include <string.h>

#include "zero/grid.h"
#include "zero/optim_state.h"

/* ---- Files ---- */

static int open_shard(const struct uz_universal_source *s, const struct uz_shard_file *shard,
                      struct uz_torch_file **file, struct uz_error *err)
{
    char *path = uz_shard_path(&s->topology, shard);
    if (!path)
        return uz_fail_nomem(err, strlen(shard->name));
    int rc = uz_torch_open(file, path, &s->limits, err);
    free(path);
    return rc;
}

static int open_optim(struct uz_universal_source *s, uint32_t mp, struct uz_error *err)
{
    struct uz_universal_optim *optim = &s->optims[mp];
    size_t n;
    const struct uz_shard_file *shard = uz_topology_shards_of(&s->topology, UZ_SHARD_OPTIM, mp, &n);
    if (n == 0)
        return uz_fail_at(err, UZ_UNSUPPORTED, s->topology.dir, UZ_NO_OFFSET,
                          "has no optimizer shards (*_optim_states.pt) of ZeRO 1, 2 or 3, which a "
                          "universal checkpoint is made of");
    UZ_TRY(open_shard(s, shard, &optim->file, err));
    optim->zero = uz_node_get(uz_torch_root(optim->file), "optimizer_state_dict");
    optim->base = uz_node_get(optim->zero,
                              s->info.stage == 3 ? "optimizer_state_dict" : "base_optimizer_state");
    const struct uz_seq *groups = uz_node_list(uz_node_get(
        optim->zero, s->info.stage == 3 ? "fp32_flat_groups" : "single_partition_of_fp32_groups"));
    optim->n_groups = groups ? groups->n : 0;
    return UZ_OK;
}

static int open_files(struct uz_universal_source *s, struct uz_error *err)
{
    size_t n;
    s->states_kind = s->info.stage == 3 ? UZ_SHARD_MODEL_Z3 : UZ_SHARD_MODEL;
    UZ_TRY(uz_grid_count(&s->topology, s->states_kind, &s->n_mp, err));
    UZ_TRY(uz_alloc(&s->optims, s->n_mp, sizeof *s->optims, err));
    UZ_TRY(uz_alloc(&s->states, s->n_mp, sizeof(struct uz_torch_file *), err));
    for (uint32_t mp = 0; mp < s->n_mp; mp++) {
        UZ_TRY(open_optim(s, mp, err));
        UZ_TRY(open_shard(s, uz_topology_shards_of(&s->topology, s->states_kind, mp, &n),
                          &s->states[mp], err));
    }
    return UZ_OK;
}

/* ---- Which group a tensor is of ---- */

static int index_partitions(struct uz_universal_source *s, struct uz_error *err)
{
    UZ_TRY(uz_alloc(&s->partition_of, s->model.n_places, sizeof *s->partition_of, err));
    for (size_t i = 0; i < s->model.n_places; i++)
        s->partition_of[i] = UZ_NONE;
    for (size_t i = 0; i < s->model.n_partitions; i++)
        s->partition_of[s->model.partitions[i].place] = (uint32_t)i;
    return UZ_OK;
}

bool uz_universal_is_sharded(const struct uz_universal_source *s, uint32_t mp, size_t group,
                             const struct uz_node *key)
{
    for (uint32_t state = 1; state < s->model.n_states; state++) {
        if (!uz_node_is_str(key, s->model.states[state]))
            continue;
        for (size_t i = 0; i < s->model.n_partitions; i++) {
            const struct uz_partition *partition = &s->model.partitions[i];
            if (partition->state == state && partition->mp == mp && partition->group == group)
                return true;
        }
    }
    return false;
}

int64_t uz_universal_state_id(const struct uz_universal_source *s, uint32_t mp, size_t group)
{
    int64_t id = s->info.stage == 3 ? -1 : uz_state_id(s->optims[mp].base, group, 0);
    return id >= 0 ? id : (int64_t)group;
}

const struct uz_node *uz_universal_states_of(const struct uz_universal_source *s, uint32_t mp,
                                             size_t group)
{
    return uz_states_of(s->optims[mp].base, uz_universal_state_id(s, mp, group));
}

/* ---- Steps ---- */

static int read_step(struct uz_universal_source *s, uint32_t mp, size_t group, struct uz_error *err)
{
    struct uz_universal_optim *optim = &s->optims[mp];
    const struct uz_node *node = uz_node_get_small(uz_universal_states_of(s, mp, group), "step");
    if (!node || uz_node_is_none(node))
        return UZ_OK;
    s->has_step = true;
    return uz_scalar_read(optim->file, node, "the optimizer's step", &optim->steps[group], err);
}

/* The first piece tells whose group the parameter is of; without elements the first group does. */
const struct uz_scalar *uz_universal_step_of(const struct uz_universal_source *s, uint32_t tensor)
{
    const struct uz_tensor *t = &s->model.tensors[tensor];
    uint32_t mp = 0, group = 0;
    if (t->n_pieces > 0) {
        uint32_t at = s->partition_of[s->model.pieces[t->first_piece].storage];
        if (at == UZ_NONE)
            return NULL;
        mp = s->model.partitions[at].mp;
        group = s->model.partitions[at].group;
    }
    if (group >= s->optims[mp].n_groups || s->optims[mp].steps[group].kind == UZ_NODE_NONE)
        return NULL;
    return &s->optims[mp].steps[group];
}

/* ---- States that are no tensors of the model ---- */

static int refuse_state(const struct uz_universal_source *s, uint32_t mp, const struct uz_node *key,
                        const char *why, struct uz_error *err)
{
    char name[128];
    uz_printable(name, sizeof name, key->u.text.data, key->u.text.nbytes);
    return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(s->optims[mp].file), UZ_NO_OFFSET,
                      "the optimizer state %s is %s: a universal checkpoint holds one value for "
                      "each element of a parameter",
                      name, why);
}

/* What a universal load does not restore must be known; what cannot be cut anew is refused. */
static int check_state(struct uz_universal_source *s, uint32_t mp, size_t group,
                       const struct uz_dict *states, size_t index, struct uz_error *err)
{
    const struct uz_node *key = states->pairs[index].key, *value = states->pairs[index].value;
    const char *compressed = NULL;
    struct uz_view view;
    bool found;
    if (key->kind != UZ_NODE_STR || uz_node_is_str(key, "step"))
        return UZ_OK;
    if (!uz_torch_is_tensor(value)) {
        s->has_numbers |= !uz_node_is_none(value);
        return UZ_OK;
    }
    UZ_TRY(
        uz_state_read(s->optims[mp].file, states, index, "all", &view, &found, &compressed, err));
    if (compressed)
        return refuse_state(s, mp, key, compressed, err);
    if (!found || uz_universal_is_sharded(s, mp, group, key))
        return UZ_OK;
    if (view.numel > 1)
        return refuse_state(s, mp, key, "not of the size of the partition it belongs to", err);
    s->has_numbers |= view.numel == 1;
    return UZ_OK;
}

static int read_groups(struct uz_universal_source *s, uint32_t mp, struct uz_error *err)
{
    struct uz_universal_optim *optim = &s->optims[mp];
    UZ_TRY(uz_alloc(&optim->steps, optim->n_groups, sizeof *optim->steps, err));
    for (size_t g = 0; g < optim->n_groups; g++) {
        const struct uz_dict *states = uz_node_dict(uz_universal_states_of(s, mp, g));
        for (size_t i = 0; states && i < states->n; i++)
            UZ_TRY(check_state(s, mp, g, states, i, err));
        UZ_TRY(read_step(s, mp, g, err));
    }
    return UZ_OK;
}

/* ---- Rules ---- */

/* Those that the reader has joined the tensor ranks by; a single rank's tell of the vocabulary. */
static int find_rules(struct uz_universal_source *s, struct uz_error *err)
{
    const struct uz_node *info =
        uz_node_get(uz_torch_root(s->states[0]), "universal_checkpoint_info");
    const struct uz_dict *dict = uz_node_dict(info);
    s->has_info = dict != NULL;
    s->rules = s->info.tp_rules;
    s->info.tp_rules = (struct uz_tp_rule_sets){0};
    if (s->n_mp > 1 || !dict || dict->n == 0)
        return UZ_OK;
    uz_tp_rule_sets_free(&s->rules);
    UZ_TRY(uz_alloc(&s->rules.of, 1, sizeof *s->rules.of, err));
    s->rules.n = 1;
    return uz_tp_rules_read(&s->rules.of[0], info, "universal_checkpoint_info", &s->limits, err);
}

/* ---- All ---- */

static int check_kind(const struct uz_universal_source *s, struct uz_error *err)
{
    if (s->info.is_universal)
        return uz_fail_at(err, UZ_UNSUPPORTED, s->topology.dir, UZ_NO_OFFSET,
                          "is a universal checkpoint already; give the ZeRO checkpoint that it was "
                          "made from, or make shards of it first (unzero reshard)");
    if (s->info.stage < 1)
        return uz_fail_at(err, UZ_UNSUPPORTED, s->topology.dir, UZ_NO_OFFSET,
                          "was saved without ZeRO (stage 0): its model states hold masters and "
                          "optimizer states whole, and any world size loads them");
    return UZ_OK;
}

static int read_files(struct uz_universal_source *s, struct uz_error *err)
{
    UZ_TRY(check_kind(s, err));
    UZ_TRY(open_files(s, err));
    UZ_TRY(index_partitions(s, err));
    for (uint32_t mp = 0; mp < s->n_mp; mp++)
        UZ_TRY(read_groups(s, mp, err));
    return find_rules(s, err);
}

int uz_universal_source_read(struct uz_universal_source *s, const char *checkpoint,
                             const struct uz_input_options *input, struct uz_notes *notes,
                             struct uz_error *err)
{
    const struct uz_zero_options zero = {.input = *input, .state = "all"};
    const struct uz_topology_request request = {
        .path = checkpoint,
        .tag = input->tag,
        .input_dirs = input->input_dirs,
        .n_input_dirs = input->n_input_dirs,
        .max_shards = input->limits.max_shards,
    };
    s->limits = input->limits;
    UZ_TRY(uz_topology_open(&s->topology, &request, err));
    UZ_TRY(uz_zero_read(checkpoint, &zero, &s->model, &s->info, notes, err));
    return read_files(s, err);
}

static void free_optim(struct uz_universal_optim *optim)
{
    free(optim->steps);
    uz_torch_close(optim->file);
}

void uz_universal_source_free(struct uz_universal_source *s)
{
    for (uint32_t mp = 0; mp < s->n_mp; mp++) {
        if (s->optims)
            free_optim(&s->optims[mp]);
        if (s->states)
            uz_torch_close(s->states[mp]);
    }
    free(s->optims);
    free(s->states);
    free(s->partition_of);
    uz_tp_rule_sets_free(&s->rules);
    uz_topology_free(&s->topology);
    uz_zero_info_free(&s->info);
    uz_model_free(&s->model);
    *s = (struct uz_universal_source){0};
}
