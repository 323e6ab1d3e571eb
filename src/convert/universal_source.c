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

const struct uz_node *uz_universal_states_of(const struct uz_universal_source *s, uint32_t mp,
                                             size_t group)
{
    const struct uz_universal_optim *optim = &s->optims[mp];
    int64_t id = s->info.stage == 3 ? -1 : uz_state_id(optim->base, group, 0);
    return uz_states_of(optim->base, id >= 0 ? id : (int64_t)group);
}

/* ---- Steps ---- */

static int read_step_data(struct uz_universal_optim *optim, struct uz_universal_step *step,
                          struct uz_error *err)
{
    const struct uz_rewrite *value = &step->value;
    if (value->n == 0)
        return UZ_OK;
    const struct uz_storage_ref *ref = &value->storages[0].ref;
    if (value->n > 1 || ref->nbytes > sizeof step->data)
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(optim->file), UZ_NO_OFFSET,
                          "the optimizer's step is more than a number");
    UZ_TRY(uz_torch_read(optim->file, &ref->storage, 0, step->data, (size_t)ref->nbytes, err));
    for (size_t i = 0; ref->storage.big_endian && i < ref->nbytes / 2; i++) {
        unsigned char byte = step->data[i];
        step->data[i] = step->data[ref->nbytes - 1 - i];
        step->data[ref->nbytes - 1 - i] = byte;
    }
    return UZ_OK;
}

static int read_step(struct uz_universal_source *s, uint32_t mp, size_t group, struct uz_error *err)
{
    struct uz_universal_optim *optim = &s->optims[mp];
    struct uz_universal_step *step = &optim->steps[group];
    const struct uz_node_write_options options = {.limits = &s->limits};
    const struct uz_node *node = uz_node_get_small(uz_universal_states_of(s, mp, group), "step");
    if (!node || uz_node_is_none(node))
        return UZ_OK;
    UZ_TRY(uz_torch_rewrite(&step->value, optim->file, node, &s->maker, &options, err));
    UZ_TRY(read_step_data(optim, step, err));
    step->exists = s->has_step = true;
    return UZ_OK;
}

/* The partition that a parameter's first piece lies in, or UZ_NONE. */
static uint32_t first_partition(const struct uz_universal_source *s, uint32_t tensor)
{
    const struct uz_tensor *t = &s->model.tensors[tensor];
    return t->n_pieces ? s->partition_of[s->model.pieces[t->first_piece].storage] : UZ_NONE;
}

/* The first piece tells whose group the parameter is of; without elements the first group does. */
const struct uz_universal_step *uz_universal_step_of(const struct uz_universal_source *s,
                                                     uint32_t tensor)
{
    uint32_t mp = 0, group = 0;
    if (s->model.tensors[tensor].n_pieces > 0) {
        uint32_t at = first_partition(s, tensor);
        if (at == UZ_NONE)
            return NULL;
        mp = s->model.partitions[at].mp;
        group = s->model.partitions[at].group;
    }
    if (group >= s->optims[mp].n_groups || !s->optims[mp].steps[group].exists)
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
                       const struct uz_dict *states, size_t index, bool *has_scalars,
                       struct uz_error *err)
{
    const struct uz_node *key = states->pairs[index].key, *value = states->pairs[index].value;
    const char *compressed = NULL;
    struct uz_view view;
    bool found;
    if (key->kind != UZ_NODE_STR || uz_node_is_str(key, "step"))
        return UZ_OK;
    if (!uz_torch_is_tensor(value)) {
        *has_scalars |= !uz_node_is_none(value);
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
    *has_scalars |= view.numel == 1;
    return UZ_OK;
}

static int read_groups(struct uz_universal_source *s, uint32_t mp, bool *has_scalars,
                       struct uz_error *err)
{
    struct uz_universal_optim *optim = &s->optims[mp];
    UZ_TRY(uz_alloc(&optim->steps, optim->n_groups, sizeof *optim->steps, err));
    for (size_t g = 0; g < optim->n_groups; g++) {
        const struct uz_dict *states = uz_node_dict(uz_universal_states_of(s, mp, g));
        for (size_t i = 0; states && i < states->n; i++)
            UZ_TRY(check_state(s, mp, g, states, i, has_scalars, err));
        UZ_TRY(read_step(s, mp, g, err));
    }
    return UZ_OK;
}

/* ---- Rules ---- */

static int rules_of_family(struct uz_universal_source *s, struct uz_error *err)
{
    struct uz_tp_named *names;
    size_t n = 0;
    UZ_TRY(uz_alloc(&names, s->model.n_tensors, sizeof *names, err));
    for (size_t i = 0; i < s->model.n_tensors; i++) {
        const struct uz_tensor *tensor = &s->model.tensors[i];
        if (tensor->role == UZ_ROLE_PARAM || tensor->role == UZ_ROLE_FROZEN)
            names[n++] = (struct uz_tp_named){tensor->name, tensor->ndim, tensor->shape};
    }
    int rc = uz_tp_rules_of_family(&s->rules[0], names, n, &s->limits, err);
    free(names);
    return rc;
}

const struct uz_node *uz_universal_info_of(const struct uz_universal_source *s, uint32_t stage)
{
    const struct uz_torch_file *first = s->states[stage * (s->n_mp / s->n_stages)];
    const struct uz_node *info = uz_node_get(uz_torch_root(first), "universal_checkpoint_info");
    return uz_node_dict(info) ? info : NULL;
}

uint32_t uz_universal_stage_of(const struct uz_universal_source *s, uint32_t tensor)
{
    uint32_t at = first_partition(s, tensor);
    uint32_t stage = at == UZ_NONE ? 0 : s->model.partitions[at].mp / (s->n_mp / s->n_stages);
    return s->rules[stage] ? stage : 0;
}

static int read_stage_rules(struct uz_universal_source *s, uint32_t stage, struct uz_error *err)
{
    const struct uz_node *info = uz_universal_info_of(s, stage);
    if (!info || uz_node_dict(info)->n == 0)
        return UZ_OK;
    return uz_tp_rules_read(&s->rules[stage], info, "universal_checkpoint_info", &s->limits, err);
}

/* The same rules that the reader has joined the tensor ranks by. */
static int read_rules(struct uz_universal_source *s, const struct uz_input_options *input,
                      struct uz_error *err)
{
    s->n_stages = s->info.pp ? s->info.pp : 1;
    UZ_TRY(uz_alloc(&s->rules, s->n_stages, sizeof(struct uz_tp_rules *), err));
    s->has_info = uz_universal_info_of(s, 0) != NULL;
    if (input->tp_map && s->n_mp > 1)
        return uz_tp_rules_from_json(&s->rules[0], input->tp_map, &s->limits, err);
    UZ_TRY(read_stage_rules(s, 0, err));
    if (!s->rules[0] && s->info.tp > 1)
        return rules_of_family(s, err);
    for (uint32_t stage = 1; stage < s->n_stages; stage++)
        UZ_TRY(read_stage_rules(s, stage, err));
    return UZ_OK;
}

/* ---- All ---- */

static int check_kind(const struct uz_universal_source *s, struct uz_error *err)
{
    if (s->info.is_universal)
        return uz_fail_at(err, UZ_UNSUPPORTED, s->topology.dir, UZ_NO_OFFSET,
                          "is a universal checkpoint already; give the ZeRO checkpoint that it was "
                          "made from");
    if (s->info.stage < 1)
        return uz_fail_at(err, UZ_UNSUPPORTED, s->topology.dir, UZ_NO_OFFSET,
                          "was saved without ZeRO (stage 0): its model states hold masters and "
                          "optimizer states whole, and any world size loads them");
    return UZ_OK;
}

static int read_files(struct uz_universal_source *s, const struct uz_input_options *input,
                      struct uz_notes *notes, struct uz_error *err)
{
    bool has_scalars = false;
    UZ_TRY(check_kind(s, err));
    UZ_TRY(open_files(s, err));
    UZ_TRY(index_partitions(s, err));
    for (uint32_t mp = 0; mp < s->n_mp; mp++)
        UZ_TRY(read_groups(s, mp, &has_scalars, err));
    if (has_scalars)
        UZ_TRY(uz_warn(notes, err,
                       "the optimizer keeps numbers beside step that are not of single elements: "
                       "they stand in zero/optimizer_state.pt, but DeepSpeed's universal load does "
                       "not restore them"));
    return read_rules(s, input, err);
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
    UZ_TRY(uz_maker_init(&s->maker, &s->limits, err));
    UZ_TRY(uz_topology_open(&s->topology, &request, err));
    UZ_TRY(uz_zero_read(checkpoint, &zero, &s->model, &s->info, notes, err));
    return read_files(s, input, notes, err);
}

static void free_optim(struct uz_universal_optim *optim)
{
    for (size_t g = 0; optim->steps && g < optim->n_groups; g++)
        uz_rewrite_free(&optim->steps[g].value);
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
    for (uint32_t stage = 0; s->rules && stage < s->n_stages; stage++)
        uz_tp_rules_free(s->rules[stage]);
    free(s->rules);
    uz_maker_free(&s->maker);
    uz_topology_free(&s->topology);
    uz_zero_info_free(&s->info);
    uz_model_free(&s->model);
    *s = (struct uz_universal_source){0};
}
