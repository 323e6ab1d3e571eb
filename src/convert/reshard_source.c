/* SPDX-License-Identifier: Apache-2.0 */
/* Opens the source of a resharding and finds its parameters' groups. */
#include "convert/reshard_source.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "convert/reshard_settings.h"
#include "layout/split.h"
#include "zero/optim_state.h"

static int refuse(const struct uz_reshard_source *source, const char *what, struct uz_error *err)
{
    return uz_fail_at(err, UZ_UNSUPPORTED, source->topology.dir, UZ_NO_OFFSET, "%s", what);
}

/* ---- Files ---- */

/* Layouts that files' names and the metadata give away. */
static int refuse_layouts(const struct uz_reshard_source *source, struct uz_error *err)
{
    const struct uz_topology *topology = &source->topology;
    const struct uz_metadata *metadata = &source->info.metadata;
    for (size_t i = 0; i < topology->n_shards; i++) {
        const struct uz_shard_file *shard = &topology->shards[i];
        if (shard->kind == UZ_SHARD_LAYER)
            return refuse(source, "is of a pipeline module: resharding is for data parallelism",
                          err);
        if (shard->kind == UZ_SHARD_EXPERT || shard->kind == UZ_SHARD_EXPERT_OPTIM)
            return refuse(source, "has experts: resharding is for data parallelism without them",
                          err);
        if (shard->mp > 0)
            return refuse(source,
                          "is of tensor or pipeline parallelism: resharding is for data "
                          "parallelism alone",
                          err);
    }
    if (source->info.has_experts)
        return refuse(source, "has experts: resharding is for data parallelism without them", err);
    if (metadata->mp_world_size > 1 || metadata->tp_degree > 1 || metadata->pp_degree > 1)
        return refuse(source,
                      "is of tensor or pipeline parallelism: resharding is for data parallelism "
                      "alone",
                      err);
    if (source->info.stage < 1 || source->info.stage > 3)
        return refuse(source,
                      "has no ZeRO partitions (stage 0): resharding is for ZeRO 1, 2 and 3, and "
                      "universal checkpoints",
                      err);
    return UZ_OK;
}

static int find_files(struct uz_reshard_source *source, const char *checkpoint,
                      const struct uz_input_options *input, struct uz_error *err)
{
    const struct uz_topology_request request = {
        .path = checkpoint,
        .tag = input->tag,
        .input_dirs = input->input_dirs,
        .n_input_dirs = input->n_input_dirs,
        .max_shards = input->limits.max_shards,
    };
    return uz_topology_open(&source->topology, &request, err);
}

static int open_shard(const struct uz_reshard_source *source, enum uz_shard_kind kind,
                      const struct uz_limits *limits, struct uz_torch_file **file,
                      struct uz_error *err)
{
    size_t n;
    const struct uz_shard_file *shards = uz_topology_shards_of(&source->topology, kind, 0, &n);
    if (n == 0)
        return refuse(source, "lacks a file of rank 0", err);
    char *path = uz_shard_path(&source->topology, &shards[0]);
    int rc = path ? uz_torch_open(file, path, limits, err) : uz_fail_nomem(err, 0);
    free(path);
    return rc;
}

static int open_universal(struct uz_reshard_source *source, const struct uz_limits *limits,
                          struct uz_error *err)
{
    char *dir = uz_path_join(source->topology.dir, "zero");
    char *path = dir ? uz_path_join(dir, "optimizer_state.pt") : NULL;
    int rc = path ? uz_torch_open(&source->optim, path, limits, err) : uz_fail_nomem(err, 0);
    free(path);
    free(dir);
    return rc;
}

static int open_files(struct uz_reshard_source *source, const struct uz_limits *limits,
                      struct uz_error *err)
{
    size_t n;
    (void)uz_topology_shards_of(&source->topology, UZ_SHARD_MODEL, 0, &n);
    UZ_TRY(
        open_shard(source, n ? UZ_SHARD_MODEL : UZ_SHARD_MODEL_Z3, limits, &source->states, err));
    if (source->info.is_universal)
        return open_universal(source, limits, err);
    UZ_TRY(open_shard(source, UZ_SHARD_OPTIM, limits, &source->optim, err));
    return UZ_OK;
}

/* ---- The optimizer ---- */

static int fail_optim(const struct uz_reshard_source *source, int status, const char *what,
                      struct uz_error *err)
{
    return uz_fail_at(err, status, uz_torch_path(source->optim), UZ_NO_OFFSET, "%s", what);
}

/* A universal checkpoint from stages 1 and 2 has param_groups alone; from stage 3 the whole. */
static int find_universal_optimizer(struct uz_reshard_source *source, struct uz_error *err)
{
    const struct uz_node *root = uz_torch_root(source->optim);
    const struct uz_node *whole = uz_node_get(root, "optimizer_state_dict");
    source->optimizer = root;
    source->base = uz_node_get(whole, "param_groups") ? whole : root;
    const struct uz_seq *groups = uz_node_list(uz_node_get(source->base, "param_groups"));
    const struct uz_dict *first = groups && groups->n ? uz_node_dict(groups->items[0]) : NULL;
    if (!first || first->n < 2) /* made of an elastic checkpoint, they have `params` alone */
        return fail_optim(source, UZ_UNSUPPORTED,
                          "holds no param_groups with the optimizer's hyperparameters, without "
                          "which no shards can be written",
                          err);
    return UZ_OK;
}

static int find_optimizer(struct uz_reshard_source *source, struct uz_error *err)
{
    source->stage = source->info.stage;
    if (source->info.is_universal)
        return find_universal_optimizer(source, err);
    source->optimizer = uz_node_get(uz_torch_root(source->optim), "optimizer_state_dict");
    source->bf16_optimizer = source->stage != 3 && !uz_node_get(source->optimizer, "zero_stage");
    source->base = uz_node_get(source->optimizer, source->stage == 3 ? "optimizer_state_dict"
                                                                     : "base_optimizer_state");
    source->elastic = uz_node_list(source->base) != NULL;
    if (source->elastic)
        return fail_optim(source, UZ_UNSUPPORTED,
                          "is an elastic checkpoint, which keeps no param_groups: the optimizer's "
                          "hyperparameters, without which no shards can be written, are not in it. "
                          "unzero universal makes a checkpoint of it that loads on any world, with "
                          "the hyperparameters of the engine",
                          err);
    if (!uz_node_list(uz_node_get(source->base, "param_groups")))
        return fail_optim(source, UZ_UNSUPPORTED, "holds no param_groups of the optimizer", err);
    return UZ_OK;
}

/* The names of optimizer files say it: bf16_zero_pp_rank_...; else the configuration does. */
static bool is_bf16(const struct uz_reshard_source *source)
{
    if (source->info.is_universal)
        return uz_config_has_bf16(uz_node_get(uz_torch_root(source->states), "ds_config"));
    return !strncmp(uz_path_name(uz_torch_path(source->optim)), "bf16_", strlen("bf16_"));
}

/* ---- Parameters ---- */

/* The parameters of one entry of param_shapes, which has no names of its own order but the
 * buffer's: round robin is undone. */
struct shapes {
    const struct uz_dict *dict;
    bool round_robin;
    uint64_t world;
};

static int add_param(struct uz_reshard_source *source, const struct uz_node *name, size_t *cap,
                     struct uz_error *err)
{
    uint32_t tensor;
    if (!name || name->kind != UZ_NODE_STR ||
        !uz_model_find(&source->model, name->u.text.data, name->u.text.nbytes, &tensor))
        return refuse(source, "lists a parameter in param_shapes that is none of the model", err);
    const struct uz_tensor *t = &source->model.tensors[tensor];
    struct uz_zero_param *param;
    if (t->numel == 0)
        return UZ_OK; /* DeepSpeed 0.19 keeps these out of the groups */
    UZ_TRY(UZ_APPEND(source->params, source->n_params, *cap, &param, err));
    *param = (struct uz_zero_param){
        .name = t->name,
        .tensor = tensor,
        .numel = t->numel,
        .ndim = t->ndim,
        .shape = t->shape,
        .lp_size = uz_dtype_size(t->lp_dtype != UZ_DTYPE_INVALID ? t->lp_dtype : t->dtype),
    };
    return UZ_OK;
}

static int add_params(struct uz_reshard_source *source, const struct shapes *shapes, size_t *cap,
                      struct uz_error *err)
{
    uint64_t *module_index = NULL, *place = NULL;
    size_t n = shapes->dict->n;
    int rc = uz_alloc(&module_index, n, sizeof *module_index, err);
    if (rc == UZ_OK)
        rc = uz_alloc(&place, n, sizeof *place, err);
    if (rc == UZ_OK && shapes->round_robin)
        uz_round_robin_order(n, shapes->world, module_index);
    for (size_t i = 0; i < n && rc == UZ_OK; i++)
        place[shapes->round_robin ? module_index[i] : i] = i;
    for (size_t i = 0; i < n && rc == UZ_OK; i++)
        rc = add_param(source, shapes->dict->pairs[place[i]].key, cap, err);
    free(module_index);
    free(place);
    return rc;
}

size_t uz_reshard_n_sub_groups(const struct uz_node *group)
{
    const struct uz_seq *params = uz_node_list(uz_node_get_small(group, "params"));
    int64_t first, id;
    if (!params || params->n == 0 || !uz_node_int(params->items[0], &first))
        return 0;
    size_t n = 1;
    while (n < params->n && uz_node_int(params->items[n], &id) && id != first)
        n++;
    return n;
}

/* Under stage 3 an optimizer group has the sub-groups that its `params` number, else one entry. */
static int add_group(struct uz_reshard_source *source, size_t group, const struct uz_seq *list,
                     size_t *next, bool round_robin, size_t *cap, struct uz_error *err)
{
    const struct uz_seq *groups = uz_node_list(uz_node_get(source->base, "param_groups"));
    const struct uz_seq *params = uz_node_list(uz_node_get_small(groups->items[group], "params"));
    size_t n_entries = source->stage == 3 ? uz_reshard_n_sub_groups(groups->items[group]) : 1;
    source->groups[group].first = source->n_params;
    source->state_ids[group] = uz_state_id(source->base, group, 0);
    if (source->state_ids[group] < 0)
        source->state_ids[group] = (int64_t)*next;
    for (size_t i = 0; i < n_entries; i++, ++*next) {
        int64_t id = (int64_t)*next;
        if (source->stage == 3 && (!uz_node_int(params->items[i], &id) || id != (int64_t)*next))
            return refuse(source, "has sub-groups that do not follow their parameter groups", err);
        if (*next >= list->n || !uz_node_dict(list->items[*next]))
            return refuse(source, "has more parameter groups than param_shapes lists", err);
        const struct shapes shapes = {uz_node_dict(list->items[*next]), round_robin,
                                      source->info.dp_world_size};
        UZ_TRY(add_params(source, &shapes, cap, err));
    }
    source->groups[group].n = source->n_params - source->groups[group].first;
    return UZ_OK;
}

/* True if the source's buffers are in the order of buckets: its own configuration says so. */
static bool has_round_robin(const struct uz_reshard_source *source)
{
    const struct uz_node *config = uz_node_get(uz_torch_root(source->states), "ds_config");
    const struct uz_node *value =
        uz_node_get(uz_node_get(config, "zero_optimization"), "round_robin_gradients");
    int64_t on;
    return source->stage != 3 && !source->bf16_optimizer && uz_node_int(value, &on) && on;
}

/*
 * What a rank's mapping lists, it lists in the module's order, round robin or not: so the first
 * rank's must agree with the order that was found.
 */
static int check_order(const struct uz_reshard_source *source, size_t group, struct uz_error *err)
{
    const struct uz_seq *mappings =
        uz_node_list(uz_node_get(source->optimizer, "param_slice_mappings"));
    const struct uz_dict *mapping =
        mappings && group < mappings->n ? uz_node_dict(mappings->items[group]) : NULL;
    const struct uz_zero_group *g = &source->groups[group];
    size_t next = 0;
    for (size_t p = 0; mapping && p < g->n && next < mapping->n; p++)
        next += uz_node_is_str(mapping->pairs[next].key, source->params[g->first + p].name);
    if (mapping && next < mapping->n && mapping->n <= g->n)
        return fail_optim(source, UZ_UNSUPPORTED,
                          "has a param_slice_mappings whose order is not the one that "
                          "param_shapes and round_robin_gradients of ds_config give: the order of "
                          "the module's parameters is in doubt",
                          err);
    return UZ_OK;
}

static int find_groups(struct uz_reshard_source *source, struct uz_error *err)
{
    const struct uz_seq *groups = uz_node_list(uz_node_get(source->base, "param_groups"));
    const struct uz_seq *list =
        uz_node_list(uz_node_get(uz_torch_root(source->states), "param_shapes"));
    size_t next = 0, cap = 0;
    if (!list)
        return refuse(source, "has no list param_shapes in its model states", err);
    source->n_groups = groups->n;
    UZ_TRY(uz_alloc(&source->groups, groups->n, sizeof *source->groups, err));
    UZ_TRY(uz_alloc(&source->state_ids, groups->n, sizeof *source->state_ids, err));
    for (size_t g = 0; g < groups->n; g++)
        UZ_TRY(add_group(source, g, list, &next, has_round_robin(source), &cap, err));
    if (next != list->n)
        return refuse(source, "lists more groups in param_shapes than the optimizer has", err);
    for (size_t g = 0; g < groups->n; g++)
        UZ_TRY(check_order(source, g, err));
    return UZ_OK;
}

static int index_aliases(struct uz_reshard_source *source, struct uz_error *err)
{
    source->aliases = uz_map_new();
    if (!source->aliases)
        return uz_fail_nomem(err, sizeof *source);
    for (size_t i = 0; i < source->model.n_aliases; i++) {
        const char *name = source->model.aliases[i].name;
        UZ_TRY(uz_map_add(source->aliases, name, strlen(name), i, NULL, err));
    }
    return UZ_OK;
}

/* ---- States ---- */

static int index_states(struct uz_reshard_source *source, struct uz_error *err)
{
    const struct uz_model *model = &source->model;
    uint32_t *param_of;
    uint64_t n = (uint64_t)model->n_states * source->n_params;
    UZ_TRY(uz_alloc(&source->state_tensors, n, sizeof *source->state_tensors, err));
    memset(source->state_tensors, 0xff, (size_t)n * sizeof *source->state_tensors);
    UZ_TRY(uz_alloc(&param_of, model->n_tensors, sizeof *param_of, err));
    memset(param_of, 0xff, model->n_tensors * sizeof *param_of);
    for (size_t p = 0; p < source->n_params; p++)
        param_of[source->params[p].tensor] = (uint32_t)p;
    for (size_t i = 0; i < model->n_tensors; i++) {
        const struct uz_tensor *t = &model->tensors[i];
        if (t->role == UZ_ROLE_STATE && param_of[t->param] != UZ_NONE)
            source->state_tensors[t->state * source->n_params + param_of[t->param]] = (uint32_t)i;
    }
    free(param_of);
    return UZ_OK;
}

uint32_t uz_reshard_state_tensor(const struct uz_reshard_source *source, const char *name,
                                 size_t nbytes, size_t param)
{
    for (size_t s = 1; s < source->model.n_states; s++)
        if (strlen(source->model.states[s]) == nbytes &&
            !memcmp(source->model.states[s], name, nbytes))
            return source->state_tensors[s * source->n_params + param];
    return UZ_NONE;
}

const struct uz_node *uz_reshard_states_of(const struct uz_reshard_source *source, size_t group)
{
    return uz_states_of(source->base, source->state_ids[group]);
}

/* ---- */

static int read_model(struct uz_reshard_source *source, const char *checkpoint,
                      const struct uz_input_options *input, struct uz_notes *notes,
                      struct uz_error *err)
{
    struct uz_zero_options options = {.input = *input, .state = "all"};
    if (!options.input.threads)
        options.input.threads = uz_usable_processors();
    return uz_zero_read(checkpoint, &options, &source->model, &source->info, notes, err);
}

int uz_reshard_source_read(struct uz_reshard_source *source, const char *checkpoint,
                           const struct uz_input_options *input, struct uz_notes *notes,
                           struct uz_error *err)
{
    UZ_TRY(read_model(source, checkpoint, input, notes, err));
    UZ_TRY(find_files(source, checkpoint, input, err));
    UZ_TRY(refuse_layouts(source, err));
    UZ_TRY(open_files(source, &input->limits, err));
    UZ_TRY(find_optimizer(source, err));
    source->bf16 = is_bf16(source);
    UZ_TRY(find_groups(source, err));
    if (source->info.is_universal)
        UZ_TRY(uz_reshard_read_steps(source, &input->limits, err));
    UZ_TRY(index_aliases(source, err));
    return index_states(source, err);
}

void uz_reshard_source_free(struct uz_reshard_source *source)
{
    uz_torch_close(source->states);
    uz_torch_close(source->optim);
    uz_topology_free(&source->topology);
    uz_model_free(&source->model);
    uz_zero_info_free(&source->info);
    uz_map_free(source->aliases);
    free(source->params);
    free(source->groups);
    free(source->state_ids);
    free(source->steps);
    free(source->state_tensors);
    *source = (struct uz_reshard_source){0};
}
