/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a manifest of what was verified, or holds it against one. */
#include <stdio.h>

#include "check/manifest_make.h"
#include "check/replicas.h"
#include "engine/fetch.h"
#include "engine/spool.h"
#include "input/open.h"

enum { REPLICA_NBYTES = 1024 * 1024 }; /* compared at a time */

/* The model with all optimizer states that are values. */
static int open_model(const struct uz_verify_run *run, const char *path, struct uz_model *model,
                      struct uz_error *why)
{
    bool plain = run->kind != UZ_INPUT_ZERO && run->kind != UZ_INPUT_UNIVERSAL;
    struct uz_input_options options = run->options->input;
    struct uz_input_info info = {0};
    struct uz_notes notes = {0};
    options.strict = false;
    options.source = UZ_SOURCE_MASTERS;
    options.threads = run->threads;
    int rc = uz_input_open(path, &options, plain ? NULL : "all", model, &info, &notes, why);
    if (rc == UZ_UNSUPPORTED && !plain) { /* states that are codes: the weights alone */
        uz_input_info_free(&info);
        rc = uz_input_open(path, &options, NULL, model, &info, &notes, why);
    }
    uz_input_info_free(&info);
    uz_notes_free(&notes);
    return rc;
}

/* Fills `have`; a failure is about the checkpoint. */
static int digest_all(struct uz_verify_run *run, struct uz_model *model, struct uz_manifest *have,
                      struct uz_error *err)
{
    struct uz_spool *spool = NULL;
    int rc = uz_spool_open(&spool, model, run->options->scratch_dir, run->threads,
                           &run->options->input.limits, err);
    if (rc == UZ_OK)
        rc = uz_fetch_check(model, err);
    if (rc == UZ_OK)
        rc = uz_check_replicas(model, run->threads, REPLICA_NBYTES, err);
    if (rc == UZ_OK)
        rc = uz_manifest_make(have, run, model, run->want, err);
    uz_spool_close(spool);
    return rc;
}

/* That the manifest was not written or checked makes the answer no. */
static int tell_undone(struct uz_verify_run *run, const struct uz_error *why, struct uz_error *err)
{
    struct uz_where where = UZ_NOWHERE;
    where.file = run->options->manifest;
    if (why && (why->status == UZ_NOMEM || why->status == UZ_CANCELLED)) {
        if (err)
            *err = *why;
        return why->status;
    }
    return uz_find(&run->findings, UZ_FIND_MANIFEST_UNDONE, &where, err,
                   "the manifest was not %s: %s",
                   run->options->manifest_mode == UZ_MANIFEST_WRITE ? "written" : "checked",
                   why ? why->message : "what it is to be of is not sound");
}

static int write_or_compare(struct uz_verify_run *run, struct uz_manifest *have,
                            struct uz_error *err)
{
    struct uz_error why = {0};
    if (run->options->manifest_mode == UZ_MANIFEST_CHECK)
        return uz_manifest_compare(run, run->want, have, err);
    if (uz_findings_reach(&run->findings, UZ_SEVERITY_ERROR))
        return tell_undone(run, NULL, err);
    if (uz_manifest_save(have, run->options->manifest, &why) < 0) {
        if (err)
            *err = why;
        return why.status;
    }
    run->n_same_files = have->n_files;
    run->n_same_tensors = have->n_tensors;
    return UZ_OK;
}

int uz_verify_manifest(struct uz_verify_run *run, const char *path, struct uz_error *err)
{
    struct uz_manifest have;
    struct uz_model model;
    struct uz_error why = {0};
    bool write = run->options->manifest_mode == UZ_MANIFEST_WRITE;
    if (write && uz_findings_reach(&run->findings, UZ_SEVERITY_ERROR))
        return tell_undone(run, NULL, err);
    if (!run->dir || open_model(run, path, &model, &why) < 0)
        return tell_undone(run, why.status ? &why : NULL, err);
    int rc = uz_manifest_init(&have, err);
    if (rc == UZ_OK) {
        rc = digest_all(run, &model, &have, &why);
        rc = rc < 0 ? tell_undone(run, &why, err) : write_or_compare(run, &have, err);
    }
    uz_manifest_free(&have);
    uz_model_free(&model);
    return rc;
}
