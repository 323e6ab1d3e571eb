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
#include "convert/parts.h"
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

/*
 * Bytes of layout, beyond which the next ranks' files are made later: a thousand ranks of stage 3
 * would take hundreds of MiB, and a rank at a time would leave threads without work.
 */
enum { GROUP_NBYTES = 32 * 1024 * 1024 };

static uint64_t laid_out_memory(const struct uz_resharding *job)
{
    static const struct uz_items no_items;
    struct uz_items items = no_items;
    items.arena = job->stored.model.arena;
    return uz_tables_memory(&job->stored.model, &items, &job->out);
}

static int lay_out_rank(struct uz_resharding *job, uint64_t rank, struct uz_error *err)
{
    if (job->layout.settings.stage == 3 || rank == 0)
        UZ_TRY(uz_reshard_add_states(job, rank, err));
    return uz_reshard_add_optim(job, rank, err);
}

static void forget_ranks(struct uz_resharding *job)
{
    uz_out_free(&job->out);
    uz_stored_free(&job->stored);
    job->first_rank = job->end_rank = 0;
}

/*
 * Lays the files of rank `first` and some that follow it out, in the place of others; nothing is to
 * be done if they are. The values of each file are made and written as a pickle, then forgotten.
 * What can only be read from front to back is gone through once, for all files.
 */
static int lay_out_ranks(struct uz_resharding *job, uint64_t first, struct uz_error *err)
{
    const bool all = uz_model_is_packed(&job->source.model);
    uint64_t rank = first;
    if (job->end_rank > first && job->first_rank == first)
        return UZ_OK;
    forget_ranks(job);
    UZ_TRY(uz_stored_start(&job->stored, &job->source.model, &job->options.input.limits, err));
    do
        UZ_TRY(lay_out_rank(job, rank++, err));
    while (rank < job->layout.settings.world && (all || laid_out_memory(job) < GROUP_NBYTES));
    job->first_rank = first;
    job->end_rank = rank;
    return uz_model_finish(&job->stored.model, err);
}

static int note_files(struct uz_resharding *job, struct uz_error *err)
{
    for (size_t i = 0; i < job->out.n_files; i++) {
        const struct uz_out_file *from = &job->out.files[i];
        struct uz_reshard_file *file;
        UZ_TRY(UZ_APPEND(job->files, job->n_files, job->cap_files, &file, err));
        UZ_TRY(uz_arena_strndup(job->arena, from->name, strlen(from->name), &file->name, err));
        file->nbytes = from->nbytes;
    }
    job->data_nbytes += job->out.data_nbytes;
    return UZ_OK;
}

/* Lays all files out once, to see that they can be and how large they get. */
static int measure(struct uz_resharding *job, struct uz_error *err)
{
    uint64_t tables = 0;
    for (uint64_t rank = 0; rank < job->layout.settings.world; rank = job->end_rank) {
        UZ_TRY(lay_out_ranks(job, rank, err));
        UZ_TRY(uz_parts_check(&job->stored.model, &job->out, err));
        UZ_TRY(note_files(job, err));
        if (laid_out_memory(job) > tables)
            tables = laid_out_memory(job);
    }
    tables += uz_model_memory(&job->source.model) + uz_arena_used(job->arena) +
              job->cap_files * sizeof *job->files;
    job->engine.stream_nbytes = uz_stream_memory(&job->stored.model); /* it has all places */
    UZ_TRY(uz_fit_memory(job->options.input.threads, job->options.max_memory, tables, &job->engine,
                         err));
    job->engine.limits = job->options.input.limits;
    job->summary.memory_nbytes = uz_run_memory(&job->engine, tables);
    return UZ_OK;
}

/* ---- The summary ---- */

static void describe_files(struct uz_resharding *job)
{
    struct uz_reshard_summary *summary = &job->summary;
    const size_t n_of_rank = job->layout.settings.stage == 3 ? 2 : 1;
    for (size_t i = 0; i < job->n_files; i++) {
        summary->file_nbytes += job->files[i].nbytes;
        if (n_of_rank == 2 ? i < 2 : i == 1)
            summary->rank_nbytes += job->files[i].nbytes;
    }
    summary->files = job->files;
    summary->n_files = job->n_files;
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
    describe_files(job);
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
    UZ_TRY(measure(job, err));
    UZ_TRY(uz_reshard_check_kept(job, err));
    UZ_TRY(uz_reshard_check_trainer(job, err));
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
    job->arena = uz_arena_new(options->input.limits.max_pickle_arena);
    int rc = job->checkpoint && job->out_dir && job->arena ? plan(job, err)
                                                           : uz_fail_nomem(err, strlen(out));
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

static int write_files(struct uz_resharding *job, struct uz_tree *tree, struct uz_parts *parts,
                       struct uz_error *err)
{
    for (uint64_t rank = 0; rank < job->layout.settings.world; rank = job->end_rank) {
        UZ_TRY(lay_out_ranks(job, rank, err));
        UZ_TRY(uz_parts_run(parts, tree, &job->stored.model, &job->out, &job->engine, err));
    }
    return UZ_OK;
}

int uz_resharding_run(struct uz_resharding *job, uz_progress_fn progress, void *cookie,
                      struct uz_error *err)
{
    static const enum uz_sync syncs[] = {
        [UZ_DURABLE_FULL] = UZ_SYNC_FULL,
        [UZ_DURABLE_DATA] = UZ_SYNC_DATA,
        [UZ_DURABLE_NONE] = UZ_SYNC_NONE,
    };
    struct uz_parts parts = {progress, cookie, 0, job->data_nbytes};
    struct uz_new_tree tree;
    uz_error_clear(err);
    UZ_TRY(uz_tree_check_room(job->out_dir, job->summary.file_nbytes, err));
    int rc = uz_new_tree_open(&tree, job->out_dir, job->tag, false, err);
    tree.tree.sync = syncs[job->options.durability];
    if (rc == UZ_OK)
        rc = write_files(job, &tree.tree, &parts, err);
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
    forget_ranks(job);
    uz_zero_layout_free(&job->layout);
    uz_reshard_target_free(&job->target);
    uz_reshard_source_free(&job->source);
    uz_notes_free(&job->notes);
    uz_arena_free(job->arena);
    free(job->files);
    free(job->groups);
    free(job->checkpoint);
    free(job->out_dir);
    free(job->tag);
    free(job);
}
