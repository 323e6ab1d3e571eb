/* SPDX-License-Identifier: Apache-2.0 */
/* The files that must be there, cell by cell. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "check/verify_run.h"

/* Missing files that are told one by one. */
enum { MAX_MISSING = 64 };

static const struct uz_record *first_of(const struct uz_verify_run *run, enum uz_shard_kind kind)
{
    for (size_t i = 0; i < run->n_records; i++)
        if (run->records[i].shard.kind == kind)
            return &run->records[i];
    return NULL;
}

static const struct uz_record *find_cell(const struct uz_verify_run *run, enum uz_shard_kind kind,
                                         uint32_t mp, uint64_t dp)
{
    size_t low = 0, high = run->n_records;
    while (low < high) { /* sorted by kind, mp, dp */
        size_t mid = low + (high - low) / 2;
        const struct uz_shard_file *shard = &run->records[mid].shard;
        if (shard->kind < kind || (shard->kind == kind && shard->mp < mp) ||
            (shard->kind == kind && shard->mp == mp && shard->dp < dp))
            low = mid + 1;
        else
            high = mid;
    }
    if (low == run->n_records)
        return NULL;
    const struct uz_shard_file *shard = &run->records[low].shard;
    bool found = shard->kind == kind && shard->mp == mp && shard->dp == dp;
    return found ? &run->records[low] : NULL;
}

/* The name a shard would have, by that of another one of its kind (which may be NULL). */
static void name_cell(char *buf, size_t size, enum uz_shard_kind kind, uint32_t mp, uint64_t dp,
                      const struct uz_record *like)
{
    const char *zst = like && like->shard.zst ? ".zst" : "";
    int prefix = 0;
    if (like && (!strncmp(like->shard.name, "bf16_", 5) || !strncmp(like->shard.name, "fp16_", 5)))
        prefix = 5;
    if (kind == UZ_SHARD_MODEL)
        snprintf(buf, size, "mp_rank_%02u_model_states.pt%s", mp, zst);
    else
        snprintf(buf, size, "%.*szero_pp_rank_%llu_mp_rank_%02u_%s_states.pt%s", prefix,
                 like ? like->shard.name : "", (unsigned long long)dp, mp,
                 kind == UZ_SHARD_OPTIM ? "optim" : "model", zst);
}

static int missing(struct uz_verify_run *run, enum uz_shard_kind kind, uint32_t mp, uint64_t dp,
                   struct uz_error *err)
{
    char name[160];
    name_cell(name, sizeof name, kind, mp, dp, first_of(run, kind));
    char *path = uz_path_join(run->dir, name);
    if (!path)
        return uz_fail_nomem(err, sizeof name);
    struct uz_where where = UZ_NOWHERE;
    where.file = path;
    where.mp = (int64_t)mp;
    where.dp = kind == UZ_SHARD_MODEL ? -1 : (int64_t)dp;
    int rc = uz_find(&run->findings, UZ_FIND_MISSING_SHARD, &where, err,
                     "is not there; expected files of %llu data-parallel and %u model-parallel "
                     "ranks",
                     (unsigned long long)run->world, run->n_mp);
    free(path);
    return rc;
}

static int check_kind(struct uz_verify_run *run, enum uz_shard_kind kind, uint64_t n_dp,
                      struct uz_error *err)
{
    unsigned n_missing = 0;
    for (uint32_t mp = 0; mp < run->n_mp; mp++)
        for (uint64_t dp = 0; dp < n_dp && n_missing < MAX_MISSING; dp++)
            if (!find_cell(run, kind, mp, dp)) {
                UZ_TRY(missing(run, kind, mp, dp, err));
                n_missing++;
            }
    for (size_t i = 0; i < run->n_records; i++) {
        const struct uz_record *record = &run->records[i];
        struct uz_where where = uz_record_where(record);
        if (record->shard.kind == kind && record->shard.dp >= n_dp)
            UZ_TRY(uz_find(&run->findings, UZ_FIND_SURPLUS_SHARD, &where, err,
                           "is of data-parallel rank %u, but there are %llu ranks",
                           record->shard.dp, (unsigned long long)n_dp));
    }
    return UZ_OK;
}

/* Model-parallel ranks as the model states record them, where they do. */
static uint64_t recorded_mp(const struct uz_verify_run *run)
{
    for (size_t i = 0; i < run->n_records; i++) {
        const struct uz_metadata *m = &run->records[i].metadata;
        if (run->records[i].has_metadata && m->tp_degree && m->pp_degree)
            return m->tp_degree * m->pp_degree;
    }
    return 0;
}

/* A parameter of a pipeline stage is named LAYER.KEY: its layer has a file. */
static int check_layers(struct uz_verify_run *run, struct uz_error *err)
{
    const struct uz_record *like = first_of(run, UZ_SHARD_LAYER);
    if (!like)
        return UZ_OK;
    uint32_t last = UINT32_MAX;
    for (uint32_t mp = 0; mp < run->n_mp; mp++)
        for (size_t i = 0; run->mp_ranks[mp].is_known && i < run->mp_ranks[mp].model.n_tensors;
             i++) {
            const char *name = run->mp_ranks[mp].model.tensors[i].name;
            char *end;
            unsigned long layer = strtoul(name, &end, 10);
            if (end == name || *end != '.' || layer > UINT32_MAX || layer == last)
                continue;
            last = (uint32_t)layer;
            bool found = false;
            for (size_t r = 0; r < run->n_records && !found; r++)
                found = run->records[r].shard.kind == UZ_SHARD_LAYER &&
                        run->records[r].shard.layer == layer;
            if (found)
                continue;
            struct uz_where where = UZ_NOWHERE;
            where.file = run->dir;
            where.tensor = name;
            UZ_TRY(uz_find(&run->findings, UZ_FIND_MISSING_SHARD, &where, err,
                           "layer_%02lu-*model_states.pt is not there, the weights of layer %lu",
                           layer, layer));
        }
    return UZ_OK;
}

static bool has_optimizer(const struct uz_verify_run *run)
{
    for (uint32_t mp = 0; mp < run->n_mp; mp++)
        if (run->mp_ranks[mp].is_known)
            return true;
    return first_of(run, UZ_SHARD_OPTIM) != NULL;
}

int uz_verify_grid(struct uz_verify_run *run, struct uz_error *err)
{
    const struct uz_record *optim = first_of(run, UZ_SHARD_OPTIM);
    uint64_t n_mp = recorded_mp(run);
    if (n_mp > run->n_mp && n_mp <= UINT16_MAX) {
        struct uz_mp_rank *more = realloc(run->mp_ranks, (size_t)n_mp * sizeof *more);
        if (!more)
            return uz_fail_nomem(err, n_mp * sizeof *more);
        memset(more + run->n_mp, 0, (size_t)(n_mp - run->n_mp) * sizeof *more);
        run->mp_ranks = more;
        run->n_mp = (uint32_t)n_mp;
    }
    if (run->world == 0 && optim)
        for (size_t i = 0; i < run->n_records; i++)
            if (run->records[i].shard.kind == UZ_SHARD_OPTIM &&
                run->records[i].shard.dp >= run->world)
                run->world = (uint64_t)run->records[i].shard.dp + 1;
    if (run->world == 0)
        run->world = 1;
    UZ_TRY(run->is_stage3 ? check_kind(run, UZ_SHARD_MODEL_Z3, run->world, err)
                          : check_kind(run, UZ_SHARD_MODEL, 1, err));
    if (has_optimizer(run))
        UZ_TRY(check_kind(run, UZ_SHARD_OPTIM, run->world, err));
    return check_layers(run, err);
}
