/* SPDX-License-Identifier: Apache-2.0 */
/* From a directory to a finished model: the order of the steps. */
#include "zero/read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "zero/archive_root.h"
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
    const struct uz_metadata *metadata = &r->info->metadata;
    const struct uz_node *root = uz_torch_root(file);
    if (metadata->pp_degree > 1)
        return refuse(file, err, "pipeline parallelism is not supported yet");
    if (metadata->tp_degree > 1 || metadata->mp_world_size > 1)
        return refuse(file, err, "tensor parallelism is not supported yet");
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
 * itself; what DeepSpeed saved without any optimizer looks like it.
 */
static int tell_layout(struct uz_reading *r, const struct uz_torch_file *file, struct uz_error *err)
{
    const struct uz_node *root = uz_torch_root(file);
    size_t n_optim;
    if (r->layout != UZ_LAYOUT_STAGE12 || is_there(uz_node_get(root, "param_shapes")))
        return UZ_OK;
    uz_topology_shards(&r->topology, UZ_SHARD_OPTIM, &n_optim);
    if (n_optim > 0)
        return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(file), UZ_NO_OFFSET,
                          "has no 'param_shapes', as ZeRO stage 0 leaves them out, but there are "
                          "optimizer shards: files of different runs are mixed");
    r->layout = UZ_LAYOUT_STAGE0;
    return UZ_OK;
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
    };
    return uz_module_read(&module, err);
}

static int read_open_first(struct uz_reading *r, struct uz_torch_file *file, uint32_t file_index,
                           struct uz_error *err)
{
    const struct uz_node *root = uz_torch_root(file);
    UZ_TRY(uz_metadata_read(&r->info->metadata, file, err));
    UZ_TRY(refuse_by_model_states(r, file, err));
    UZ_TRY(tell_layout(r, file, err));
    r->on_nvme =
        uz_node_is_str(uz_node_get(zero_option(file, "offload_optimizer"), "device"), "nvme");
    int64_t configured;
    if (uz_node_int(zero_option(file, "stage"), &configured) && configured > 0 && configured <= 3)
        r->info->stage = (int)configured; /* files of the ranks tell better */
    if (r->layout == UZ_LAYOUT_STAGE12 || r->layout == UZ_LAYOUT_STAGE3) {
        int stage = r->layout == UZ_LAYOUT_STAGE3 ? 3 : 1;
        UZ_TRY(uz_params_read(&r->params, r->model, file, uz_node_get(root, "param_shapes"), err));
        UZ_TRY(uz_frozen_add(&r->frozen, file, file_index, stage, r->model, err));
    }
    UZ_TRY(read_module(r, file, file_index, err));
    UZ_TRY(uz_frozen_report_absent(file, r->model, r->notes, err));
    if (r->layout != UZ_LAYOUT_STAGE0)
        return UZ_OK;
    return uz_reading_join_stage0(r, file, file_index, err);
}

/* Opens the model states of rank 0, which tell what the checkpoint is about. */
static int read_first(struct uz_reading *r, const struct uz_shard_file *shard, struct uz_error *err)
{
    struct uz_torch_file *file;
    uint32_t file_index;
    char *path = uz_shard_path(&r->topology, shard);
    if (!path)
        return uz_fail_nomem(err, strlen(shard->name));
    int rc = uz_model_add_file(r->model, path, &file_index, err);
    if (rc == UZ_OK)
        rc = uz_torch_open(&file, path, &r->options->input.limits, err);
    free(path);
    UZ_TRY(rc);
    rc = read_open_first(r, file, file_index, err);
    uz_torch_close(file);
    return rc;
}

/* Copies of the model states in further folders must be of the same save. */
static int check_copy(const struct uz_reading *r, const struct uz_shard_file *copy,
                      struct uz_error *err)
{
    struct uz_torch_file *file;
    struct uz_metadata metadata;
    char *path = uz_shard_path(&r->topology, copy);
    if (!path)
        return uz_fail_nomem(err, strlen(copy->name));
    int rc = uz_torch_open(&file, path, &r->options->input.limits, err);
    if (rc == UZ_OK) {
        rc = uz_metadata_read(&metadata, file, err);
        uz_torch_close(file);
    }
    if (rc == UZ_OK)
        rc = uz_metadata_agree(&r->info->metadata, r->model->files[0], &metadata, path, err);
    free(path);
    return rc;
}

/* The model states that are read first; their kind tells ZeRO 3 from the other stages. */
static int find_first(struct uz_reading *r, const struct uz_shard_file **first,
                      struct uz_error *err)
{
    size_t n12, n3;
    const struct uz_shard_file *model12 = uz_topology_shards(&r->topology, UZ_SHARD_MODEL, &n12);
    const struct uz_shard_file *model3 = uz_topology_shards(&r->topology, UZ_SHARD_MODEL_Z3, &n3);
    if (model12 && model3)
        return uz_fail_at(err, UZ_MISMATCH, r->topology.dir, UZ_NO_OFFSET,
                          "holds model states of ZeRO-3 (%s) and of another stage (%s)",
                          model3->name, model12->name);
    if (!model12 && !model3)
        return uz_fail_at(
            err, UZ_MISMATCH, r->topology.dir, UZ_NO_OFFSET,
            "Expected mp_rank_00_model_states.pt or '*_model_states.pt' of every rank "
            "under %s but found none",
            r->topology.dir);
    *first = model3 ? model3 : model12;
    r->layout = model3 ? UZ_LAYOUT_STAGE3 : UZ_LAYOUT_STAGE12;
    if (r->options->input.source != UZ_SOURCE_LP)
        return UZ_OK;
    if (model3)
        return uz_fail_at(err, UZ_UNSUPPORTED, r->topology.dir, UZ_NO_OFFSET,
                          "--source lp: the model states of ZeRO-3 hold no weights, only "
                          "placeholders (%s)",
                          model3->name);
    r->layout = UZ_LAYOUT_LP;
    return UZ_OK;
}

void uz_reading_note_state(struct uz_reading *r, const char *name, size_t nbytes)
{
    char shown[128];
    size_t used = strlen(r->seen_states);
    uz_printable(shown, sizeof shown, name, nbytes);
    const char *at = strstr(r->seen_states, shown);
    size_t n = strlen(shown);
    for (; at; at = strstr(at + n, shown)) /* whole names only: exp_avg is a part of exp_avg_sq */
        if ((at == r->seen_states || at[-1] == ' ') && (at[n] == ',' || at[n] == '\0'))
            return;
    snprintf(r->seen_states + used, sizeof r->seen_states - used, "%s%s", used ? ", " : "", shown);
}

/* A state that was asked for must be there; if not, the message lists those that are. */
static int check_state(struct uz_reading *r, struct uz_error *err)
{
    const char *wanted = r->options->state;
    if (!wanted || r->model->n_states > 1)
        return UZ_OK;
    if (!*r->seen_states && !strcmp(wanted, "all"))
        return uz_warn_of_data(
            r->notes, err,
            "there are no optimizer states in this checkpoint: only weights are written");
    if (!*r->seen_states)
        return uz_fail(err, UZ_ARG,
                       "there are no optimizer states in this checkpoint: it was saved before the "
                       "first step, or by an optimizer without any");
    return uz_fail(err, UZ_ARG, "the optimizer keeps no state '%s'; there are: %s", wanted,
                   r->seen_states);
}

static int read_checkpoint(struct uz_reading *r, const char *path, struct uz_error *err)
{
    const struct uz_shard_file *first;
    struct uz_topology_request request = {
        .path = path,
        .tag = r->options->input.tag,
        .input_dirs = r->options->input.input_dirs,
        .n_input_dirs = r->options->input.n_input_dirs,
        .max_shards = r->options->input.limits.max_shards,
    };
    UZ_TRY(uz_topology_open(&r->topology, &request, err));
    UZ_TRY(
        uz_topology_refuse_by_names(&r->topology, r->options->input.source == UZ_SOURCE_LP, err));
    UZ_TRY(find_first(r, &first, err));
    UZ_TRY(read_first(r, first, err));
    UZ_TRY(uz_topology_check_one_mp_rank(&r->topology, err));
    for (size_t i = 0; i < r->topology.n_copies; i++)
        UZ_TRY(check_copy(r, &r->topology.copies[i], err));
    if (r->layout == UZ_LAYOUT_STAGE12 || r->layout == UZ_LAYOUT_STAGE3) {
        UZ_TRY(uz_reading_join_ranks(r, err));
    } else {
        UZ_TRY(uz_archive_root_check(r->info->metadata.archive_root, r->model->files[0], r->notes,
                                     err));
        r->world = r->info->metadata.dp_world_size ? r->info->metadata.dp_world_size : 1;
    }
    UZ_TRY(check_state(r, err));
    UZ_TRY(uz_model_finish(r->model, err));
    r->info->dp_world_size = r->world;
    r->info->tag = r->topology.tag;
    r->topology.tag = NULL;
    return UZ_OK;
}

int uz_zero_read(const char *path, const struct uz_zero_options *options, struct uz_model *model,
                 struct uz_zero_info *info, struct uz_notes *notes, struct uz_error *err)
{
    struct uz_reading r = {.options = options, .model = model, .info = info, .notes = notes};
    *info = (struct uz_zero_info){0};
    UZ_TRY(uz_model_init(model, &options->input.limits, err));
    int rc = read_checkpoint(&r, path, err);
    uz_reading_free_ranks(&r);
    uz_params_free(&r.params);
    uz_topology_free(&r.topology);
    if (rc < 0)
        uz_model_free(model);
    return rc;
}

void uz_zero_info_free(struct uz_zero_info *info)
{
    free(info->tag);
    *info = (struct uz_zero_info){0};
}
