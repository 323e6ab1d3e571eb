/* SPDX-License-Identifier: Apache-2.0 */
/* From a directory to a finished model: the order of the steps. */
#include "zero/read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/parallel.h"
#include "base/utf8.h"
#include "zero/frozen.h"
#include "zero/join.h"
#include "zero/module.h"
#include "zero/optim_shard.h"
#include "zero/params.h"
#include "zero/shard_name.h"
#include "zero/topology.h"

/* Everything that lives while one checkpoint is read. */
struct reading {
    const struct uz_zero_options *options;
    struct uz_topology topology;
    struct uz_model *model;
    struct uz_zero_info *info;
    struct uz_notes *notes;
    struct uz_params params;
    struct uz_frozen frozen;
    uint64_t world;
    struct uz_optim_shard *shards; /* of each rank */
    uint32_t *optim_files;         /* their files in the model */
    struct uz_metadata *metadata;  /* ZeRO-3: of each rank's model states */
    uint32_t *model_files;
    struct uz_flat_view **frozen_slices;
};

static int refuse(const struct uz_torch_file *file, struct uz_error *err, const char *message)
{
    return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(file), UZ_NO_OFFSET, "%s", message);
}

/* ds_config["zero_optimization"][key] as a number; 0 if absent. */
static int64_t zero_option(const struct uz_torch_file *file, const char *key)
{
    int64_t value = 0;
    const struct uz_node *config = uz_node_get(uz_torch_root(file), "ds_config");
    uz_node_int(uz_node_get(uz_node_get(config, "zero_optimization"), key), &value);
    return value;
}

/* Layouts that the first model-states file gives away. */
static int refuse_by_model_states(const struct reading *r, const struct uz_torch_file *file,
                                  struct uz_error *err)
{
    const struct uz_metadata *metadata = &r->info->metadata;
    const struct uz_node *root = uz_torch_root(file);
    if (metadata->pp_degree > 1)
        return refuse(file, err, "pipeline parallelism is not supported yet");
    if (metadata->tp_degree > 1 || metadata->mp_world_size > 1)
        return refuse(file, err, "tensor parallelism is not supported yet");
    if (uz_node_is_none(uz_node_get(root, "param_shapes")) ||
        (!uz_node_is_none(uz_node_get(root, "optimizer")) && uz_node_get(root, "optimizer")))
        return refuse(file, err,
                      "was written by ZeRO stage 0 (no partitions), which is not supported yet");
    if (zero_option(file, "mics_shard_size") > 0)
        return refuse(file, err,
                      "MiCS partitions (zero_optimization.mics_shard_size) are not "
                      "supported yet");
    if (zero_option(file, "zero_quantized_nontrainable_weights") > 0 &&
        uz_node_dict(uz_node_get(root, "frozen_param_fragments")))
        return refuse(file, err,
                      "quantized frozen parameters "
                      "(zero_quantized_nontrainable_weights) are not supported");
    return UZ_OK;
}

/* The file's stem before ".pt". */
static bool root_fits_name(const char *archive_root, const char *path)
{
    const char *name = uz_path_name(path);
    size_t n = strlen(archive_root);
    return !strncmp(name, archive_root, n) && !strncmp(name + n, ".pt", 3);
}

/* True if the archive was saved under the name of another rank's shard of the same kind. */
static bool names_other_rank(const char *archive_root, const char *path)
{
    char name[300];
    struct uz_shard_file was, is;
    snprintf(name, sizeof name, "%s.pt", archive_root);
    return uz_parse_shard_name(name, &was) && uz_parse_shard_name(uz_path_name(path), &is) &&
           was.kind == is.kind && (was.dp != is.dp || was.mp != is.mp);
}

/* PyTorch names the root "archive" where the path has characters beyond ASCII. */
static bool is_ascii_path(const char *path)
{
    char *real = realpath(path, NULL);
    const char *text = real ? real : path;
    size_t n = strlen(text);
    bool ascii = uz_ascii_prefix((const unsigned char *)text, n) == n;
    free(real);
    return ascii;
}

static int check_archive_root(const struct reading *r, const char *archive_root, const char *path,
                              struct uz_error *err)
{
    if (!*archive_root || root_fits_name(archive_root, path))
        return UZ_OK;
    if (!strcmp(archive_root, "archive") && !is_ascii_path(path))
        return UZ_OK;
    if (names_other_rank(archive_root, path))
        return uz_fail_at(err, UZ_MISMATCH, path, UZ_NO_OFFSET,
                          "was saved as %s.pt, the shard of another rank: it was swapped or copied "
                          "under a wrong name",
                          archive_root);
    return uz_warn(r->notes, err,
                   "%s was saved under the name %s: was it renamed, or taken from elsewhere?", path,
                   archive_root);
}

static int read_open_first(struct reading *r, struct uz_torch_file *file, uint32_t file_index,
                           int stage, struct uz_error *err)
{
    const struct uz_node *root = uz_torch_root(file);
    UZ_TRY(uz_metadata_read(&r->info->metadata, file, err));
    UZ_TRY(refuse_by_model_states(r, file, err));
    UZ_TRY(uz_params_read(&r->params, r->model, file, uz_node_get(root, "param_shapes"), err));
    UZ_TRY(uz_frozen_add(&r->frozen, file, file_index, stage, r->model, err));
    struct uz_module_reader module = {
        .file = file,
        .file_index = file_index,
        .stage = stage,
        .model = r->model,
        .notes = r->notes,
    };
    UZ_TRY(uz_module_read(&module, err));
    return uz_frozen_report_absent(file, r->model, r->notes, err);
}

/* Opens the model states of rank 0, which tell what the checkpoint is about. */
static int read_first(struct reading *r, const struct uz_shard_file *shard, int stage,
                      struct uz_error *err)
{
    struct uz_torch_file *file;
    uint32_t file_index;
    char *path = uz_shard_path(&r->topology, shard);
    if (!path)
        return uz_fail_nomem(err, strlen(shard->name));
    int rc = uz_model_add_file(r->model, path, &file_index, err);
    if (rc == UZ_OK)
        rc = uz_torch_open(&file, path, &r->options->limits, err);
    free(path);
    UZ_TRY(rc);
    rc = read_open_first(r, file, file_index, stage, err);
    uz_torch_close(file);
    return rc;
}

/* The world size: recorded, or for files without a record the number of shards. */
static int check_world(struct reading *r, int stage, struct uz_error *err)
{
    size_t n_optim;
    uz_topology_shards(&r->topology, UZ_SHARD_OPTIM, &n_optim);
    r->world = r->info->metadata.dp_world_size ? r->info->metadata.dp_world_size : n_optim;
    UZ_TRY(uz_topology_check_ranks(&r->topology, UZ_SHARD_OPTIM, r->world ? r->world : 1,
                                   "*_optim_states.pt", err));
    if (stage == 3)
        UZ_TRY(uz_topology_check_ranks(&r->topology, UZ_SHARD_MODEL_Z3, r->world,
                                       "*_model_states.pt", err));
    return UZ_OK;
}

/* Adds the files of a kind, in the order of ranks, to the model. */
static int add_files(struct reading *r, enum uz_shard_kind kind, uint32_t **files,
                     struct uz_error *err)
{
    size_t n;
    const struct uz_shard_file *shards = uz_topology_shards(&r->topology, kind, &n);
    UZ_TRY(uz_alloc(files, r->world, sizeof **files, err));
    for (size_t i = 0; i < n; i++) {
        char *path = uz_shard_path(&r->topology, &shards[i]);
        if (!path)
            return uz_fail_nomem(err, strlen(shards[i].name));
        int rc = uz_model_add_file(r->model, path, &(*files)[i], err);
        free(path);
        UZ_TRY(rc);
    }
    return UZ_OK;
}

/* One rank's ZeRO-3 model states: metadata and slices of frozen parameters. */
static int read_model_shard(struct reading *r, uint64_t rank, struct uz_error *err)
{
    struct uz_torch_file *file;
    const char *path = r->model->files[r->model_files[rank]];
    UZ_TRY(uz_alloc(&r->frozen_slices[rank], r->frozen.n, sizeof **r->frozen_slices, err));
    UZ_TRY(uz_torch_open(&file, path, &r->options->limits, err));
    int rc = uz_metadata_read(&r->metadata[rank], file, err);
    if (rc == UZ_OK)
        rc = uz_metadata_agree(&r->info->metadata, r->model->files[r->model_files[0]],
                               &r->metadata[rank], path, err);
    if (rc == UZ_OK)
        rc = uz_frozen_read_slices(&r->frozen, file, r->model, r->world, r->frozen_slices[rank],
                                   err);
    uz_torch_close(file);
    return rc;
}

/* Job 2 * rank reads that rank's optimizer file, job 2 * rank + 1 its ZeRO-3 model states. */
static int read_job(void *cookie, uint64_t job, unsigned worker, struct uz_error *err)
{
    struct reading *r = cookie;
    uint64_t rank = job / 2;
    (void)worker;
    if (job % 2 == 0)
        return uz_optim_shard_read(&r->shards[rank], r->model->files[r->optim_files[rank]], rank,
                                   &r->params, r->model, &r->options->limits, err);
    return r->model_files ? read_model_shard(r, rank, err) : UZ_OK;
}

static int read_ranks(struct reading *r, int stage, struct uz_error *err)
{
    UZ_TRY(uz_alloc(&r->shards, r->world, sizeof *r->shards, err));
    UZ_TRY(add_files(r, UZ_SHARD_OPTIM, &r->optim_files, err));
    if (stage == 3) {
        UZ_TRY(uz_alloc(&r->metadata, r->world, sizeof *r->metadata, err));
        UZ_TRY(uz_alloc(&r->frozen_slices, r->world, sizeof *r->frozen_slices, err));
        UZ_TRY(add_files(r, UZ_SHARD_MODEL_Z3, &r->model_files, err));
    }
    return uz_parallel(r->options->threads, 2 * r->world, read_job, NULL, r, err);
}

static int check_partition_counts(const struct reading *r, uint64_t rank, struct uz_error *err)
{
    const struct uz_optim_shard *shard = &r->shards[rank];
    for (size_t g = 0; g < shard->n_groups; g++) {
        uint64_t count = shard->groups[g].partition_count;
        if (count != r->world)
            return uz_fail_at(err, UZ_MISMATCH, r->model->files[r->optim_files[rank]], UZ_NO_OFFSET,
                              "Expected %llu of '*_optim_states.pt' under %s but found %llu: this "
                              "shard records partition_count %llu for group %zu",
                              (unsigned long long)count, r->topology.dir,
                              (unsigned long long)r->world, (unsigned long long)count, g);
    }
    return UZ_OK;
}

static int check_shards_agree(struct reading *r, int stage, struct uz_error *err)
{
    const struct uz_optim_shard *first = &r->shards[0];
    for (uint64_t rank = 0; rank < r->world; rank++) {
        const struct uz_optim_shard *shard = &r->shards[rank];
        const char *path = r->model->files[r->optim_files[rank]];
        if ((shard->stage == 3) != (stage == 3) || shard->stage != first->stage)
            return uz_fail_at(err, UZ_MISMATCH, path, UZ_NO_OFFSET,
                              "is of ZeRO stage %d, which the other files of the checkpoint are "
                              "not",
                              shard->stage);
        UZ_TRY(check_partition_counts(r, rank, err));
        if (shard->has_step != first->has_step)
            return uz_fail_at(
                err, UZ_MISMATCH, path, UZ_NO_OFFSET,
                "%s an optimizer step, rank 0 %s: shards of different saves are mixed",
                shard->has_step ? "records" : "does not record",
                first->has_step ? "does" : "does not");
        if (shard->has_step && !(shard->step >= first->step && shard->step <= first->step))
            return uz_fail_at(err, UZ_MISMATCH, path, UZ_NO_OFFSET,
                              "is of optimizer step %.0f, rank 0 of step %.0f: shards of different "
                              "saves are mixed",
                              shard->step, first->step);
        if (strcmp(shard->ds_version, first->ds_version))
            return uz_fail_at(err, UZ_MISMATCH, path, UZ_NO_OFFSET,
                              "was written by DeepSpeed '%s', rank 0 by '%s'", shard->ds_version,
                              first->ds_version);
    }
    return UZ_OK;
}

static int check_archive_roots(const struct reading *r, struct uz_error *err)
{
    const struct uz_model *model = r->model;
    if (!r->metadata)
        UZ_TRY(check_archive_root(r, r->info->metadata.archive_root, model->files[0], err));
    for (uint64_t rank = 0; rank < r->world; rank++) {
        UZ_TRY(check_archive_root(r, r->shards[rank].archive_root,
                                  model->files[r->optim_files[rank]], err));
        if (r->metadata)
            UZ_TRY(check_archive_root(r, r->metadata[rank].archive_root,
                                      model->files[r->model_files[rank]], err));
    }
    return UZ_OK;
}

/* What the values must prove, because the metadata leaves it open. */
static int note_doubts(struct reading *r, struct uz_error *err)
{
    const struct uz_metadata *metadata = &r->info->metadata;
    const struct uz_optim_shard *first = &r->shards[0];
    for (uint64_t rank = 0; rank < r->world; rank++)
        for (size_t g = 0; g < r->shards[rank].n_groups; g++)
            if (r->shards[rank].groups[g].mapping == UZ_MAPPING_ROUND_ROBIN)
                r->info->round_robin = true;
    if (r->info->round_robin)
        UZ_TRY(uz_warn(r->notes, err,
                       "round_robin_gradients: param_slice_mappings in these files follows another "
                       "order than the buffers; param_shapes was followed. Tools that trust the "
                       "mapping (universal conversion, safe_get_full_*) give wrong values"));
    r->info->has_step = first->has_step && first->step_is_of_state;
    r->info->step = first->step;
    double made = (double)(metadata->global_steps - metadata->skipped_steps);
    if (r->info->has_step && metadata->has_steps && (first->step < made || first->step > made)) {
        r->info->steps_differ = true;
        UZ_TRY(uz_warn(r->notes, err,
                       "the optimizer made %.0f steps, the model states tell of %.0f: files of "
                       "different saves, or an optimizer that was reset",
                       first->step, made));
    }
    return UZ_OK;
}

static int join(struct reading *r, int stage, struct uz_error *err)
{
    struct uz_ranks ranks = {
        .world = r->world,
        .shards = r->shards,
        .optim_files = r->optim_files,
        .frozen_slices = r->frozen_slices,
        .model_files = r->model_files,
    };
    if (stage == 3) {
        UZ_TRY(uz_join_stage3(r->model, &r->params, &ranks, err));
        UZ_TRY(uz_join_frozen(r->model, &r->frozen, &ranks, err));
    } else {
        UZ_TRY(uz_join_stage12(r->model, &r->params, &ranks, err));
    }
    return uz_model_finish(r->model, err);
}

static int read_checkpoint(struct reading *r, const char *path, struct uz_error *err)
{
    size_t n12, n3;
    UZ_TRY(uz_topology_open(&r->topology, path, r->options->tag, &r->options->limits, err));
    UZ_TRY(uz_topology_refuse_by_names(&r->topology, err));
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
    int stage = model3 ? 3 : 1;
    UZ_TRY(read_first(r, model3 ? model3 : model12, stage, err));
    UZ_TRY(uz_topology_check_one_mp_rank(&r->topology, err));
    UZ_TRY(check_world(r, stage, err));
    UZ_TRY(read_ranks(r, stage, err));
    UZ_TRY(check_shards_agree(r, stage, err));
    UZ_TRY(check_archive_roots(r, err));
    UZ_TRY(join(r, stage, err));
    UZ_TRY(note_doubts(r, err));
    r->info->stage = r->shards[0].stage;
    r->info->dp_world_size = r->world;
    r->info->tag = r->topology.tag;
    r->topology.tag = NULL;
    return UZ_OK;
}

static void free_reading(struct reading *r)
{
    for (uint64_t rank = 0; r->shards && rank < r->world; rank++)
        uz_optim_shard_free(&r->shards[rank]);
    for (uint64_t rank = 0; r->frozen_slices && rank < r->world; rank++)
        free(r->frozen_slices[rank]);
    free(r->frozen_slices);
    free(r->shards);
    free(r->optim_files);
    free(r->model_files);
    free(r->metadata);
    uz_params_free(&r->params);
    uz_topology_free(&r->topology);
}

int uz_zero_read(const char *path, const struct uz_zero_options *options, struct uz_model *model,
                 struct uz_zero_info *info, struct uz_notes *notes, struct uz_error *err)
{
    struct reading r = {.options = options, .model = model, .info = info, .notes = notes};
    *info = (struct uz_zero_info){0};
    UZ_TRY(uz_model_init(model, &options->limits, err));
    int rc = read_checkpoint(&r, path, err);
    free_reading(&r);
    if (rc < 0)
        uz_model_free(model);
    return rc;
}

void uz_zero_info_free(struct uz_zero_info *info)
{
    free(info->tag);
    *info = (struct uz_zero_info){0};
}
