/* SPDX-License-Identifier: Apache-2.0 */
/* The shards of all data-parallel ranks of a model-parallel one: read, compared, joined. */
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "zero/archive_root.h"
#include "zero/join.h"
#include "zero/optim_state.h"
#include "zero/reading.h"

/* The world size: recorded, or for files without a record the number of shards. */
static int check_world(struct uz_reading *r, struct uz_error *err)
{
    size_t n_optim;
    uz_topology_shards_of(r->topology, UZ_SHARD_OPTIM, r->mp, &n_optim);
    r->world = r->info->metadata.dp_world_size ? r->info->metadata.dp_world_size : n_optim;
    int rc = uz_topology_check_ranks(r->topology, UZ_SHARD_OPTIM, r->mp, r->world ? r->world : 1,
                                     "*_optim_states.pt", err);
    if (rc == UZ_MISMATCH)
        rc = uz_hint(err, rc, "; folders with further shards are given by --input-dir");
    if (rc == UZ_MISMATCH && r->layout == UZ_LAYOUT_STAGE12)
        return uz_hint(err, rc,
                       "; without these files only the 16-bit weights are left: --source lp "
                       "exports them");
    UZ_TRY(rc);
    if (r->layout == UZ_LAYOUT_STAGE3)
        UZ_TRY(uz_topology_check_ranks(r->topology, UZ_SHARD_MODEL_Z3, r->mp, r->world,
                                       "*_model_states.pt", err));
    return UZ_OK;
}

/* Adds the files of a kind, in the order of ranks, to the model. */
static int add_files(struct uz_reading *r, enum uz_shard_kind kind, uint32_t **files,
                     struct uz_error *err)
{
    size_t n;
    const struct uz_shard_file *shards = uz_topology_shards_of(r->topology, kind, r->mp, &n);
    UZ_TRY(uz_alloc(files, r->world, sizeof **files, err));
    for (size_t i = 0; i < n; i++) {
        char *path = uz_shard_path(r->topology, &shards[i]);
        if (!path)
            return uz_fail_nomem(err, strlen(shards[i].name));
        int rc = uz_model_add_file(r->model, path, &(*files)[i], err);
        free(path);
        UZ_TRY(rc);
    }
    return UZ_OK;
}

/* One rank's ZeRO-3 model states: metadata, which must agree, and slices of frozen parameters. */
static int read_model_values(struct uz_reading *r, uint64_t rank, struct uz_torch_file *file,
                             struct uz_error *err)
{
    UZ_TRY(uz_metadata_read(&r->metadata[rank], file, err));
    UZ_TRY(uz_metadata_agree(&r->info->metadata, r->model->files[r->model_files[0]],
                             &r->metadata[rank], uz_torch_path(file), err));
    if (r->frozen.n)
        return uz_frozen_read_slices(&r->frozen, file, r->model, r->world, r->frozen_slices[rank],
                                     err);
    uz_torch_saw(file, &r->seen);
    return UZ_OK;
}

/* Without frozen parameters most ranks' pickles are copies of others: one of each kind is read. */
static int read_model_shard(struct uz_reading *r, uint64_t rank, struct uz_error *err)
{
    struct uz_torch_file *file;
    bool was_seen;
    int rc = UZ_OK;
    const char *path = r->model->files[r->model_files[rank]];
    UZ_TRY(uz_alloc(&r->frozen_slices[rank], r->frozen.n, sizeof **r->frozen_slices, err));
    UZ_TRY(uz_torch_open_unseen(&file, path, &r->options->input.limits, &r->seen, &was_seen, err));
    if (was_seen)
        uz_metadata_copy(&r->metadata[rank], &r->info->metadata, file);
    else
        rc = read_model_values(r, rank, file, err);
    uz_torch_close(file);
    return rc;
}

/* Job 2 * rank reads that rank's optimizer file, job 2 * rank + 1 its ZeRO-3 model states. */
static int read_job(void *cookie, uint64_t job, unsigned worker, struct uz_error *err)
{
    struct uz_reading *r = cookie;
    uint64_t rank = job / 2;
    struct uz_optim_request request = {
        .params = &r->params,
        .model = r->model,
        .state = r->options->state,
        .limits = &r->options->input.limits,
    };
    (void)worker;
    if (job % 2 == 0)
        return uz_optim_shard_read(&r->shards[rank], r->model->files[r->optim_files[rank]], rank,
                                   &request, err);
    return r->model_files ? read_model_shard(r, rank, err) : UZ_OK;
}

static int set_up_model_shards(struct uz_reading *r, struct uz_error *err)
{
    UZ_TRY(uz_reading_need_seen(r, err));
    UZ_TRY(uz_alloc(&r->metadata, r->world, sizeof *r->metadata, err));
    UZ_TRY(uz_alloc(&r->frozen_slices, r->world, sizeof *r->frozen_slices, err));
    return add_files(r, UZ_SHARD_MODEL_Z3, &r->model_files, err);
}

static int read_ranks(struct uz_reading *r, struct uz_error *err)
{
    UZ_TRY(uz_alloc(&r->shards, r->world, sizeof *r->shards, err));
    UZ_TRY(add_files(r, UZ_SHARD_OPTIM, &r->optim_files, err));
    if (r->layout == UZ_LAYOUT_STAGE3)
        UZ_TRY(set_up_model_shards(r, err));
    return uz_parallel(r->threads, 2 * r->world, read_job, NULL, r, err);
}

static int wrong_count(const struct uz_reading *r, const char *path, uint64_t count, size_t group,
                       struct uz_error *err)
{
    return uz_fail_at(err, UZ_MISMATCH, path, UZ_NO_OFFSET,
                      "Expected %llu of '*_optim_states.pt' under %s but found %llu: this "
                      "shard records partition_count %llu for group %zu",
                      (unsigned long long)count, r->topology->dir, (unsigned long long)r->world,
                      (unsigned long long)count, group);
}

static int check_partition_counts(const struct uz_reading *r, uint64_t rank, struct uz_error *err)
{
    const struct uz_optim_shard *shard = &r->shards[rank];
    const char *path = r->model->files[r->optim_files[rank]];
    for (size_t g = 0; r->layout != UZ_LAYOUT_STAGE3 && g < shard->n_groups; g++) {
        uint64_t count = shard->groups[g].partition_count;
        uint64_t want = uz_params_n_parts(&r->params, g);
        if (count != want && r->params.group_has_experts[g])
            return uz_fail_at(err, UZ_MISMATCH, path, UZ_NO_OFFSET,
                              "records partition_count %llu for group %zu, whose experts are cut "
                              "into %llu partitions: %llu ranks over %llu expert-parallel ranks",
                              (unsigned long long)count, g, (unsigned long long)want,
                              (unsigned long long)r->world,
                              (unsigned long long)r->params.group_ranks[g].ep);
        if (count != want)
            return wrong_count(r, path, count, g, err);
    }
    for (size_t g = 0; r->layout == UZ_LAYOUT_STAGE3 && g < shard->n_groups; g++)
        if (!shard->groups[g].has_part && shard->groups[g].partition_count != r->world)
            return wrong_count(r, path, shard->groups[g].partition_count, g, err);
    return UZ_OK;
}

static int check_shards_agree(const struct uz_reading *r, struct uz_error *err)
{
    const struct uz_optim_shard *first = &r->shards[0];
    for (uint64_t rank = 0; rank < r->world; rank++) {
        const struct uz_optim_shard *shard = &r->shards[rank];
        const char *path = r->model->files[r->optim_files[rank]];
        if ((shard->stage == 3) != (r->layout == UZ_LAYOUT_STAGE3) ||
            shard->stage != first->stage || shard->bf16_optimizer != first->bf16_optimizer)
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

static int check_archive_roots(const struct uz_reading *r, struct uz_error *err)
{
    const struct uz_model *model = r->model;
    if (!r->metadata)
        UZ_TRY(
            uz_archive_root_check(r->info->metadata.archive_root, model->files[0], r->notes, err));
    for (uint64_t rank = 0; rank < r->world; rank++) {
        UZ_TRY(uz_archive_root_check(r->shards[rank].archive_root,
                                     model->files[r->optim_files[rank]], r->notes, err));
        if (r->metadata)
            UZ_TRY(uz_archive_root_check(r->metadata[rank].archive_root,
                                         model->files[r->model_files[rank]], r->notes, err));
    }
    return UZ_OK;
}

int uz_reading_set_step(struct uz_reading *r, double step, struct uz_error *err)
{
    const struct uz_metadata *metadata = &r->info->metadata;
    double made = (double)(metadata->global_steps - metadata->skipped_steps);
    r->info->has_step = true;
    r->info->step = step;
    if (!metadata->has_steps || (step >= made && step <= made))
        return UZ_OK;
    r->info->steps_differ = true;
    return uz_warn_of_data(
        r->notes, err,
        "the optimizer made %.0f steps, the model states tell of %.0f: files of different saves, "
        "or an optimizer that was reset",
        step, made);
}

static bool has_state(const struct uz_optim_group *group, const char *name)
{
    for (size_t i = 0; i < group->n_states; i++)
        if (!strcmp(group->states[i].name, name))
            return true;
    return false;
}

/* What has another size on rank 0 must have another on all ranks: else it is rank 0's damage. */
static int check_misfit(const struct uz_reading *r, const struct uz_optim_shard *first,
                        struct uz_error *err)
{
    for (size_t g = 0; g < first->n_groups; g++)
        for (uint64_t rank = 1; rank < r->world && g < r->shards[rank].n_groups; rank++)
            if (!has_state(&first->groups[g], first->misfit) &&
                has_state(&r->shards[rank].groups[g], first->misfit))
                return uz_fail_at(err, UZ_MISMATCH, r->model->files[r->optim_files[0]],
                                  UZ_NO_OFFSET,
                                  "the optimizer state %s of group %zu has not as many elements as "
                                  "the partition; on rank %llu it has",
                                  first->misfit, g, (unsigned long long)rank);
    return UZ_OK;
}

/* A state that was asked for has another size than the partition. */
static int note_misfit(struct uz_reading *r, const struct uz_optim_shard *first,
                       struct uz_error *err)
{
    bool any = false;
    UZ_TRY(check_misfit(r, first, err));
    for (size_t g = 0; g < first->n_groups; g++)
        any |= has_state(&first->groups[g], first->misfit);
    if (!any && strcmp(r->options->state, "all") != 0)
        return uz_fail(err, UZ_UNSUPPORTED,
                       "the optimizer state %s has not an element for each of the parameters': it "
                       "cannot be made whole",
                       first->misfit);
    return uz_warn_of_data(r->notes, err,
                           "the optimizer state %s is left out: it has not an element for each of "
                           "the parameters'",
                           first->misfit);
}

/* What the values must prove, because the metadata leaves it open. */
static int note_doubts(struct uz_reading *r, struct uz_error *err)
{
    const struct uz_optim_shard *first = &r->shards[0];
    if (first->compressed)
        UZ_TRY(uz_warn_of_states(r->notes, first->compressed, err));
    if (*first->misfit)
        UZ_TRY(note_misfit(r, first, err));
    for (uint64_t rank = 0; rank < r->world; rank++)
        for (size_t g = 0; g < r->shards[rank].n_groups; g++)
            if (r->shards[rank].groups[g].mapping == UZ_MAPPING_ROUND_ROBIN)
                r->info->round_robin = true;
    if (r->info->round_robin)
        UZ_TRY(uz_warn(r->notes, err,
                       "round_robin_gradients: param_slice_mappings in these files follows another "
                       "order than the buffers; param_shapes was followed. Tools that trust the "
                       "mapping (universal conversion, safe_get_full_*) give wrong values"));
    r->info->step = first->step;
    if (!first->has_step || !first->step_is_of_state)
        return UZ_OK;
    return uz_reading_set_step(r, first->step, err);
}

static int join(struct uz_reading *r, struct uz_error *err)
{
    struct uz_ranks ranks = {
        .world = r->world,
        .state = r->options->state,
        .shards = r->shards,
        .optim_files = r->optim_files,
        .frozen_slices = r->frozen_slices,
        .model_files = r->model_files,
    };
    if (r->layout == UZ_LAYOUT_STAGE3) {
        UZ_TRY(uz_join_stage3(r->model, &r->params, &ranks, err));
        UZ_TRY(uz_join_frozen(r->model, &r->frozen, &ranks, err));
    } else {
        UZ_TRY(uz_join_stage12(r->model, &r->params, &ranks, err));
    }
    return UZ_OK;
}

static void note_states(struct uz_reading *r)
{
    for (size_t g = 0; g < r->shards[0].n_groups; g++)
        for (size_t i = 0; i < r->shards[0].groups[g].n_states; i++) {
            const char *name = r->shards[0].groups[g].states[i].name;
            uz_reading_note_state(r, name, strlen(name));
        }
}

int uz_reading_join_ranks(struct uz_reading *r, struct uz_error *err)
{
    UZ_TRY(check_world(r, err));
    UZ_TRY(read_ranks(r, err));
    if (!r->is_one_of_several)
        uz_mem_trim();
    UZ_TRY(check_shards_agree(r, err));
    UZ_TRY(check_archive_roots(r, err));
    int rc = join(r, err);
    if (rc == UZ_MISMATCH && r->on_nvme)
        return uz_fail_at(
            err, UZ_UNSUPPORTED, r->topology->dir, UZ_NO_OFFSET,
            "the optimizer was offloaded to NVMe, and not all of its partitions are in "
            "the shards: its swap files (offloaded_tensors) are not read");
    UZ_TRY(rc);
    r->info->stage = r->shards[0].stage;
    note_states(r);
    return note_doubts(r, err);
}

int uz_reading_join_frozen(struct uz_reading *r, struct uz_error *err)
{
    struct uz_ranks ranks = {0};
    if (r->frozen.n == 0 || r->layout != UZ_LAYOUT_STAGE3)
        return UZ_OK;
    UZ_TRY(uz_topology_check_ranks(r->topology, UZ_SHARD_MODEL_Z3, r->mp, r->world,
                                   "*_model_states.pt", err));
    UZ_TRY(set_up_model_shards(r, err));
    for (uint64_t rank = 0; rank < r->world; rank++)
        UZ_TRY(read_model_shard(r, rank, err));
    ranks.world = r->world;
    ranks.frozen_slices = r->frozen_slices;
    ranks.model_files = r->model_files;
    return uz_join_frozen(r->model, &r->frozen, &ranks, err);
}
