/* SPDX-License-Identifier: Apache-2.0 */
/* ZeRO checkpoint -> whole tensors: reader, layout, plan, engine and commit, one after another. */
#include <unzero/consolidate.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/parallel.h"
#include "check/doubts.h"
#include "check/replicas.h"
#include "convert/companions.h"
#include "convert/memory.h"
#include "convert/target_path.h"
#include "engine/engine.h"
#include "engine/mean.h"
#include "engine/spool.h"
#include "engine/stage.h"
#include "out/items.h"
#include "out/safetensors.h"
#include "out/torch_save.h"
#include "plan/plan.h"
#include "zero/read.h"

struct uz_consolidation {
    struct uz_consolidate_options options;
    struct uz_target_path target;
    struct uz_model model;
    struct uz_spool *spool; /* what was compressed and must be read at any place; or NULL */
    struct uz_zero_info info;
    struct uz_notes notes;
    struct uz_items items;
    struct uz_out out;
    struct uz_plan plan;
    struct uz_engine_options engine;
    struct uz_stage_options stage;
    struct uz_output_file *files;
    const char **tied, **renamed;
    struct uz_consolidate_summary summary;
};

void uz_consolidate_options_default(struct uz_consolidate_options *options)
{
    *options = (struct uz_consolidate_options){
        .precision = UZ_PRECISION_AUTO,
        .max_shard_bytes = 5000000000,
        .durability = UZ_DURABLE_FULL,
    };
    uz_input_options_default(&options->input);
}

static int read_source(struct uz_consolidation *job, const char *checkpoint, struct uz_error *err)
{
    struct uz_zero_options options = {
        .input = job->options.input,
        .state = job->options.state,
    };
    return uz_zero_read(checkpoint, &options, &job->model, &job->info, &job->notes, err);
}

/*
 * What several ranks hold is compared, or averaged, which takes several sources at once: what is
 * compressed is unpacked first. (Else it is read from front to back.)
 */
static int spool_layers(struct uz_consolidation *job, struct uz_error *err)
{
    char *dir;
    if (!uz_model_has_layers(&job->model))
        return UZ_OK;
    UZ_TRY(uz_target_path_existing(&job->target, &dir, err));
    int rc = uz_spool_open(&job->spool, &job->model, dir, job->options.input.threads,
                           &job->options.input.limits, err);
    free(dir);
    return rc;
}

static int lay_out(struct uz_consolidation *job, struct uz_error *err)
{
    static const enum uz_dtype_policy policies[] = {
        [UZ_PRECISION_FP32] = UZ_POLICY_FP32,
        [UZ_PRECISION_BF16] = UZ_POLICY_BF16,
        [UZ_PRECISION_FP16] = UZ_POLICY_FP16,
        [UZ_PRECISION_KEEP] = UZ_POLICY_KEEP,
    };
    const bool pt = job->target.format == UZ_FORMAT_PT;
    struct uz_items_options which = {
        .policy = policies[job->options.precision],
        .ties = job->options.untie ? UZ_TIES_COPIES
                : pt               ? UZ_TIES_SHARED
                                   : UZ_TIES_ONE_NAME,
        .widen_buffers = job->options.widen_buffers,
        .exclude_frozen = job->options.exclude_frozen,
        .state = job->options.state,
        .names = &job->options.names,
    };
    struct uz_files_options options = {
        .file_name = job->target.file_name,
        .max_shard_bytes = job->target.file_name ? 0 : job->options.max_shard_bytes,
        .max_header_bytes = job->options.input.limits.max_header_bytes,
    };
    UZ_TRY(uz_items_select(&job->items, &job->model, &which, &job->notes, err));
    if (job->items.n_as_stored > 0)
        UZ_TRY(uz_warn_of_data(
            &job->notes, err,
            "%zu parameters are neither fp32, bf16 nor fp16 and stay as they are stored",
            job->items.n_as_stored));
    return (pt ? uz_torch_save_layout : uz_safetensors_layout)(&job->out, &job->items, &job->model,
                                                               &options, err);
}

/* A master that is not fp32 has no fp32 bits to give: the user should know. */
static int warn_of_masters(struct uz_consolidation *job, struct uz_error *err)
{
    const struct uz_consolidate_options *options = &job->options;
    if (options->input.source == UZ_SOURCE_LP || (options->state && strcmp(options->state, "all")))
        return UZ_OK; /* masters were not asked for */
    for (size_t i = 0; i < job->model.n_tensors; i++) {
        const struct uz_tensor *tensor = &job->model.tensors[i];
        if (tensor->role == UZ_ROLE_PARAM && tensor->numel > 0 &&
            (tensor->dtype == UZ_DTYPE_BF16 || tensor->dtype == UZ_DTYPE_F16))
            return uz_warn_of_data(
                &job->notes, err,
                "the optimizer's master weights are stored in %s: no full fp32 values "
                "exist in this checkpoint",
                uz_dtype_name(tensor->dtype));
    }
    return UZ_OK;
}

/* A plan may be made where its output does not fit; running it there fails at once. */
static int warn_of_room(struct uz_consolidation *job, struct uz_error *err)
{
    struct uz_error short_of_room;
    if (uz_stage_check_room(&job->stage, &job->out, &short_of_room) == UZ_OK)
        return UZ_OK;
    return uz_warn(&job->notes, err, "%s: %s", short_of_room.file, short_of_room.message);
}

/* Bytes beside the threads' buffers. */
static uint64_t fixed_memory(const struct uz_consolidation *job)
{
    uint64_t nbytes = uz_tables_memory(&job->model, &job->items, &job->out);
    for (size_t i = 0; i < job->model.n_tensors; i++)
        if (job->model.tensors[i].is_mean)
            return nbytes + (uint64_t)job->options.input.threads * UZ_MEAN_NBYTES;
    return nbytes;
}

/* transformers loads safetensors, if a folder has both: then what is written here is not used. */
static int warn_of_preferred(struct uz_consolidation *job, struct uz_error *err)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json"};
    if (job->target.file_name || job->target.format != UZ_FORMAT_PT)
        return UZ_OK;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *path = uz_path_join(job->target.dir, names[i]);
        if (!path)
            return uz_fail_nomem(err, strlen(job->target.dir));
        bool there = access(path, F_OK) == 0;
        free(path);
        if (there)
            return uz_warn(&job->notes, err,
                           "%s holds %s as well, which loaders prefer to pytorch_model.bin: remove "
                           "it, or they do not see what is written here",
                           job->target.dir, names[i]);
    }
    return UZ_OK;
}

static int add_companions(struct uz_consolidation *job, const struct uz_companions *companions,
                          struct uz_error *err)
{
    bool has_config;
    UZ_TRY(uz_companions_have_config(companions->dir, &has_config, err));
    if (!has_config)
        UZ_TRY(uz_warn_of_data(&job->notes, err,
                               "%s holds no config.json to be copied: loaders need one",
                               companions->dir));
    return uz_companions_add(companions, &job->out, err);
}

/* Brings what loaders want beside the weights, or counts it. */
static int bring_companions(struct uz_consolidation *job, const char *checkpoint,
                            struct uz_error *err)
{
    struct uz_companions companions;
    bool loadable;
    int rc = uz_companions_find(&companions, checkpoint, job->info.tag, job->target.dir, err);
    if (rc == UZ_OK && job->options.copy_config)
        rc = add_companions(job, &companions, err);
    else if (rc == UZ_OK)
        rc = uz_companions_have_config(job->target.dir, &loadable, err);
    if (rc == UZ_OK && !job->options.copy_config && !loadable && !job->target.file_name)
        job->summary.n_config_left = companions.n;
    uz_companions_free(&companions);
    return rc;
}

static int plan_run(struct uz_consolidation *job, struct uz_error *err)
{
    static const enum uz_sync syncs[] = {
        [UZ_DURABLE_FULL] = UZ_SYNC_FULL,
        [UZ_DURABLE_DATA] = UZ_SYNC_DATA,
        [UZ_DURABLE_NONE] = UZ_SYNC_NONE,
    };
    job->stage = (struct uz_stage_options){
        .dir = job->target.dir,
        .staging = job->target.staging,
        .family = uz_target_path_family(&job->target),
        .force = job->options.force,
        .sync = syncs[job->options.durability],
    };
    job->engine.stream_nbytes = uz_stream_memory(&job->model);
    UZ_TRY(uz_fit_memory(job->options.input.threads, job->options.max_memory, fixed_memory(job),
                         &job->engine, err));
    job->engine.limits = job->options.input.limits;
    job->engine.advice = (struct uz_advice){
        .start_writeback = job->options.durability != UZ_DURABLE_NONE,
        .drop = job->options.drop_cache,
    };
    UZ_TRY(uz_plan_build(&job->plan, &job->model, &job->out, job->engine.buffer_nbytes, err));
    UZ_TRY(uz_stage_check(&job->stage, &job->out, err));
    UZ_TRY(warn_of_preferred(job, err));
    return warn_of_room(job, err);
}

static int describe_files(struct uz_consolidation *job, struct uz_error *err)
{
    UZ_TRY(uz_alloc(&job->files, job->out.n_files, sizeof *job->files, err));
    for (size_t i = 0; i < job->out.n_files; i++) {
        const struct uz_out_file *file = &job->out.files[i];
        job->files[i] = (struct uz_output_file){
            .name = file->name,
            .nbytes = file->nbytes,
            .n_tensors = file->n_tensors,
        };
        job->summary.file_nbytes += file->nbytes;
    }
    UZ_TRY(uz_alloc(&job->tied, 2 * (uint64_t)job->items.n_dropped, sizeof *job->tied, err));
    for (size_t i = 0; i < job->items.n_dropped; i++) {
        job->tied[2 * i] = job->items.dropped[i].name;
        job->tied[2 * i + 1] = job->items.dropped[i].kept;
    }
    UZ_TRY(uz_alloc(&job->renamed, 2 * (uint64_t)job->items.n_renamed, sizeof *job->renamed, err));
    for (size_t i = 0; i < job->items.n_renamed; i++) {
        job->renamed[2 * i] = job->items.renamed[i].from;
        job->renamed[2 * i + 1] = job->items.renamed[i].to;
    }
    return UZ_OK;
}

static void summarize(struct uz_consolidation *job)
{
    struct uz_consolidate_summary *summary = &job->summary;
    summary->source = uz_zero_source(&job->info);
    summary->out_dir = job->target.dir;
    summary->format = job->target.format;
    summary->precision = job->options.precision;
    summary->files = job->files;
    summary->n_files = job->out.n_files;
    summary->n_tensors = job->items.n;
    summary->n_frozen_excluded = job->items.n_excluded;
    summary->left_out = job->items.left_out;
    summary->n_left_out = job->items.n_left_out;
    summary->renamed = job->renamed;
    summary->n_renamed = job->items.n_renamed;
    summary->data_nbytes = job->out.data_nbytes;
    summary->memory_nbytes = uz_run_memory(&job->engine, fixed_memory(job));
    summary->threads = job->engine.threads;
    summary->tied = job->tied;
    summary->n_tied = job->items.n_dropped;
    summary->warnings = (const char *const *)job->notes.items;
    summary->n_warnings = job->notes.n;
}

static int check_options(const struct uz_consolidate_options *options, struct uz_error *err)
{
    if ((unsigned)options->precision > UZ_PRECISION_AUTO)
        return uz_fail(err, UZ_ARG, "unknown precision %d", (int)options->precision);
    if ((unsigned)options->format > UZ_FORMAT_PT)
        return uz_fail(err, UZ_ARG, "unknown format %d", (int)options->format);
    if ((unsigned)options->durability > UZ_DURABLE_NONE)
        return uz_fail(err, UZ_ARG, "unknown durability %d", (int)options->durability);
    if (options->state && options->input.source == UZ_SOURCE_LP)
        return uz_fail(err, UZ_ARG,
                       "--source lp reads the model states, which hold no optimizer states");
    return UZ_OK;
}

/* Weights that are there in 16 bits only gain nothing by being written in 32. */
static void resolve_precision(struct uz_consolidate_options *options)
{
    if (options->precision == UZ_PRECISION_AUTO)
        options->precision =
            options->input.source == UZ_SOURCE_LP ? UZ_PRECISION_KEEP : UZ_PRECISION_FP32;
}

static int plan_job(struct uz_consolidation *job, const char *checkpoint, const char *out,
                    struct uz_error *err)
{
    UZ_TRY(check_options(&job->options, err));
    resolve_precision(&job->options);
    if (job->options.input.threads == 0)
        job->options.input.threads = uz_usable_processors();
    UZ_TRY(uz_target_path_parse(&job->target, out, job->options.format, err));
    UZ_TRY(read_source(job, checkpoint, err));
    UZ_TRY(spool_layers(job, err));
    UZ_TRY(uz_check_doubts(&job->model, &job->info, &job->notes, err));
    UZ_TRY(warn_of_masters(job, err));
    UZ_TRY(lay_out(job, err));
    UZ_TRY(bring_companions(job, checkpoint, err));
    UZ_TRY(plan_run(job, err));
    UZ_TRY(describe_files(job, err));
    summarize(job);
    return UZ_OK;
}

int uz_consolidation_plan(struct uz_consolidation **out_job, const char *checkpoint,
                          const char *out, const struct uz_consolidate_options *options,
                          struct uz_error *err)
{
    struct uz_consolidation *job;
    uz_error_clear(err);
    UZ_TRY(uz_alloc(&job, 1, sizeof *job, err));
    job->options = *options;
    job->notes.strict = options->input.strict;
    int rc = plan_job(job, checkpoint, out, err);
    if (rc < 0) {
        uz_consolidation_free(job);
        return rc;
    }
    *out_job = job;
    return UZ_OK;
}

const struct uz_consolidate_summary *uz_consolidation_summary(const struct uz_consolidation *job)
{
    return &job->summary;
}

/* Values that the smaller dtype cannot hold are a change the user must hear of. */
static int warn_of_overflows(struct uz_consolidation *job, uint64_t n_overflows,
                             struct uz_error *err)
{
    job->summary.n_overflows = n_overflows;
    if (n_overflows == 0)
        return UZ_OK;
    int rc = uz_warn_of_data(&job->notes, err,
                             "%llu values are too large for the output's dtype and became infinite",
                             (unsigned long long)n_overflows);
    summarize(job);
    return rc;
}

int uz_consolidation_run(struct uz_consolidation *job, uz_progress_fn progress, void *cookie,
                         struct uz_error *err)
{
    struct uz_stage *stage;
    struct uz_engine_result result;
    uz_error_clear(err);
    job->engine.progress = progress;
    job->engine.cookie = cookie;
    /* two buffers of half the size and one for reading: no more than the run itself has */
    UZ_TRY(uz_check_replicas(&job->model, job->engine.threads, job->engine.buffer_nbytes / 2, err));
    UZ_TRY(uz_stage_open(&stage, &job->stage, &job->out, err));
    int rc = uz_engine_run(&job->plan, uz_stage_paths(stage), &job->engine, &result, err);
    if (rc == UZ_OK)
        rc = warn_of_overflows(job, result.n_overflows, err);
    if (rc == UZ_OK)
        rc = uz_stage_commit(stage, err);
    uz_stage_close(stage);
    return rc;
}

void uz_consolidation_free(struct uz_consolidation *job)
{
    if (!job)
        return;
    uz_plan_free(&job->plan);
    uz_out_free(&job->out);
    uz_items_free(&job->items);
    uz_spool_close(job->spool);
    uz_model_free(&job->model);
    uz_zero_info_free(&job->info);
    uz_notes_free(&job->notes);
    uz_target_path_free(&job->target);
    free(job->files);
    free(job->tied);
    free(job->renamed);
    free(job);
}
