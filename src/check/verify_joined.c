/* SPDX-License-Identifier: Apache-2.0 */
/* Joins the shards as a conversion would, and compares what is stored more than once. */
#include "check/replicas.h"
#include "check/rounding.h"
#include "check/verify_run.h"
#include "engine/spool.h"
#include "input/open.h"

enum { REPLICA_NBYTES = 1024 * 1024 }; /* compared at a time */

/* Do ranks that hold the same elements hold the same values? */
static int compare_replicas(struct uz_verify_run *run, const struct uz_model *model,
                            struct uz_error *err)
{
    struct uz_error why = {0};
    struct uz_where where = UZ_NOWHERE;
    int rc = uz_check_replicas(model, run->threads, REPLICA_NBYTES, &why);
    where.file = run->dir;
    if (rc == UZ_MISMATCH)
        return uz_find(&run->findings, UZ_FIND_REPLICAS_DIFFER, &where, err, "%s", why.message);
    return rc < 0 ? uz_find_failure(&run->findings, UZ_FIND_NOT_JOINED, &where, &why, err) : UZ_OK;
}

/* Are the low-precision weights the rounded masters? */
static int compare_copies(struct uz_verify_run *run, const struct uz_model *model,
                          struct uz_error *err)
{
    struct uz_rounding rounding;
    struct uz_error why = {0};
    struct uz_where where = UZ_NOWHERE;
    where.file = run->dir;
    if (uz_check_rounding(model, UINT64_MAX, run->threads, &rounding, &why) < 0)
        return uz_find_failure(&run->findings, UZ_FIND_NOT_JOINED, &where, &why, err);
    run->n_compared += rounding.n_compared;
    if (rounding.n_differ == 0)
        return UZ_OK;
    bool many = uz_rounding_is_bad(rounding.n_differ, rounding.n_compared);
    where.tensor = model->tensors[rounding.worst_tensor].name;
    return uz_find(&run->findings, many ? UZ_FIND_LP_DIFFERS : UZ_FIND_LP_DIFFERS_SLIGHTLY, &where,
                   err,
                   "%llu of %llu masters (%.3g%%) do not round to the 16-bit weights; most of them "
                   "in %s",
                   (unsigned long long)rounding.n_differ, (unsigned long long)rounding.n_compared,
                   100 * (double)rounding.n_differ / (double)rounding.n_compared, where.tensor);
}

/*
 * The pass over the data compares masters with their copies where both are plain parts of files of
 * ZeRO 1 and 2. Where they are compressed, stand in one file (stage 0), or in experts' files, the
 * joined model tells what belongs together.
 */
static int compare_all(struct uz_verify_run *run, struct uz_model *model, bool by_model,
                       struct uz_error *err)
{
    struct uz_spool *spool = NULL;
    struct uz_error why = {0};
    struct uz_where where = UZ_NOWHERE;
    by_model |= uz_model_is_packed(model);
    if (!by_model && model->n_layers == 0)
        return UZ_OK;
    where.file = run->dir;
    if (uz_spool_open(&spool, model, run->options->scratch_dir, run->threads,
                      &run->options->input.limits, &why) < 0)
        return why.status == UZ_IO
                   ? uz_find(&run->findings, UZ_FIND_NOT_CHECKED, &where, err,
                             "copies of values were not compared: %s", why.message)
                   : uz_find_failure(&run->findings, UZ_FIND_DAMAGED_FILE, &where, &why, err);
    int rc = compare_replicas(run, model, err);
    if (rc == UZ_OK && by_model)
        rc = compare_copies(run, model, err);
    run->copies_compared = by_model;
    uz_spool_close(spool);
    return rc;
}

/* States are looked at here if nothing else does: where there are no flat groups to check. */
static bool looks_at_states(const struct uz_verify_run *run)
{
    bool all_known = true;
    for (uint32_t mp = 0; mp < run->n_mp; mp++)
        all_known &= run->mp_ranks[mp].is_known;
    return run->kind == UZ_INPUT_UNIVERSAL || (run->kind == UZ_INPUT_ZERO && !all_known);
}

/* As a conversion would read it. */
static int open_whole(const struct uz_verify_run *run, const char *path, struct uz_model *model,
                      struct uz_input_info *info, struct uz_notes *notes, struct uz_error *why)
{
    bool plain = run->kind != UZ_INPUT_ZERO && run->kind != UZ_INPUT_UNIVERSAL;
    struct uz_zero_options options = {
        .input = run->options->input,
        .state = looks_at_states(run) ? "all" : NULL,
    };
    options.input.strict = false;
    options.input.source = UZ_SOURCE_MASTERS;
    options.input.threads = run->threads;
    if (plain)
        return uz_input_open(path, &options.input, NULL, model, info, notes, why);
    options.input.tag = NULL;
    return uz_zero_read(run->dir, &options, model, &info->zero, notes, why);
}

static int tell_refusal(struct uz_verify_run *run, int rc, const struct uz_error *why,
                        struct uz_error *err)
{
    struct uz_where where = UZ_NOWHERE;
    where.file = *why->file ? why->file : run->dir;
    if (rc == UZ_FORMAT && run->kind == UZ_INPUT_TORCH)
        return UZ_OK; /* a file that holds no weights may be sound all the same */
    if (rc == UZ_UNSUPPORTED)
        return uz_find(&run->findings, UZ_FIND_UNSUPPORTED, &where, err, "%s", why->message);
    return uz_find_failure(&run->findings, UZ_FIND_NOT_JOINED, &where, why, err);
}

int uz_verify_joined(struct uz_verify_run *run, const char *path, struct uz_error *err)
{
    struct uz_model model;
    struct uz_input_info info = {0};
    struct uz_notes notes = {0};
    struct uz_error why = {0};
    int rc = open_whole(run, path, &model, &info, &notes, &why);
    run->joined = rc == UZ_OK;
    run->stage = info.zero.stage;
    bool by_model = info.zero.stage == 0 || info.zero.has_experts || info.zero.is_universal;
    uz_input_info_free(&info);
    uz_notes_free(&notes);
    if (rc < 0)
        return tell_refusal(run, rc, &why, err);
    if (run->options->data)
        rc = compare_all(run, &model, by_model, err);
    uz_model_free(&model);
    return rc;
}
