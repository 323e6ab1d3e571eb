/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of a verification, and its report. */
#include <unzero/verify.h>

#include <stdlib.h>
#include <string.h>

#include "base/dir.h"
#include "base/parallel.h"
#include "check/manifest.h"
#include "check/verify_run.h"
#include "check/verify_universal.h"
#include "check/verify_weights.h"
#include "input/kind.h"
#include "zero/tp_rules.h"

struct uz_verification {
    struct uz_verify_run run;
    struct uz_verify_report report;
};

void uz_verify_options_default(struct uz_verify_options *options)
{
    *options = (struct uz_verify_options){0};
    uz_input_options_default(&options->input);
    options->scratch_dir = "/tmp";
}

/* What is wrong with a path that is nothing known, the listing of a checkpoint tells. */
static enum uz_input_kind kind_of(const struct uz_verify_run *run, const char *path)
{
    enum uz_input_kind kind;
    int rc = uz_input_kind(path, run->options->input.tag, &kind, NULL);
    return rc < 0 && uz_is_dir(path) ? UZ_INPUT_ZERO : kind;
}

static bool is_checkpoint(const struct uz_verify_run *run)
{
    return run->kind == UZ_INPUT_ZERO || run->kind == UZ_INPUT_UNIVERSAL;
}

/* What is particular to each kind, when every file was read by itself. */
static int hold_together(struct uz_verify_run *run, struct uz_error *err)
{
    if (!is_checkpoint(run))
        return uz_verify_names(run, err);
    UZ_TRY(uz_verify_agree(run, err));
    if (run->kind == UZ_INPUT_UNIVERSAL)
        return uz_verify_universal(run, err);
    UZ_TRY(uz_verify_grid(run, err));
    return uz_verify_linkage(run, err);
}

/* Nor has what FastPersist wrote shards that could be looked into. */
static int refuse_writer_parts(const struct uz_verify_run *run, const char *path,
                               struct uz_error *err)
{
    const struct uz_input_options *input = &run->options->input;
    struct uz_topology topology;
    struct uz_topology_request request = {
        .path = path,
        .tag = input->tag,
        .input_dirs = input->input_dirs,
        .n_input_dirs = input->n_input_dirs,
        .max_shards = input->limits.max_shards,
    };
    struct uz_error why;
    int rc = uz_topology_open(&topology, &request, &why);
    uz_topology_free(&topology);
    if (rc == UZ_UNSUPPORTED && err)
        *err = why;
    return rc == UZ_UNSUPPORTED ? rc : UZ_OK;
}

/* The files one by one, then as a whole. */
static int look_at_all(struct uz_verify_run *run, const char *path, struct uz_error *err)
{
    run->kind = kind_of(run, path);
    if (is_checkpoint(run))
        UZ_TRY(refuse_writer_parts(run, path, err));
    UZ_TRY(is_checkpoint(run) ? uz_verify_list(run, path, err)
                              : uz_verify_list_weights(run, path, err));
    if (run->n_records == 0)
        return UZ_OK;
    UZ_TRY(uz_verify_read(run, err));
    UZ_TRY(hold_together(run, err));
    if (!uz_findings_reach(&run->findings, UZ_SEVERITY_ERROR))
        UZ_TRY(uz_verify_joined(run, path, err));
    return run->options->data ? uz_verify_data(run, err) : UZ_OK;
}

static int load_wanted(struct uz_verify_run *run, struct uz_error *err)
{
    const struct uz_verify_options *options = run->options;
    if (options->manifest_mode != UZ_MANIFEST_CHECK)
        return UZ_OK;
    UZ_TRY(uz_alloc(&run->want, 1, sizeof *run->want, err));
    return uz_manifest_load(run->want, options->manifest, &options->input.limits, err);
}

/* A file of rules that cannot be used is no fault of the checkpoint. */
static int check_tp_map(const struct uz_verify_run *run, struct uz_error *err)
{
    const struct uz_input_options *input = &run->options->input;
    return input->tp_map ? uz_tp_rules_check_json(input->tp_map, &input->limits, err) : UZ_OK;
}

static int verify(struct uz_verify_run *run, const char *path, struct uz_error *err)
{
    UZ_TRY(check_tp_map(run, err));
    UZ_TRY(load_wanted(run, err));
    UZ_TRY(look_at_all(run, path, err));
    return run->options->manifest_mode == UZ_MANIFEST_NONE ? UZ_OK
                                                           : uz_verify_manifest(run, path, err);
}

static void describe_files(const struct uz_verify_run *run, struct uz_verify_report *report)
{
    for (size_t i = 0; i < run->n_records; i++) {
        const struct uz_record *record = &run->records[i];
        report->file_nbytes += record->nbytes;
        report->n_tensors += record->n_tensors;
        if (record->has_metadata && !*report->ds_version)
            report->ds_version = record->metadata.ds_version;
        if (record->has_optim)
            report->zero_stage = record->optim.stage;
    }
    report->n_files = run->n_records;
}

static void describe(struct uz_verification *v)
{
    struct uz_verify_run *run = &v->run;
    struct uz_verify_report *report = &v->report;
    uz_findings_sort(&run->findings);
    *report = (struct uz_verify_report){
        .kind = run->kind,
        .tag = run->tag ? run->tag : "",
        .dir = run->dir ? run->dir : "",
        .ds_version = "",
        .zero_stage = run->is_stage3 ? 3 : -1,
        .dp_world_size = run->world,
        .mp_world_size = run->n_mp,
        .joined = run->joined,
        .fully_checked = uz_findings_whole(&run->findings),
        .n_checked_nbytes = run->n_checked_nbytes,
        .n_values = run->n_values,
        .n_compared = run->n_compared,
        .n_manifest_files = run->n_same_files,
        .n_manifest_tensors = run->n_same_tensors,
        .findings = run->findings.items,
        .n_findings = run->findings.n,
    };
    describe_files(run, report);
    if (is_checkpoint(run) && run->joined)
        report->zero_stage = run->stage;
    if (!is_checkpoint(run))
        report->mp_world_size = 0;
    for (size_t i = 0; i < run->findings.n; i++)
        report->n_by_severity[run->findings.items[i].severity]++;
}

int uz_verify(struct uz_verification **out, const char *path,
              const struct uz_verify_options *options, uz_progress_fn progress, void *cookie,
              struct uz_error *err)
{
    struct uz_verification *v;
    UZ_TRY(uz_alloc(&v, 1, sizeof *v, err));
    v->run.options = options;
    v->run.threads = options->input.threads ? options->input.threads : uz_usable_processors();
    v->run.progress = progress;
    v->run.cookie = cookie;
    int rc = uz_findings_init(&v->run.findings, err);
    if (rc == UZ_OK)
        rc = verify(&v->run, path, err);
    if (rc < 0) {
        uz_verification_free(v);
        return rc;
    }
    describe(v);
    *out = v;
    return UZ_OK;
}

const struct uz_verify_report *uz_verification_report(const struct uz_verification *verification)
{
    return &verification->report;
}

static void free_record(struct uz_record *record)
{
    for (size_t i = 0; i < record->n_wholes; i++)
        free(record->wholes[i].name);
    free(record->wholes);
    if (record->weights)
        uz_model_free(record->weights);
    free(record->weights);
    free(record->shape);
    free(record->param);
    free(record->state);
    uz_optim_shard_free(&record->optim);
    free(record->shard.name);
    free(record->path);
}

void uz_verification_free(struct uz_verification *v)
{
    if (!v)
        return;
    for (size_t i = 0; i < v->run.n_records; i++)
        free_record(&v->run.records[i]);
    for (uint32_t mp = 0; mp < v->run.n_mp && v->run.mp_ranks; mp++) {
        free(v->run.mp_ranks[mp].part_sizes);
        uz_params_free(&v->run.mp_ranks[mp].params);
        uz_experts_free(&v->run.mp_ranks[mp].experts);
        uz_model_free(&v->run.mp_ranks[mp].model);
    }
    free(v->run.mp_ranks);
    free(v->run.records);
    if (v->run.index)
        uz_weight_index_free(v->run.index);
    free(v->run.index);
    free(v->run.index_path);
    if (v->run.want)
        uz_manifest_free(v->run.want);
    free(v->run.want);
    free(v->run.dir);
    free(v->run.tag);
    uz_findings_free(&v->run.findings);
    free(v);
}
