/* SPDX-License-Identifier: Apache-2.0 */
/* What all files must agree on: most of them are right, the others are told. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "check/verify_run.h"

/* What one file says. */
struct vote {
    const struct uz_record *record;
    char text[96];
};

struct ballot {
    struct vote *votes;
    size_t n, cap;
};

static int cast_vote(struct ballot *ballot, const struct uz_record *record, struct uz_error *err,
                     const char *fmt, ...) UZ_PRINTF(4, 5);

static int cast_vote(struct ballot *ballot, const struct uz_record *record, struct uz_error *err,
                     const char *fmt, ...)
{
    struct vote *vote;
    UZ_TRY(UZ_APPEND(ballot->votes, ballot->n, ballot->cap, &vote, err));
    va_list args;
    va_start(args, fmt);
    vsnprintf(vote->text, sizeof vote->text, fmt, args);
    va_end(args);
    vote->record = record;
    return UZ_OK;
}

/* The vote that most files share; of two with as many, the one that comes first. */
static const struct vote *most_common(const struct ballot *ballot)
{
    const struct vote *best = NULL;
    size_t best_n = 0;
    for (size_t i = 0; i < ballot->n; i++) {
        size_t n = 0;
        if (best && !strcmp(best->text, ballot->votes[i].text))
            continue;
        for (size_t j = i; j < ballot->n; j++)
            n += !strcmp(ballot->votes[i].text, ballot->votes[j].text);
        if (n > best_n) {
            best = &ballot->votes[i];
            best_n = n;
        }
        if (2 * best_n > ballot->n)
            break;
    }
    return best;
}

/* Tells the files that differ from most, counts them out, and empties the ballot. */
static int count_votes(struct uz_verify_run *run, struct ballot *ballot, enum uz_find what,
                       const char *noun, struct uz_error *err)
{
    const struct vote *best = most_common(ballot);
    int rc = UZ_OK;
    for (size_t i = 0; i < ballot->n && rc == UZ_OK; i++) {
        const struct vote *vote = &ballot->votes[i];
        struct uz_where where = uz_record_where(vote->record);
        if (strcmp(vote->text, best->text))
            rc = uz_find(&run->findings, what, &where, err, "%s %s here, but %s in %s", noun,
                         vote->text, best->text, best->record->shard.name);
    }
    ballot->n = 0;
    return rc;
}

static int agree_on_steps(struct uz_verify_run *run, struct ballot *ballot, struct uz_error *err)
{
    for (size_t i = 0; i < run->n_records; i++)
        if (run->records[i].has_metadata && run->records[i].metadata.has_steps)
            UZ_TRY(cast_vote(ballot, &run->records[i], err, "%lld",
                             (long long)run->records[i].metadata.global_steps));
    UZ_TRY(count_votes(run, ballot, UZ_FIND_MIXED_STEPS, "global_steps is", err));
    for (size_t i = 0; i < run->n_records; i++)
        if (run->records[i].has_optim && run->records[i].optim.has_step)
            UZ_TRY(cast_vote(ballot, &run->records[i], err, "%.0f", run->records[i].optim.step));
        else if (run->records[i].has_optim)
            UZ_TRY(cast_vote(ballot, &run->records[i], err, "not recorded"));
    return count_votes(run, ballot, UZ_FIND_MIXED_STEPS, "the optimizer's step is", err);
}

static int agree_on_versions(struct uz_verify_run *run, struct ballot *ballot, struct uz_error *err)
{
    for (size_t i = 0; i < run->n_records; i++) {
        const struct uz_record *record = &run->records[i];
        const char *version =
            record->has_metadata ? record->metadata.ds_version : record->optim.ds_version;
        if (record->has_metadata || record->has_optim)
            UZ_TRY(cast_vote(ballot, record, err, "'%s'", version));
    }
    return count_votes(run, ballot, UZ_FIND_MIXED_VERSIONS, "ds_version is", err);
}

static int agree_on_stages(struct uz_verify_run *run, struct ballot *ballot, struct uz_error *err)
{
    for (size_t i = 0; i < run->n_records; i++) {
        const struct uz_record *record = &run->records[i];
        if (record->has_optim)
            UZ_TRY(cast_vote(ballot, record, err, "%d%s", record->optim.stage,
                             record->optim.bf16_optimizer ? " (BF16_Optimizer)" : ""));
    }
    UZ_TRY(count_votes(run, ballot, UZ_FIND_MIXED_STAGES, "zero_stage is", err));
    if (run->kind == UZ_INPUT_UNIVERSAL) /* may have model states for engines of every stage */
        return UZ_OK;
    for (size_t i = 0; i < run->n_records; i++) {
        const struct uz_record *record = &run->records[i];
        if (record->has_optim)
            UZ_TRY(cast_vote(ballot, record, err, "%s", record->optim.stage == 3 ? "3" : "1 or 2"));
        else if (record->has_metadata)
            UZ_TRY(cast_vote(ballot, record, err, "%s",
                             record->shard.kind == UZ_SHARD_MODEL_Z3 ? "3" : "1 or 2"));
    }
    return count_votes(run, ballot, UZ_FIND_MIXED_STAGES, "the ZeRO stage is", err);
}

static int agree_on_worlds(struct uz_verify_run *run, struct ballot *ballot, struct uz_error *err)
{
    for (size_t i = 0; i < run->n_records; i++) {
        const struct uz_metadata *m = &run->records[i].metadata;
        if (run->records[i].has_metadata)
            UZ_TRY(cast_vote(ballot, &run->records[i], err, "dp %llu, mp %llu, tp %llu, pp %llu",
                             (unsigned long long)m->dp_world_size,
                             (unsigned long long)m->mp_world_size, (unsigned long long)m->tp_degree,
                             (unsigned long long)m->pp_degree));
    }
    const struct vote *best = most_common(ballot);
    if (best)
        run->world = best->record->metadata.dp_world_size;
    UZ_TRY(count_votes(run, ballot, UZ_FIND_MIXED_WORLDS, "the world is", err));
    for (size_t i = 0; i < run->n_records; i++) {
        const struct uz_optim_shard *optim = &run->records[i].optim;
        if (run->records[i].has_optim && optim->n_groups > 0)
            UZ_TRY(cast_vote(ballot, &run->records[i], err, "%llu",
                             (unsigned long long)optim->groups[0].partition_count));
    }
    best = most_common(ballot);
    if (best && run->world == 0)
        run->world = best->record->optim.groups[0].partition_count;
    return count_votes(run, ballot, UZ_FIND_MIXED_WORLDS, "partition_count is", err);
}

/* The partitions that a group must be cut into: as many as there are ranks, but for experts. */
static uint64_t wanted_count(const struct uz_verify_run *run, const struct uz_record *record,
                             size_t g)
{
    const struct uz_mp_rank *mp = &run->mp_ranks[record->shard.mp];
    return mp->is_known && g < mp->params.n_groups ? uz_verify_parts(run, mp, g) : run->world;
}

/* Partition counts must be the world that the model states record. */
static int check_partition_counts(struct uz_verify_run *run, struct uz_error *err)
{
    for (size_t i = 0; i < run->n_records; i++) {
        const struct uz_optim_shard *optim = &run->records[i].optim;
        struct uz_where where = uz_record_where(&run->records[i]);
        for (size_t g = 0; run->world && run->records[i].has_optim && g < optim->n_groups; g++)
            if (optim->groups[g].partition_count != wanted_count(run, &run->records[i], g)) {
                UZ_TRY(uz_find(&run->findings, UZ_FIND_MIXED_WORLDS, &where, err,
                               "partition_count of group %zu is %llu, but it is cut over %llu of "
                               "%llu data-parallel ranks",
                               g, (unsigned long long)optim->groups[g].partition_count,
                               (unsigned long long)wanted_count(run, &run->records[i], g),
                               (unsigned long long)run->world));
                break;
            }
    }
    return UZ_OK;
}

static size_t count_states(const struct uz_optim_shard *optim)
{
    size_t n = 0;
    for (size_t g = 0; g < optim->n_groups; g++)
        n += optim->groups[g].n_states;
    return n;
}

/* Files of one model-parallel rank list the same parameters. */
static int agree_on_models(struct uz_verify_run *run, struct ballot *ballot, struct uz_error *err)
{
    for (uint32_t mp = 0; mp < run->n_mp; mp++) {
        for (size_t i = 0; i < run->n_records; i++) {
            const struct uz_record *record = &run->records[i];
            if (record->has_metadata && record->shard.mp == mp)
                UZ_TRY(cast_vote(ballot, record, err, "of hash %016llx-%016llx",
                                 (unsigned long long)record->metadata.param_shapes_hash,
                                 (unsigned long long)record->metadata.frozen_shapes_hash));
        }
        UZ_TRY(count_votes(run, ballot, UZ_FIND_MIXED_MODELS, "the list of parameters is", err));
        for (size_t i = 0; i < run->n_records; i++) {
            const struct uz_record *record = &run->records[i];
            if (record->has_optim && record->shard.mp == mp)
                UZ_TRY(cast_vote(ballot, record, err, "%zu", record->optim.n_groups));
        }
        UZ_TRY(count_votes(run, ballot, UZ_FIND_MIXED_MODELS, "the number of groups is", err));
        for (size_t i = 0; i < run->n_records; i++)
            if (run->records[i].has_optim && run->records[i].shard.mp == mp)
                UZ_TRY(cast_vote(ballot, &run->records[i], err, "%zu",
                                 count_states(&run->records[i].optim)));
        UZ_TRY(count_votes(run, ballot, UZ_FIND_MIXED_MODELS,
                           "the number of optimizer states of its partitions' size is", err));
    }
    return UZ_OK;
}

/* The optimizer's steps are the model's, less those that overflowed. */
static int compare_steps(struct uz_verify_run *run, struct uz_error *err)
{
    const struct uz_record *model = NULL, *optim = NULL;
    for (size_t i = 0; i < run->n_records; i++) {
        if (!model && run->records[i].has_metadata && run->records[i].metadata.has_steps)
            model = &run->records[i];
        if (!optim && run->records[i].has_optim && run->records[i].optim.has_step &&
            run->records[i].optim.step_is_of_state)
            optim = &run->records[i];
    }
    if (!model || !optim)
        return UZ_OK;
    double made = (double)(model->metadata.global_steps - model->metadata.skipped_steps);
    if (optim->optim.step >= made && optim->optim.step <= made)
        return UZ_OK;
    struct uz_where where = uz_record_where(model);
    return uz_find(&run->findings, UZ_FIND_STEPS_DIFFER, &where, err,
                   "tells of %.0f steps, %s of %.0f", made, optim->shard.name, optim->optim.step);
}

/* Shards of a layout that is not known: a note if all are, else they are not of this checkpoint. */
static int tell_refused(struct uz_verify_run *run, struct uz_error *err)
{
    bool some_known = false;
    for (size_t i = 0; i < run->n_records; i++)
        some_known |= run->records[i].has_optim;
    for (size_t i = 0; i < run->n_records; i++) {
        struct uz_where where = uz_record_where(&run->records[i]);
        if (*run->records[i].refusal)
            UZ_TRY(uz_find(&run->findings, some_known ? UZ_FIND_MIXED_STAGES : UZ_FIND_UNSUPPORTED,
                           &where, err, "%s%s",
                           some_known ? "is not of the layout of the other shards: " : "",
                           run->records[i].refusal));
    }
    return UZ_OK;
}

int uz_verify_agree(struct uz_verify_run *run, struct uz_error *err)
{
    static int (*const questions[])(struct uz_verify_run *, struct ballot *, struct uz_error *) = {
        agree_on_steps, agree_on_versions, agree_on_stages, agree_on_worlds, agree_on_models,
    };
    struct ballot ballot = {0};
    int rc = UZ_OK;
    for (size_t i = 0; i < sizeof questions / sizeof questions[0] && rc == UZ_OK; i++)
        rc = questions[i](run, &ballot, err);
    free(ballot.votes);
    UZ_TRY(rc);
    UZ_TRY(tell_refused(run, err));
    UZ_TRY(check_partition_counts(run, err));
    return compare_steps(run, err);
}
