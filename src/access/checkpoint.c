/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a checkpoint: everything that later reads rely on is checked here. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "access/checkpoint_impl.h"
#include "base/parallel.h"
#include "check/doubts.h"
#include "check/replicas.h"

enum { BUFFER_NBYTES = 1024 * 1024 };

void uz_checkpoint_options_default(struct uz_checkpoint_options *options)
{
    *options = (struct uz_checkpoint_options){
        .state = "all", .spool_dir = "/tmp", .model_parallel_rank = -1};
    uz_input_options_default(&options->input);
}

static int compare_u32(uint32_t a, uint32_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_states(const void *left, const void *right)
{
    const struct uz_state_of *a = left, *b = right;
    return a->param != b->param ? compare_u32(a->param, b->param) : compare_u32(a->state, b->state);
}

/* Tensors that are states stand behind the others; finds them by parameter from now on. */
static int index_states(struct uz_checkpoint *c, struct uz_error *err)
{
    const struct uz_model *model = &c->model;
    while (c->n_weights < model->n_tensors && model->tensors[c->n_weights].role != UZ_ROLE_STATE)
        c->n_weights++;
    UZ_TRY(uz_alloc(&c->states, model->n_tensors - c->n_weights, sizeof *c->states, err));
    for (size_t i = c->n_weights; i < model->n_tensors; i++) {
        const struct uz_tensor *tensor = &model->tensors[i];
        c->states[c->n_states++] = (struct uz_state_of){tensor->param, tensor->state, (uint32_t)i};
    }
    if (c->n_states > 0)
        qsort(c->states, c->n_states, sizeof *c->states, compare_states);
    return UZ_OK;
}

static int compare_partitions(const void *left, const void *right, void *model)
{
    const struct uz_partition *a = &((struct uz_model *)model)->partitions[*(const uint32_t *)left];
    const struct uz_partition *b =
        &((struct uz_model *)model)->partitions[*(const uint32_t *)right];
    if (a->mp != b->mp)
        return compare_u32(a->mp, b->mp);
    if (a->rank != b->rank)
        return compare_u32(a->rank, b->rank);
    if (a->group != b->group)
        return compare_u32(a->group, b->group);
    return compare_u32(a->state, b->state);
}

/* A partition stands before its states; pieces find theirs by the storage. */
static int index_partitions(struct uz_checkpoint *c, struct uz_error *err)
{
    struct uz_model *model = &c->model;
    UZ_TRY(uz_alloc(&c->sorted, model->n_partitions, sizeof *c->sorted, err));
    UZ_TRY(uz_alloc(&c->partitions, model->n_partitions, sizeof *c->partitions, err));
    UZ_TRY(uz_alloc(&c->at_place, model->n_places, sizeof *c->at_place, err));
    for (size_t i = 0; i < model->n_places; i++)
        c->at_place[i] = UZ_NONE;
    for (size_t i = 0; i < model->n_partitions; i++) {
        c->sorted[i] = (uint32_t)i;
        c->partitions[i] = (struct uz_origin){
            .checkpoint = c,
            .number = (uint32_t)i,
            .source = {.read = uz_read_partition, .cookie = &c->partitions[i]},
        };
    }
    if (model->n_partitions > 0)
        qsort_r(c->sorted, model->n_partitions, sizeof *c->sorted, compare_partitions, model);
    for (size_t i = 0; i < model->n_partitions; i++)
        c->at_place[model->partitions[c->sorted[i]].place] = (uint32_t)i;
    return UZ_OK;
}

static void describe(struct uz_checkpoint *c)
{
    c->info = (struct uz_checkpoint_info){
        .tag = c->zero.tag,
        .ds_version = c->zero.metadata.ds_version,
        .zero_stage = c->zero.stage,
        .world_size = c->zero.dp_world_size,
        .n_tensors = c->n_weights,
        .states = c->model.states + 1, /* behind that of the weight itself */
        .n_states = c->model.n_states - 1,
        .warnings = (const char *const *)c->notes.items,
        .n_warnings = c->notes.n,
    };
}

static int open_fetch(struct uz_checkpoint *c, struct uz_error *err)
{
    UZ_TRY(uz_fetch_check(&c->model, err));
    UZ_TRY(uz_fetch_init(&c->fetch, &c->model, BUFFER_NBYTES, uz_fd_slots_for(1), err));
    int sys_errno = pthread_mutex_init(&c->lock, NULL);
    if (sys_errno)
        return uz_fail_errno(err, sys_errno, NULL, "cannot make a lock");
    c->has_lock = true;
    return UZ_OK;
}

static int open_model(struct uz_checkpoint *c, const struct uz_checkpoint_options *options,
                      struct uz_error *err)
{
    unsigned threads = options->input.threads ? options->input.threads : uz_usable_processors();
    UZ_TRY(uz_check_doubts(&c->model, &c->zero, &c->notes, err));
    UZ_TRY(uz_spool_open(&c->spool, &c->model, options->spool_dir, threads, &options->input.limits,
                         err));
    UZ_TRY(uz_check_replicas(&c->model, threads, BUFFER_NBYTES, err));
    UZ_TRY(open_fetch(c, err));
    UZ_TRY(index_states(c, err));
    return index_partitions(c, err);
}

int uz_checkpoint_open(struct uz_checkpoint **checkpoint, const char *path,
                       const struct uz_checkpoint_options *options, struct uz_error *err)
{
    struct uz_zero_options zero = {
        .input = options->input,
        .state = options->state,
        .one_rank = options->model_parallel_rank >= 0,
    };
    struct uz_checkpoint *c;
    uz_error_clear(err);
    if (options->model_parallel_rank > UINT32_MAX)
        return uz_fail(err, UZ_ARG, "there is no model-parallel rank %lld",
                       (long long)options->model_parallel_rank);
    if (zero.one_rank)
        zero.mp = (uint32_t)options->model_parallel_rank;
    UZ_TRY(uz_alloc(&c, 1, sizeof *c, err));
    c->notes.strict = options->input.strict;
    int rc = uz_zero_read(path, &zero, &c->model, &c->zero, &c->notes, err);
    if (rc < 0) { /* there is no model then */
        uz_zero_info_free(&c->zero);
        uz_notes_free(&c->notes);
        free(c);
        return rc;
    }
    rc = open_model(c, options, err);
    if (rc < 0) {
        uz_checkpoint_close(c);
        return rc;
    }
    describe(c);
    *checkpoint = c;
    return UZ_OK;
}

void uz_checkpoint_close(struct uz_checkpoint *c)
{
    if (!c)
        return;
    uz_fetch_free(&c->fetch);
    if (c->has_lock)
        pthread_mutex_destroy(&c->lock);
    uz_spool_close(c->spool);
    free(c->states);
    free(c->sorted);
    free(c->at_place);
    free(c->partitions);
    uz_model_free(&c->model);
    uz_zero_info_free(&c->zero);
    uz_notes_free(&c->notes);
    free(c);
}

const struct uz_checkpoint_info *uz_checkpoint_info(const struct uz_checkpoint *checkpoint)
{
    return &checkpoint->info;
}
