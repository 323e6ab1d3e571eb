/* SPDX-License-Identifier: Apache-2.0 */
/* From a directory to a finished model: the order of the steps. */
#include "zero/read.h"

#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "zero/archive_root.h"
#include "zero/pipe_layers.h"
#include "zero/rank_copies.h"
#include "zero/read_impl.h"
#include "zero/tp_rules.h"
#include "zero/universal_read.h"

/*
 * A universal checkpoint may have model states under the names of all stages: those of the stage
 * that the configuration tells are what was saved, the others are for loaders.
 */
static int choose_universal(struct uz_read *c, const struct uz_shard_file *any, bool *stage3,
                            struct uz_error *err)
{
    struct uz_torch_file *file;
    int64_t stage = 0;
    char *path = uz_shard_path(&c->topology, any);
    if (!path)
        return uz_fail_nomem(err, strlen(any->name));
    int rc = uz_torch_open(&file, path, &c->options->input.limits, err);
    free(path);
    UZ_TRY(rc);
    const struct uz_node *config = uz_node_get(uz_torch_root(file), "ds_config");
    if (!uz_node_int(uz_node_get(uz_node_get(config, "zero_optimization"), "stage"), &stage))
        rc = uz_fail_at(err, UZ_MISMATCH, uz_torch_path(file), UZ_NO_OFFSET,
                        "does not tell the ZeRO stage (ds_config), and there are model states of "
                        "ZeRO-3 and of another stage");
    *stage3 = stage == 3;
    uz_torch_close(file);
    return rc;
}

/* Which model states there are tells ZeRO 3 from the other stages. */
static int find_model_states(struct uz_read *c, struct uz_error *err)
{
    size_t n12, n3;
    const struct uz_shard_file *model12 = uz_topology_shards(&c->topology, UZ_SHARD_MODEL, &n12);
    const struct uz_shard_file *model3 = uz_topology_shards(&c->topology, UZ_SHARD_MODEL_Z3, &n3);
    bool stage3 = model3 != NULL;
    if (model12 && model3 && c->topology.is_universal)
        UZ_TRY(choose_universal(c, model12, &stage3, err));
    else if (model12 && model3)
        return uz_fail_at(err, UZ_MISMATCH, c->topology.dir, UZ_NO_OFFSET,
                          "holds model states of ZeRO-3 (%s) and of another stage (%s)",
                          model3->name, model12->name);
    if (!model12 && !model3)
        return uz_fail_at(
            err, UZ_MISMATCH, c->topology.dir, UZ_NO_OFFSET,
            "Expected mp_rank_00_model_states.pt or '*_model_states.pt' of every rank "
            "under %s but found none",
            c->topology.dir);
    c->model_kind = stage3 ? UZ_SHARD_MODEL_Z3 : UZ_SHARD_MODEL;
    c->layout = stage3 ? UZ_LAYOUT_STAGE3 : UZ_LAYOUT_STAGE12;
    if (c->options->input.source != UZ_SOURCE_LP)
        return UZ_OK;
    if (stage3)
        return uz_fail_at(err, UZ_UNSUPPORTED, c->topology.dir, UZ_NO_OFFSET,
                          "--source lp: the model states of ZeRO-3 hold no weights, only "
                          "placeholders (%s)",
                          model3->name);
    c->layout = UZ_LAYOUT_LP;
    return UZ_OK;
}

/* Copies of the model states in further folders must be of the same save. */
static int check_copy(const struct uz_read *c, const struct uz_shard_file *copy,
                      struct uz_error *err)
{
    struct uz_torch_file *file;
    struct uz_metadata metadata;
    const struct uz_reading *r = &c->slices[copy->mp];
    char *path = uz_shard_path(&c->topology, copy);
    if (!path)
        return uz_fail_nomem(err, strlen(copy->name));
    int rc = uz_torch_open(&file, path, &c->options->input.limits, err);
    if (rc == UZ_OK) {
        rc = uz_metadata_read(&metadata, file, err);
        uz_torch_close(file);
    }
    if (rc == UZ_OK)
        rc = uz_metadata_agree(&r->info->metadata, r->model->files[0], &metadata, path, err);
    free(path);
    return rc;
}

/* A state that was asked for must be there; if not, the message lists those that are. */
static int check_state(struct uz_read *c, struct uz_error *err)
{
    const char *wanted = c->options->state, *seen = "";
    if (!wanted || c->model->n_states > 1)
        return UZ_OK;
    for (uint32_t i = 0; i < c->n_slices && !*seen; i++)
        seen = c->slices[i].seen_states;
    if (!*seen && !strcmp(wanted, "all"))
        return uz_warn_of_data(
            c->notes, err,
            "there are no optimizer states in this checkpoint: only weights are written");
    if (!*seen)
        return uz_fail(err, UZ_ARG,
                       "there are no optimizer states in this checkpoint: it was saved before the "
                       "first step, or by an optimizer without any");
    return uz_fail(err, UZ_ARG, "the optimizer keeps no state '%s'; there are: %s", wanted, seen);
}

/* ---- The model-parallel ranks, one after another or side by side ---- */

/* A map that is not needed must be one all the same: the user named it. */
static int check_tp_map(const struct uz_read *c, struct uz_error *err)
{
    const char *path = c->options->input.tp_map;
    if (!path || c->n_slices > 1)
        return UZ_OK;
    UZ_TRY(uz_tp_rules_check_json(path, &c->options->input.limits, err));
    return uz_warn(c->notes, err, "--tp-map is of no use here: there is one tensor rank");
}

static int set_up_slices(struct uz_read *c, struct uz_error *err)
{
    unsigned threads = c->threads;
    UZ_TRY(uz_grid_count(&c->topology, c->model_kind, &c->n_slices, err));
    if (c->options->one_rank && c->options->mp >= c->n_slices)
        return uz_fail(err, UZ_ARG, "there is no model-parallel rank %u, only %u", c->options->mp,
                       c->n_slices);
    UZ_TRY(uz_alloc(&c->slices, c->n_slices, sizeof *c->slices, err));
    c->has_layers = uz_has_pipe_layers(&c->topology);
    UZ_TRY(check_tp_map(c, err));
    if (c->n_slices > 1 || c->has_layers)
        UZ_TRY(uz_alloc(&c->own, c->n_slices, sizeof *c->own, err));
    for (uint32_t mp = 0; mp < c->n_slices; mp++) {
        struct uz_reading *slice = &c->slices[mp];
        bool is_wanted = c->options->one_rank && c->options->mp == mp;
        struct uz_own *own = c->own && !is_wanted ? &c->own[mp] : NULL;
        size_t n;
        *slice = (struct uz_reading){
            .options = c->options,
            .topology = &c->topology,
            .mp = mp,
            .is_one_of_several = c->n_slices > 1,
            .first = uz_topology_shards_of(&c->topology, c->model_kind, mp, &n),
            .threads = threads > c->n_slices ? threads / c->n_slices : 1,
            .layout = c->layout,
            .model = own ? &own->model : c->model,
            .info = own ? &own->info : c->info,
            .notes = own ? &own->notes : c->notes,
        };
        if (!own)
            continue;
        own->notes.strict = c->notes->strict;
        UZ_TRY(uz_model_init(&own->model, &c->options->input.limits, err));
    }
    return UZ_OK;
}

/* Tensor ranks of a pipeline whose first stage is read before the others. */
static uint32_t count_early(const struct uz_read *c)
{
    uint32_t n = c->has_layers ? uz_grid_layer_ranks(&c->topology) : 1;
    return n < c->n_slices ? n : c->n_slices;
}

static int open_slice(struct uz_read *c, uint64_t mp, struct uz_error *err)
{
    struct uz_reading *slice = &c->slices[mp], *early = &c->slices[mp % count_early(c)];
    slice->ties_of = c->slices[0].model;
    if (early != slice)
        slice->layers = early->layers;
    return uz_reading_open(slice, err);
}

/* Rank 0 is open. */
static int open_early_job(void *cookie, uint64_t job, unsigned worker, struct uz_error *err)
{
    (void)worker;
    return open_slice(cookie, job + 1, err);
}

static int open_late_job(void *cookie, uint64_t job, unsigned worker, struct uz_error *err)
{
    (void)worker;
    return open_slice(cookie, job + count_early(cookie), err);
}

/* The copies of several model-parallel ranks of ZeRO 3 are not followed through the join. */
static int list_rank_copies(const struct uz_read *c, struct uz_reading *r, struct uz_error *err)
{
    if (c->n_slices == 1)
        return uz_reading_add_rank_copies(r, err);
    r->info->buffers_hide_copies = true;
    return UZ_OK;
}

static int join_job(void *cookie, uint64_t job, unsigned worker, struct uz_error *err)
{
    struct uz_read *c = cookie;
    struct uz_reading *r = &c->slices[job];
    (void)worker;
    if (r->layout == UZ_LAYOUT_STAGE12 || r->layout == UZ_LAYOUT_STAGE3) {
        UZ_TRY(uz_reading_join_ranks(r, err));
        if (c->options->all_copies && r->layout == UZ_LAYOUT_STAGE3)
            UZ_TRY(list_rank_copies(c, r, err));
    } else {
        UZ_TRY(uz_archive_root_check(r->info->metadata.archive_root, r->model->files[0], r->notes,
                                     err));
        r->world = r->info->metadata.dp_world_size ? r->info->metadata.dp_world_size : 1;
    }
    return uz_model_finish(r->model, err);
}

static int run_jobs(struct uz_read *c, uz_job_fn job, uint64_t n, struct uz_error *err)
{
    return uz_parallel(c->threads, n, job, NULL, c, err);
}

/* Rank 0 tells what others refer to, and a pipeline's first stage what the others share. */
static int open_all(struct uz_read *c, struct uz_error *err)
{
    uint32_t n_early = count_early(c);
    UZ_TRY(uz_reading_open(&c->slices[0], err));
    UZ_TRY(run_jobs(c, open_early_job, n_early - 1, err));
    return run_jobs(c, open_late_job, c->n_slices - n_early, err);
}

static const char *path_of(const struct uz_read *c, uint32_t slice)
{
    return c->slices[slice].model->files[0];
}

/* What the first files of all ranks tell must fit together before their shards are read. */
static int check_opened(struct uz_read *c, struct uz_error *err)
{
    const struct uz_reading *first = &c->slices[0];
    struct uz_grid_record *records;
    UZ_TRY(uz_alloc(&records, c->n_slices, sizeof *records, err));
    for (uint32_t i = 0; i < c->n_slices; i++)
        records[i] = (struct uz_grid_record){path_of(c, i), &c->slices[i].info->metadata};
    int rc = uz_grid_find(&c->grid, &c->topology, records, c->n_slices, err);
    free(records);
    UZ_TRY(rc);
    for (uint32_t i = 1; i < c->n_slices; i++) {
        UZ_TRY(uz_metadata_same_save(&first->info->metadata, path_of(c, 0),
                                     &c->slices[i].info->metadata, path_of(c, i), err));
        if (c->slices[i].layout != first->layout)
            return uz_fail_at(err, UZ_MISMATCH, path_of(c, i), UZ_NO_OFFSET,
                              "is of another ZeRO stage than %s: only one has 'param_shapes'",
                              path_of(c, 0));
    }
    for (size_t i = 0; i < c->topology.n_copies; i++)
        UZ_TRY(check_copy(c, &c->topology.copies[i], err));
    return UZ_OK;
}

/* The ranks' optimizers made their steps together. */
static int check_joined(struct uz_read *c, struct uz_error *err)
{
    const struct uz_zero_info *first = c->slices[0].info;
    for (uint32_t i = 1; i < c->n_slices; i++) {
        const struct uz_zero_info *info = c->slices[i].info;
        if (info->stage != first->stage)
            return uz_fail_at(err, UZ_MISMATCH, path_of(c, i), UZ_NO_OFFSET,
                              "is of ZeRO stage %d, %s of stage %d", info->stage, path_of(c, 0),
                              first->stage);
        if (info->has_step && first->has_step &&
            (info->step < first->step || info->step > first->step))
            return uz_fail_at(err, UZ_MISMATCH, path_of(c, i), UZ_NO_OFFSET,
                              "the optimizer of model-parallel rank %u made %.0f steps, that of "
                              "rank 0 %.0f: shards of different saves are mixed",
                              i, info->step, first->step);
    }
    return UZ_OK;
}

/* Takes over what was found on the way to the ranks' own models. */
static int gather_info(struct uz_read *c, struct uz_error *err)
{
    uint32_t first = c->options->one_rank ? c->options->mp : 0;
    if (c->own && !c->options->one_rank)
        *c->info = c->own[0].info;
    for (uint32_t i = 0; c->own && !c->options->one_rank && i < c->n_slices; i++) {
        const struct uz_zero_info *info = &c->own[i].info;
        c->info->round_robin |= info->round_robin;
        c->info->steps_differ |= info->steps_differ;
        c->info->has_experts |= info->has_experts;
        c->info->masters_by_fit |= info->masters_by_fit;
        c->info->buffers_hide_copies |= info->buffers_hide_copies;
        UZ_TRY(uz_notes_merge(c->notes, &c->own[i].notes, err));
    }
    c->info->dp_world_size = c->slices[first].world;
    c->info->tp = c->grid.tp;
    c->info->pp = c->grid.pp;
    c->info->tag = c->topology.tag;
    c->topology.tag = NULL;
    c->info->tp_rules = c->tp_rules;
    c->tp_rules = (struct uz_tp_rule_sets){0};
    return UZ_OK;
}

/* Joins the data-parallel ranks of each model-parallel one, or of the one that is wanted. */
static int join_ranks(struct uz_read *c, struct uz_error *err)
{
    if (c->options->one_rank)
        return join_job(c, c->options->mp, 0, err);
    UZ_TRY(run_jobs(c, join_job, c->n_slices, err));
    UZ_TRY(check_joined(c, err));
    return uz_read_join(c, err);
}

/* ---- Universal checkpoints ---- */

/* Modules of ZeRO 0 to 2 hold what no piece tells of: cut for tensor ranks, or padded. */
static void mark_hidden_copies(struct uz_read *c, uint32_t n_mp)
{
    c->info->buffers_hide_copies = n_mp > 1 || (c->info->stage == 3 && c->slices[0].world > 1);
    for (size_t i = 0; i < c->model->n_tensors; i++) {
        struct uz_tensor *tensor = &c->model->tensors[i];
        if (tensor->role == UZ_ROLE_PARAM && c->info->stage != 3 && tensor->lp == UZ_NONE)
            tensor->hides_copies = tensor->lp_dtype != UZ_DTYPE_INVALID;
    }
}

/* Parameters are whole already: one reading goes through the files of all ranks. */
static int read_universal(struct uz_read *c, struct uz_error *err)
{
    uint32_t n_mp;
    size_t n;
    if (c->options->one_rank)
        return uz_fail_at(err, UZ_ARG, c->topology.dir, UZ_NO_OFFSET,
                          "is a universal checkpoint: it has no model-parallel ranks' shards");
    UZ_TRY(uz_grid_count(&c->topology, c->model_kind, &n_mp, err));
    UZ_TRY(uz_alloc(&c->slices, 1, sizeof *c->slices, err));
    c->n_slices = 1;
    c->slices[0] = (struct uz_reading){
        .options = c->options,
        .topology = &c->topology,
        .first = uz_topology_shards_of(&c->topology, c->model_kind, 0, &n),
        .threads = c->threads,
        .layout = c->layout,
        .model = c->model,
        .info = c->info,
        .notes = c->notes,
    };
    UZ_TRY(uz_universal_read(&c->slices[0], n_mp, err));
    mark_hidden_copies(c, n_mp);
    UZ_TRY(check_state(c, err));
    return gather_info(c, err);
}

static int read_checkpoint(struct uz_read *c, const char *path, struct uz_error *err)
{
    struct uz_topology_request request = {
        .path = path,
        .tag = c->options->input.tag,
        .input_dirs = c->options->input.input_dirs,
        .n_input_dirs = c->options->input.n_input_dirs,
        .max_shards = c->options->input.limits.max_shards,
    };
    UZ_TRY(uz_topology_open(&c->topology, &request, err));
    UZ_TRY(
        uz_topology_refuse_by_names(&c->topology, c->options->input.source == UZ_SOURCE_LP, err));
    UZ_TRY(find_model_states(c, err));
    c->info->is_universal = c->topology.is_universal;
    if (c->topology.is_universal && c->layout != UZ_LAYOUT_LP)
        return read_universal(c, err);
    UZ_TRY(set_up_slices(c, err));
    UZ_TRY(open_all(c, err));
    UZ_TRY(check_opened(c, err));
    UZ_TRY(join_ranks(c, err));
    UZ_TRY(check_state(c, err));
    return gather_info(c, err);
}

static void free_slices(struct uz_read *c)
{
    for (uint32_t i = 0; c->slices && i < c->n_slices; i++)
        uz_reading_free(&c->slices[i]);
    for (uint32_t i = 0; c->own && i < c->n_slices; i++) {
        uz_model_free(&c->own[i].model);
        uz_notes_free(&c->own[i].notes);
    }
    for (uint32_t tp = 0; tp < c->n_layers; tp++)
        uz_model_free(&c->layers[tp]);
    uz_tp_rule_sets_free(&c->tp_rules);
    free(c->layers);
    free(c->slices);
    free(c->own);
}

int uz_zero_read(const char *path, const struct uz_zero_options *options, struct uz_model *model,
                 struct uz_zero_info *info, struct uz_notes *notes, struct uz_error *err)
{
    struct uz_read c = {.options = options, .model = model, .info = info, .notes = notes};
    unsigned threads = options->input.threads;
    c.threads = threads ? threads : uz_usable_processors();
    *info = (struct uz_zero_info){0};
    UZ_TRY(uz_model_init(model, &options->input.limits, err));
    int rc = read_checkpoint(&c, path, err);
    free_slices(&c);
    uz_topology_free(&c.topology);
    if (rc < 0)
        uz_model_free(model);
    return rc;
}

struct uz_source_info uz_zero_source(const struct uz_zero_info *info)
{
    return (struct uz_source_info){
        .tag = info->tag,
        .ds_version = info->metadata.ds_version,
        .zero_stage = info->stage,
        .world_size = info->dp_world_size,
    };
}

void uz_zero_info_free(struct uz_zero_info *info)
{
    free(info->tag);
    uz_tp_rule_sets_free(&info->tp_rules);
    *info = (struct uz_zero_info){0};
}
