/* SPDX-License-Identifier: Apache-2.0 */
/* ZeRO shards of one world -> those of another: reader, layout, plan, engine, commit. */
#include <unzero/reshard.h>

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/parallel.h"
#include "check/doubts.h"
#include "convert/memory.h"
#include "convert/new_tree.h"
#include "convert/reshard_beside.h"
#include "convert/reshard_impl.h"

void uz_reshard_options_default(struct uz_reshard_options *options)
{
    *options = (struct uz_reshard_options){.durability = UZ_DURABLE_FULL};
    uz_input_options_default(&options->input);
}

/* ---- Planning ---- */

static int check_options(const struct uz_reshard_options *options, struct uz_error *err)
{
    if (options->world_size == 0)
        return uz_fail(err, UZ_ARG, "a world has at least one rank");
    if (options->world_size > options->input.limits.max_shards)
        return uz_fail(err, UZ_LIMIT, "%llu ranks are more than max_shards allows: %llu",
                       (unsigned long long)options->world_size,
                       (unsigned long long)options->input.limits.max_shards);
    if (options->stage < 0 || options->stage > 3)
        return uz_fail(err, UZ_ARG, "ZeRO shards are of stage 1, 2 or 3, not %d", options->stage);
    if (options->input.source == UZ_SOURCE_LP)
        return uz_fail(err, UZ_ARG,
                       "--source lp: shards hold the masters, which the low-precision weights do "
                       "not give");
    if ((unsigned)options->durability > UZ_DURABLE_NONE)
        return uz_fail(err, UZ_ARG, "unknown durability %d", (int)options->durability);
    return UZ_OK;
}

/* That of the checkpoint, without what DeepSpeed's users put behind a universal one's. */
static int name_tag(struct uz_resharding *job, struct uz_error *err)
{
    const char *tag = job->source.info.tag;
    size_t n = strlen(tag);
    if (job->source.info.is_universal && uz_has_suffix(tag, "_universal"))
        n -= strlen("_universal");
    job->tag = strndup(tag, n);
    return job->tag ? UZ_OK : uz_fail_nomem(err, n);
}

static int lay_out(struct uz_resharding *job, struct uz_error *err)
{
    const struct uz_reshard_source *source = &job->source;
    const struct uz_reshard_wish wish = {
        .world = job->options.world_size,
        .stage = job->options.stage,
        .ds_config = job->options.ds_config,
    };
    UZ_TRY(uz_reshard_target_read(&job->target, &wish, source, &job->options.input.limits,
                                  &job->notes, err));
    return uz_zero_layout_make(&job->layout, &job->target.zero, source->params, source->groups,
                               source->n_groups, err);
}

/* All files: the values of each are made and written as a pickle, then forgotten. */
static int make_files(struct uz_resharding *job, struct uz_error *err)
{
    const struct uz_zero_settings *settings = &job->layout.settings;
    UZ_TRY(uz_stored_start(&job->stored, &job->source.model, &job->options.input.limits, err));
    for (uint64_t rank = 0; rank < settings->world; rank++) {
        if (settings->stage == 3 || rank == 0)
            UZ_TRY(uz_reshard_add_states(job, rank, err));
        UZ_TRY(uz_reshard_add_optim(job, rank, err));
    }
    return uz_model_finish(&job->stored.model, err);
}

static int plan_run(struct uz_resharding *job, struct uz_error *err)
{
    static const struct uz_items no_items;
    struct uz_items items = no_items;
    items.arena = job->stored.model.arena;
    uint64_t tables = uz_tables_memory(&job->stored.model, &items, &job->out);
    UZ_TRY(uz_fit_memory(job->options.input.threads, job->options.max_memory, tables, &job->engine,
                         err));
    job->engine.limits = job->options.input.limits;
    job->summary.memory_nbytes = uz_run_memory(&job->engine, tables);
    return uz_plan_build(&job->plan, &job->stored.model, &job->out, job->engine.buffer_nbytes, err);
}

/* ---- The summary ---- */

static int describe_files(struct uz_resharding *job, struct uz_error *err)
{
    struct uz_reshard_summary *summary = &job->summary;
    const size_t n_of_rank = job->layout.settings.stage == 3 ? 2 : 1;
    UZ_TRY(uz_alloc(&job->files, job->out.n_files, sizeof *job->files, err));
    for (size_t i = 0; i < job->out.n_files; i++) {
        const struct uz_out_file *file = &job->out.files[i];
        job->files[i] = (struct uz_reshard_file){file->name, file->nbytes};
        summary->file_nbytes += file->nbytes;
        if (n_of_rank == 2 ? i < 2 : i == 1)
            summary->rank_nbytes += file->nbytes;
    }
    summary->files = job->files;
    summary->n_files = job->out.n_files;
    return UZ_OK;
}

static int describe_groups(struct uz_resharding *job, struct uz_error *err)
{
    const struct uz_zero_layout *layout = &job->layout;
    UZ_TRY(uz_alloc(&job->groups, layout->n_flats, sizeof *job->groups, err));
    for (size_t f = 0; f < layout->n_flats; f++) {
        const struct uz_flat_group *flat = &layout->flats[f];
        struct uz_reshard_group *group = &job->groups[f];
        *group = (struct uz_reshard_group){
            .optimizer_group = flat->group,
            .n_params = flat->n,
            .partition_numel = flat->part_numel,
        };
        for (size_t i = 0; i < flat->n; i++)
            group->numel += layout->params[flat->params[i]].numel;
        group->padding = flat->part_numel * layout->settings.world - group->numel;
        for (uint64_t rank = 0; rank < layout->settings.world; rank++)
            group->n_ranks_of_padding += uz_zero_padding(layout, flat, rank) == flat->part_numel;
    }
    job->summary.groups = job->groups;
    job->summary.n_groups = layout->n_flats;
    return UZ_OK;
}

static int summarize(struct uz_resharding *job, struct uz_error *err)
{
    struct uz_reshard_summary *summary = &job->summary;
    const struct uz_reshard_source *source = &job->source;
    const struct uz_zero_settings *settings = &job->layout.settings;
    summary->tag = job->tag;
    summary->ds_version = source->info.metadata.ds_version;
    summary->from_universal = source->info.is_universal;
    summary->old_stage = source->info.stage;
    summary->stage = settings->stage;
    summary->old_world_size = source->info.dp_world_size;
    summary->world_size = settings->world;
    summary->bf16_optimizer = settings->bf16_optimizer;
    summary->round_robin = settings->round_robin && settings->stage < 3;
    summary->parameter_alignment = settings->align && settings->stage < 3;
    summary->sub_group_size = settings->stage == 3 ? settings->sub_group_size : 0;
    if (settings->world > summary->old_world_size)
        summary->n_new_ranks = settings->world - summary->old_world_size;
    summary->copied_rank_values = settings->stage == 3 && summary->n_new_ranks > 0;
    summary->threads = job->engine.threads;
    summary->warnings = (const char *const *)job->notes.items;
    summary->n_warnings = job->notes.n;
    UZ_TRY(uz_reshard_count_random_states(job, &summary->n_random_states_copied, err));
    UZ_TRY(describe_files(job, err));
    return describe_groups(job, err);
}

static int plan(struct uz_resharding *job, struct uz_error *err)
{
    UZ_TRY(check_options(&job->options, err));
    if (job->options.input.threads == 0)
        job->options.input.threads = uz_usable_processors();
    UZ_TRY(uz_tree_check(job->out_dir, err));
    UZ_TRY(uz_reshard_source_read(&job->source, job->checkpoint, &job->options.input, &job->notes,
                                  err));
    UZ_TRY(name_tag(job, err));
    UZ_TRY(uz_check_doubts(&job->source.model, &job->source.info, &job->notes, err));
    UZ_TRY(lay_out(job, err));
    UZ_TRY(make_files(job, err));
    UZ_TRY(uz_reshard_check_kept(job, err));
    UZ_TRY(uz_reshard_check_trainer(job, err));
    UZ_TRY(plan_run(job, err));
    return summarize(job, err);
}

int uz_resharding_plan(struct uz_resharding **out_job, const char *checkpoint, const char *out,
                       const struct uz_reshard_options *options, struct uz_error *err)
{
    struct uz_resharding *job;
    uz_error_clear(err);
    UZ_TRY(uz_alloc(&job, 1, sizeof *job, err));
    job->options = *options;
    job->notes.strict = options->input.strict;
    job->checkpoint = strdup(checkpoint);
    job->out_dir = strdup(out);
    int rc = job->checkpoint && job->out_dir ? plan(job, err) : uz_fail_nomem(err, strlen(out));
    if (rc < 0) {
        uz_resharding_free(job);
        return rc;
    }
    *out_job = job;
    return UZ_OK;
}

const struct uz_reshard_summary *uz_resharding_summary(const struct uz_resharding *job)
{
    return &job->summary;
}

/* ---- Running ---- */

static int write_files(struct uz_resharding *job, struct uz_new_tree *tree, struct uz_error *err)
{
    struct uz_engine_result result;
    char **paths;
    UZ_TRY(uz_tree_make(&tree->tree, &job->out, &paths, err));
    int rc = uz_engine_run(&job->plan, paths, &job->engine, &result, err);
    uz_tree_paths_free(paths, job->out.n_files);
    return rc;
}

int uz_resharding_run(struct uz_resharding *job, uz_progress_fn progress, void *cookie,
                      struct uz_error *err)
{
    static const enum uz_sync syncs[] = {
        [UZ_DURABLE_FULL] = UZ_SYNC_FULL,
        [UZ_DURABLE_DATA] = UZ_SYNC_DATA,
        [UZ_DURABLE_NONE] = UZ_SYNC_NONE,
    };
    struct uz_new_tree tree;
    uz_error_clear(err);
    job->engine.progress = progress;
    job->engine.cookie = cookie;
    UZ_TRY(uz_tree_check_room(job->out_dir, job->summary.file_nbytes, err));
    int rc = uz_new_tree_open(&tree, job->out_dir, job->tag, false, err);
    tree.tree.sync = syncs[job->options.durability];
    if (rc == UZ_OK)
        rc = write_files(job, &tree, err);
    if (rc == UZ_OK)
        rc = uz_reshard_bring_beside(job, &tree, err);
    if (rc == UZ_OK)
        rc = uz_new_tree_commit(&tree, err);
    uz_new_tree_close(&tree);
    return rc;
}

void uz_resharding_free(struct uz_resharding *job)
{
    if (!job)
        return;
    uz_plan_free(&job->plan);
    uz_out_free(&job->out);
    uz_stored_free(&job->stored);
    uz_zero_layout_free(&job->layout);
    uz_reshard_target_free(&job->target);
    uz_reshard_source_free(&job->source);
    uz_notes_free(&job->notes);
    free(job->files);
    free(job->groups);
    free(job->checkpoint);
    free(job->out_dir);
    free(job->tag);
    free(job);
}
