/* SPDX-License-Identifier: Apache-2.0 */
/* ZeRO checkpoint -> universal checkpoint: thousands of small files, made in groups. */
#include <unzero/universal.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/file.h"
#include "base/parallel.h"
#include "check/doubts.h"
#include "check/replicas.h"
#include "convert/memory.h"
#include "convert/parts.h"
#include "convert/universal_impl.h"
#include "engine/mean.h"
#include "engine/spool.h"
#include "engine/tree.h"

/* Files whose heads are in memory at a time: a few KiB each. */
enum { GROUP = 2048 };

void uz_universal_options_default(struct uz_universal_options *options)
{
    *options = (struct uz_universal_options){.durability = UZ_DURABLE_FULL};
    uz_input_options_default(&options->input);
}

/*
 * Files [first, *end) are made together. What can only be read from front to back is gone through
 * once for all files.
 */
static void next_group(const struct uz_universal_job *job, size_t first, size_t *end)
{
    *end = job->n_files;
    if (!uz_model_is_packed(&job->source.model) && job->n_files - first > GROUP)
        *end = first + GROUP;
}

/* ---- Planning ---- */

/* What several ranks hold is compared, or averaged, at any place: compressed, it is unpacked. */
static int spool_layers(struct uz_universal_job *job, struct uz_error *err)
{
    if (!uz_model_has_layers(&job->source.model))
        return UZ_OK;
    char *dir = uz_tree_parent(job->out_dir);
    int rc = dir ? uz_spool_open(&job->spool, &job->source.model, dir, job->options.input.threads,
                                 &job->options.input.limits, err)
                 : uz_fail_nomem(err, strlen(job->out_dir));
    free(dir);
    return rc;
}

/* Missing universal_checkpoint_info tells of no tensor ranks; with some, only the client knows. */
static int decide_info(struct uz_universal_job *job, struct uz_error *err)
{
    const struct uz_universal_source *source = &job->source;
    bool alone = source->n_mp == 1;
    if (source->has_info)
        return UZ_OK;
    if (job->options.inject_missing_state && !alone)
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(source->states[0]), UZ_NO_OFFSET,
                          "has no universal_checkpoint_info, and --inject-missing-state cannot "
                          "know it: with %u tensor ranks and %u pipeline stages it tells how their "
                          "shards are joined, which only the program that saved them knows",
                          source->info.tp, source->info.pp);
    job->adds_info = alone && job->options.dialect == UZ_UNIVERSAL_ANY;
    return UZ_OK;
}

static int tell_frozen(struct uz_universal_job *job, struct uz_error *err)
{
    const struct uz_model *model = &job->source.model;
    uint64_t n = 0;
    for (size_t i = 0; i < model->n_tensors; i++)
        n += model->tensors[i].role == UZ_ROLE_FROZEN && model->tensors[i].numel > 0;
    if (n == 0)
        return UZ_OK;
    return uz_warn(&job->notes, err,
                   "%llu frozen parameters are carried along, but DeepSpeed's universal load does "
                   "not restore them: the program must load them before training",
                   (unsigned long long)n);
}

/* DeepSpeed's converter drops what an optimizer keeps for whole groups, and no loader restores it.
 */
static int tell_numbers(struct uz_universal_job *job, struct uz_error *err)
{
    if (!job->source.has_numbers)
        return UZ_OK;
    if (job->options.dialect == UZ_UNIVERSAL_DEEPSPEED && job->source.info.stage < 3)
        return uz_warn_of_data(&job->notes, err,
                               "the optimizer keeps numbers beside step that are not of single "
                               "elements: they are left out, as DeepSpeed's converter does; "
                               "--dialect any keeps them");
    return uz_warn(&job->notes, err,
                   "the optimizer keeps numbers beside step that are not of single elements: they "
                   "stand in zero/optimizer_state.pt, but DeepSpeed's universal load does not "
                   "restore them");
}

/* Lays a group out to see how large it gets, and that it can be. */
static int measure_files(struct uz_universal_job *job, uint64_t *tables, struct uz_error *err)
{
    for (size_t first = 0, end; first < job->n_files; first = end) {
        struct uz_out out = {0};
        next_group(job, first, &end);
        int rc = uz_universal_lay_out(job, first, end, &out, err);
        if (rc == UZ_OK)
            rc = uz_parts_check(&job->source.model, &out, err);
        uint64_t nbytes = uz_out_memory(&out);
        if (nbytes > *tables)
            *tables = nbytes;
        job->summary.data_nbytes += out.data_nbytes;
        for (size_t i = 0; i < out.n_files; i++)
            job->summary.file_nbytes += out.files[i].nbytes;
        uz_out_free(&out);
        UZ_TRY(rc);
    }
    return UZ_OK;
}

static int measure(struct uz_universal_job *job, struct uz_error *err)
{
    const struct uz_model *model = &job->source.model;
    uint64_t tables = 0, fixed;
    UZ_TRY(measure_files(job, &tables, err));
    UZ_TRY(uz_parts_check(&job->stored.model, &job->values, err));
    job->summary.n_files = job->n_files + job->values.n_files;
    job->summary.data_nbytes += job->values.data_nbytes;
    for (size_t i = 0; i < job->values.n_files; i++)
        job->summary.file_nbytes += job->values.files[i].nbytes;
    fixed = uz_model_memory(model) + uz_model_memory(&job->stored.model) + tables +
            uz_out_memory(&job->values) + job->n_files * sizeof *job->files +
            uz_arena_used(job->arena);
    for (size_t i = 0; i < model->n_tensors; i++)
        if (model->tensors[i].is_mean) {
            fixed += (uint64_t)job->options.input.threads * UZ_MEAN_NBYTES;
            break;
        }
    job->engine.stream_nbytes = uz_stream_memory(&job->stored.model); /* it has all places */
    UZ_TRY(uz_fit_memory(job->options.input.threads, job->options.max_memory, fixed, &job->engine,
                         err));
    job->engine.limits = job->options.input.limits;
    job->engine.advice = (struct uz_advice){
        .start_writeback = job->options.durability != UZ_DURABLE_NONE,
    };
    job->summary.memory_nbytes = uz_run_memory(&job->engine, fixed);
    job->summary.threads = job->engine.threads;
    return UZ_OK;
}

static int name_latest(struct uz_universal_job *job, struct uz_error *err)
{
    char *parent = uz_tree_parent(job->out_dir);
    job->latest = parent ? uz_path_join(parent, "latest_universal") : NULL;
    free(parent);
    if (!job->latest)
        return uz_fail_nomem(err, strlen(job->out_dir));
    if (uz_is_dir(job->latest))
        return uz_fail_at(err, UZ_ARG, job->latest, UZ_NO_OFFSET,
                          "is a folder, where the name of the new checkpoint is to be written");
    return UZ_OK;
}

static int summarize(struct uz_universal_job *job, struct uz_error *err)
{
    struct uz_universal_summary *summary = &job->summary;
    const struct uz_model *model = &job->source.model;
    UZ_TRY(uz_alloc(&job->states, model->n_states, sizeof *job->states, err));
    for (size_t i = 0; i < model->n_states; i++)
        if (i == 0 || uz_universal_is_wanted(job, model->states[i]))
            job->states[summary->n_states++] = model->states[i];
    summary->tag = job->source.topology.tag;
    summary->ds_version = job->source.info.metadata.ds_version;
    summary->zero_stage = job->source.info.stage;
    summary->world_size = job->source.info.dp_world_size;
    summary->tp_size = job->source.info.tp;
    summary->pp_size = job->source.info.pp;
    summary->latest = job->latest;
    summary->states = job->states;
    summary->has_step = job->has_steps && job->source.has_step;
    summary->info_injected = job->adds_info;
    summary->warnings = (const char *const *)job->notes.items;
    summary->n_warnings = job->notes.n;
    return UZ_OK;
}

/* A plan may be made where its output does not fit; running it there fails at once. */
static int warn_of_room(struct uz_universal_job *job, struct uz_error *err)
{
    struct uz_error short_of_room;
    if (uz_tree_check_room(job->out_dir, job->summary.file_nbytes, &short_of_room) == UZ_OK)
        return UZ_OK;
    return uz_warn(&job->notes, err, "%s: %s", short_of_room.file, short_of_room.message);
}

static int plan(struct uz_universal_job *job, struct uz_error *err)
{
    struct uz_universal_source *source = &job->source;
    if ((unsigned)job->options.dialect > UZ_UNIVERSAL_DEEPSPEED)
        return uz_fail(err, UZ_ARG, "unknown dialect %d", (int)job->options.dialect);
    if (job->options.input.source == UZ_SOURCE_LP)
        return uz_fail(err, UZ_ARG,
                       "--source lp reads the model states, which hold no optimizer states");
    if (job->options.input.threads == 0)
        job->options.input.threads = uz_usable_processors();
    UZ_TRY(uz_tree_check(job->out_dir, err));
    UZ_TRY(name_latest(job, err));
    UZ_TRY(
        uz_universal_source_read(source, job->checkpoint, &job->options.input, &job->notes, err));
    UZ_TRY(spool_layers(job, err));
    UZ_TRY(uz_check_doubts(&source->model, &source->info, &job->notes, err));
    UZ_TRY(decide_info(job, err));
    UZ_TRY(tell_frozen(job, err));
    UZ_TRY(tell_numbers(job, err));
    job->in_dicts =
        job->options.dialect == UZ_UNIVERSAL_ANY || source->info.stage < 3 || source->n_mp > 1;
    job->has_steps = job->options.dialect == UZ_UNIVERSAL_ANY || source->info.stage < 3;
    UZ_TRY(uz_universal_list_files(job, err));
    UZ_TRY(uz_stored_start(&job->stored, &source->model, &source->limits, err));
    UZ_TRY(uz_universal_add_optimizer(job, err));
    UZ_TRY(uz_universal_add_model_states(job, err));
    UZ_TRY(uz_model_finish(&job->stored.model, err));
    UZ_TRY(measure(job, err));
    UZ_TRY(warn_of_room(job, err));
    return summarize(job, err);
}

int uz_universal_plan(struct uz_universal_job **out_job, const char *checkpoint, const char *out,
                      const struct uz_universal_options *options, struct uz_error *err)
{
    struct uz_universal_job *job;
    uz_error_clear(err);
    UZ_TRY(uz_alloc(&job, 1, sizeof *job, err));
    job->options = *options;
    job->notes.strict = options->input.strict;
    job->checkpoint = strdup(checkpoint);
    job->out_dir = strdup(out);
    job->arena = uz_arena_new(options->input.limits.max_pickle_arena);
    int rc = job->checkpoint && job->out_dir && job->arena ? plan(job, err)
                                                           : uz_fail_nomem(err, strlen(out));
    if (rc < 0) {
        uz_universal_free(job);
        return rc;
    }
    *out_job = job;
    return UZ_OK;
}

const struct uz_universal_summary *uz_universal_summary(const struct uz_universal_job *job)
{
    return &job->summary;
}

/* ---- Running ---- */

static int run_groups(struct uz_universal_job *job, struct uz_tree *tree, struct uz_parts *parts,
                      struct uz_error *err)
{
    for (size_t first = 0, end; first < job->n_files; first = end) {
        struct uz_out out = {0};
        next_group(job, first, &end);
        int rc = uz_universal_lay_out(job, first, end, &out, err);
        if (rc == UZ_OK)
            rc = uz_parts_run(parts, tree, &job->source.model, &out, &job->engine, err);
        uz_out_free(&out);
        UZ_TRY(rc);
    }
    return uz_parts_run(parts, tree, &job->stored.model, &job->values, &job->engine, err);
}

/* Writes what latest_universal will hold beside its place. *temporary is malloc'ed. */
static int prepare_latest(const struct uz_universal_job *job, const char *tag, enum uz_sync sync,
                          char **temporary, struct uz_error *err)
{
    if (asprintf(temporary, "%s.unzero-partial.%ld", job->latest, (long)getpid()) < 0) {
        *temporary = NULL;
        return uz_fail_nomem(err, strlen(job->latest));
    }
    int fd = open(*temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int rc = fd < 0 ? uz_fail_errno(err, errno, *temporary, "cannot be made")
                    : uz_pwrite_all(fd, tag, strlen(tag), 0, *temporary, err);
    if (rc == UZ_OK && sync != UZ_SYNC_NONE && fsync(fd) < 0)
        rc = uz_fail_errno(err, errno, *temporary, "cannot be made durable");
    if (fd >= 0 && close(fd) < 0 && rc == UZ_OK)
        rc = uz_fail_errno(err, errno, *temporary, "cannot be written");
    return rc;
}

/* The tree gets its name, then latest_universal is replaced: readers see the old tag or the new. */
static int publish(const struct uz_universal_job *job, struct uz_tree *tree, struct uz_error *err)
{
    char *temporary;
    int rc = prepare_latest(job, uz_path_name(tree->out), tree->sync, &temporary, err);
    if (rc == UZ_OK)
        rc = uz_tree_commit(tree, err);
    if (rc == UZ_OK && rename(temporary, job->latest) < 0)
        rc = uz_fail_errno(err, errno, job->latest,
                           "cannot be written, but the checkpoint is there");
    else if (rc == UZ_OK)
        rc = uz_tree_sync_parent(tree, err);
    if (rc < 0 && temporary)
        unlink(temporary);
    free(temporary);
    return rc;
}

static int make_tree(struct uz_universal_job *job, struct uz_tree *tree, struct uz_parts *parts,
                     struct uz_error *err)
{
    UZ_TRY(uz_tree_check_room(job->out_dir, job->summary.file_nbytes, err));
    /* two buffers of half the size and one for reading: no more than the run itself has */
    UZ_TRY(uz_check_replicas(&job->source.model, job->engine.threads, job->engine.buffer_nbytes / 2,
                             err));
    UZ_TRY(uz_tree_open(tree, job->out_dir, err));
    static const enum uz_sync syncs[] = {
        [UZ_DURABLE_FULL] = UZ_SYNC_FULL,
        [UZ_DURABLE_DATA] = UZ_SYNC_DATA,
        [UZ_DURABLE_NONE] = UZ_SYNC_NONE,
    };
    tree->sync = syncs[job->options.durability];
    UZ_TRY(run_groups(job, tree, parts, err));
    return publish(job, tree, err);
}

int uz_universal_run(struct uz_universal_job *job, uz_progress_fn progress, void *cookie,
                     struct uz_error *err)
{
    struct uz_tree tree = {0};
    struct uz_parts parts = {progress, cookie, 0, job->summary.data_nbytes};
    uz_error_clear(err);
    int rc = make_tree(job, &tree, &parts, err);
    uz_tree_close(&tree);
    return rc;
}

void uz_universal_free(struct uz_universal_job *job)
{
    if (!job)
        return;
    uz_out_free(&job->values);
    uz_stored_free(&job->stored);
    uz_spool_close(job->spool);
    uz_universal_source_free(&job->source);
    uz_notes_free(&job->notes);
    uz_arena_free(job->arena);
    free(job->files);
    free(job->states);
    free(job->latest);
    free(job->checkpoint);
    free(job->out_dir);
    free(job);
}
