/* SPDX-License-Identifier: Apache-2.0 */
/* One model-parallel rank: what its first model states tell. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "zero/mapped_shapes.h"
#include "zero/masters.h"
#include "zero/pipe_layers.h"
#include "zero/reading.h"

static int refuse(const struct uz_torch_file *file, struct uz_error *err, const char *message)
{
    return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(file), UZ_NO_OFFSET, "%s", message);
}

/* ds_config["zero_optimization"][key]; NULL if absent. */
static const struct uz_node *zero_option(const struct uz_torch_file *file, const char *key)
{
    const struct uz_node *config = uz_node_get(uz_torch_root(file), "ds_config");
    return uz_node_get(uz_node_get(config, "zero_optimization"), key);
}

static bool option_is_set(const struct uz_torch_file *file, const char *key)
{
    int64_t value = 0;
    return uz_node_int(zero_option(file, key), &value) && value > 0;
}

/* Layouts that the first model-states file gives away. */
static int refuse_by_model_states(const struct uz_reading *r, const struct uz_torch_file *file,
                                  struct uz_error *err)
{
    const struct uz_node *root = uz_torch_root(file);
    if (r->layout == UZ_LAYOUT_LP)
        return UZ_OK;
    if (option_is_set(file, "mics_shard_size"))
        return refuse(file, err,
                      "MiCS partitions (zero_optimization.mics_shard_size) are not supported: "
                      "parameters are cut over a part of the ranks");
    if (option_is_set(file, "zero_quantized_nontrainable_weights") &&
        uz_node_dict(uz_node_get(root, "frozen_param_fragments")))
        return refuse(file, err,
                      "quantized frozen parameters (zero_quantized_nontrainable_weights) are not "
                      "supported: their values are codes without the scales");
    if (uz_node_dict(zero_option(file, "zenflow")))
        return refuse(file, err,
                      "ZenFlow (zero_optimization.zenflow) is not supported: it updates masters "
                      "and low-precision weights at different times; the 16-bit weights of ZeRO 1 "
                      "and 2 can be had with --source lp");
    return UZ_OK;
}

static bool is_there(const struct uz_node *node)
{
    return node && !uz_node_is_none(node);
}

/*
 * Model states of ZeRO 0, 1 and 2 have one name. Stage 0 lists no shapes and keeps the optimizer
 * itself, unless it was a pipeline's BF16_Optimizer, which has partitions all the same; what
 * DeepSpeed saved without any optimizer looks like stage 0, too.
 */
static void tell_layout(struct uz_reading *r, const struct uz_torch_file *file)
{
    size_t n_optim;
    if (r->layout != UZ_LAYOUT_STAGE12 ||
        is_there(uz_node_get(uz_torch_root(file), "param_shapes")))
        return;
    uz_topology_shards(r->topology, UZ_SHARD_OPTIM, &n_optim);
    if (n_optim == 0)
        r->layout = UZ_LAYOUT_STAGE0;
}

/* param_shapes; made of other metadata where there is none. */
static int find_shapes(struct uz_reading *r, struct uz_torch_file *file,
                       const struct uz_node **shapes, struct uz_error *err)
{
    const struct uz_mapped_shapes request = {
        .topology = r->topology,
        .mp = r->mp,
        .limits = &r->options->input.limits,
        .arena = r->model->arena,
    };
    *shapes = uz_node_get(uz_torch_root(file), "param_shapes");
    if (r->layout != UZ_LAYOUT_STAGE12 || is_there(*shapes))
        return UZ_OK;
    if (r->experts.n_layers > 0)
        return refuse(file, err,
                      "experts together with BF16_Optimizer without ZeRO (stage 0) are not "
                      "supported: the model states have no 'param_shapes'");
    if (!uz_has_pipe_layers(r->topology))
        return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(file), UZ_NO_OFFSET,
                          "has no 'param_shapes', as ZeRO stage 0 leaves them out, but there are "
                          "optimizer shards: files of different runs are mixed");
    return uz_mapped_shapes_read(&request, shapes, err);
}

/* A pipeline module's weights are in layer files; here only the names of its buffers stand. */
static int note_buffers(struct uz_reading *r, const struct uz_torch_file *file,
                        struct uz_error *err)
{
    const struct uz_seq *list = uz_node_list(uz_node_get(uz_torch_root(file), "buffer_names"));
    if (!list)
        return UZ_OK;
    UZ_TRY(uz_alloc(&r->buffers, list->n, sizeof *r->buffers, err));
    for (size_t i = 0; i < list->n; i++) {
        const struct uz_node *name = list->items[i];
        if (name->kind != UZ_NODE_STR)
            return uz_fail_at(err, UZ_CORRUPT, uz_torch_path(file), UZ_NO_OFFSET,
                              "'buffer_names' holds something that is no name");
        UZ_TRY(uz_arena_strndup(r->model->arena, name->u.text.data, name->u.text.nbytes,
                                &r->buffers[i], err));
        r->n_buffers++;
    }
    return UZ_OK;
}

static int read_params(struct uz_reading *r, struct uz_torch_file *file, struct uz_model *model,
                       struct uz_error *err)
{
    size_t n_optim;
    uz_topology_shards_of(r->topology, UZ_SHARD_OPTIM, r->mp, &n_optim);
    struct uz_params_source source = {
        .file = file,
        .experts = &r->experts,
        .world = r->info->metadata.dp_world_size ? r->info->metadata.dp_world_size : n_optim,
    };
    UZ_TRY(find_shapes(r, file, &source.param_shapes, err));
    int rc = uz_params_read(&r->params, model, &source, err);
    return rc < 0 ? uz_error_in_file(err, rc, uz_torch_path(file)) : rc;
}

/* Which names and shapes a stage trains: layer files tell less of ties than these. */
static int read_shapes(struct uz_reading *r, struct uz_torch_file *file, struct uz_error *err)
{
    const struct uz_node *shapes = uz_node_get(uz_torch_root(file), "param_shapes");
    UZ_TRY(uz_model_init(&r->shapes, &r->options->input.limits, err));
    r->has_shapes = true;
    return is_there(shapes) ? read_params(r, file, &r->shapes, err) : UZ_OK;
}

static int read_module(struct uz_reading *r, struct uz_torch_file *file, uint32_t file_index,
                       struct uz_error *err)
{
    static const enum uz_module_kind kinds[] = {
        [UZ_LAYOUT_STAGE0] = UZ_MODULE_MASTERS_UNKNOWN,
        [UZ_LAYOUT_STAGE12] = UZ_MODULE_WHOLE,
        [UZ_LAYOUT_STAGE3] = UZ_MODULE_PLACEHOLDERS,
        [UZ_LAYOUT_LP] = UZ_MODULE_ALONE,
    };
    struct uz_module_reader module = {
        .file = file,
        .file_index = file_index,
        .kind = kinds[r->layout],
        .model = r->model,
        .notes = r->notes,
        .experts = &r->experts,
        .ties_of = r->ties_of,
    };
    return uz_module_read(&module, err);
}

/*
 * Experts of several tensor ranks. AutoEP tells that it spread them over these, but DeepSpeed's own
 * converter refuses that, too; whether native ones are copies or cut is recorded nowhere. Stages of
 * a pipeline have experts of their own, in files of their own.
 */
static int refuse_experts(const struct uz_reading *r, const struct uz_torch_file *file,
                          struct uz_error *err)
{
    size_t n;
    if (!r->is_one_of_several || r->info->metadata.tp_degree == 1)
        return UZ_OK;
    if (uz_node_get(uz_torch_root(file), "folding"))
        return refuse(file, err, "AutoEP folded with tensor parallelism is not supported");
    if (r->experts.n_layers > 0 || uz_topology_shards(r->topology, UZ_SHARD_EXPERT, &n))
        return refuse(file, err,
                      "experts (MoE) together with tensor parallelism are not supported: the "
                      "files do not tell how tensor ranks share them");
    return UZ_OK;
}

static int read_experts(struct uz_reading *r, struct uz_torch_file *file, struct uz_error *err)
{
    struct uz_experts_request request = {
        .topology = r->topology,
        .mp = r->mp,
        .file = file,
        .model = r->model,
        .limits = &r->options->input.limits,
        .partitioned = r->layout == UZ_LAYOUT_STAGE3,
        .flat_groups = r->layout == UZ_LAYOUT_STAGE12,
    };
    UZ_TRY(refuse_experts(r, file, err));
    UZ_TRY(uz_experts_read(&r->experts, &request, err));
    UZ_TRY(refuse_experts(r, file, err)); /* ZeRO-3 has no files of experts */
    r->info->has_experts = r->experts.n_layers > 0;
    return UZ_OK;
}

static int add_experts(struct uz_reading *r, struct uz_torch_file *file, struct uz_error *err)
{
    enum uz_expert_use use = r->layout == UZ_LAYOUT_LP       ? UZ_EXPERTS_ALONE
                             : r->layout == UZ_LAYOUT_STAGE0 ? UZ_EXPERTS_MASTERS_UNKNOWN
                                                             : UZ_EXPERTS_LP;
    int rc = uz_experts_add(&r->experts, file, use, r->model, err);
    return rc < 0 ? uz_error_in_file(err, rc, uz_torch_path(file)) : rc;
}

/* A pipeline in stage 0: weights are in layer files; masters and states of them, if any, are here.
 */
static int read_pipeline_stage0(struct uz_reading *r, struct uz_torch_file *file,
                                uint32_t file_index, struct uz_error *err)
{
    struct uz_masters masters;
    int rc = uz_masters_read(&masters, file, err);
    bool needed = masters.form != UZ_MASTERS_NONE || (r->options->state && masters.n_groups > 0);
    uz_masters_free(&masters);
    if (rc < 0 || !needed)
        return rc;
    UZ_TRY(uz_reading_add_stage0_layers(r, err));
    return uz_reading_join_stage0(r, file, file_index, err);
}

/*
 * Tensor ranks are joined by the names of param_shapes. Without them a tied layer would go by the
 * name of its file, under which no rule is recorded.
 */
static int check_tied_names(struct uz_reading *r, const struct uz_torch_file *file,
                            struct uz_error *err)
{
    if (!r->is_pipeline || r->layout == UZ_LAYOUT_STAGE12 ||
        uz_grid_layer_ranks(r->topology) == 1 ||
        is_there(uz_node_get(uz_torch_root(file), "param_shapes")))
        return UZ_OK;
    return uz_reading_read_stage0_layers(r, err);
}

static int read_open_first(struct uz_reading *r, struct uz_torch_file *file, uint32_t file_index,
                           struct uz_error *err)
{
    UZ_TRY(uz_metadata_read(&r->info->metadata, file, err));
    UZ_TRY(refuse_by_model_states(r, file, err));
    tell_layout(r, file);
    UZ_TRY(read_experts(r, file, err));
    r->on_nvme =
        uz_node_is_str(uz_node_get(zero_option(file, "offload_optimizer"), "device"), "nvme");
    int64_t configured;
    if (uz_node_int(zero_option(file, "stage"), &configured) && configured > 0 && configured <= 3)
        r->info->stage = (int)configured; /* files of the ranks tell better */
    if (r->layout == UZ_LAYOUT_STAGE12 || r->layout == UZ_LAYOUT_STAGE3) {
        int stage = r->layout == UZ_LAYOUT_STAGE3 ? 3 : 1;
        UZ_TRY(read_params(r, file, r->model, err));
        UZ_TRY(uz_frozen_add(&r->frozen, file, file_index, stage, &r->experts, r->model, err));
    }
    r->is_pipeline = uz_node_is_none(uz_node_get(uz_torch_root(file), "module")) &&
                     uz_has_pipe_layers(r->topology);
    if (r->is_pipeline && r->experts.n_layers > 0)
        return refuse(file, err, "experts in a pipeline module are not supported");
    UZ_TRY(check_tied_names(r, file, err));
    if (r->is_pipeline && r->layout == UZ_LAYOUT_LP)
        UZ_TRY(read_shapes(r, file, err));
    if (r->is_pipeline && r->layout == UZ_LAYOUT_STAGE0)
        UZ_TRY(read_pipeline_stage0(r, file, file_index, err));
    if (r->is_pipeline)
        return note_buffers(r, file, err);
    UZ_TRY(read_module(r, file, file_index, err));
    UZ_TRY(add_experts(r, file, err));
    UZ_TRY(uz_frozen_report_absent(file, &r->experts, r->model, r->notes, err));
    if (r->layout != UZ_LAYOUT_STAGE0)
        return UZ_OK;
    return uz_reading_join_stage0(r, file, file_index, err);
}

int uz_reading_open(struct uz_reading *r, struct uz_error *err)
{
    struct uz_torch_file *file;
    uint32_t file_index;
    bool was_seen;
    UZ_TRY(uz_reading_need_seen(r, err));
    char *path = uz_shard_path(r->topology, r->first);
    if (!path)
        return uz_fail_nomem(err, strlen(r->first->name));
    int rc = uz_model_add_file(r->model, path, &file_index, err);
    if (rc == UZ_OK)
        rc = uz_torch_open_unseen(&file, path, &r->options->input.limits, &r->seen, &was_seen, err);
    free(path);
    UZ_TRY(rc);
    rc = read_open_first(r, file, file_index, err);
    if (rc == UZ_OK && r->frozen.n == 0)
        uz_torch_saw(file, &r->seen); /* the other ranks' are mostly copies */
    uz_torch_close(file);
    return rc;
}
