/* SPDX-License-Identifier: Apache-2.0 */
/* Computes digests, and holds them against those of a manifest. */
#ifndef UZ_CHECK_MANIFEST_MAKE_H
#define UZ_CHECK_MANIFEST_MAKE_H

#include "check/manifest.h"
#include "check/verify_run.h"

/*
 * Reads all files and all tensors of the model, each once, from front to back, on the run's
 * threads, and fills an empty manifest. `want` (NULL: none) saves digests that it has no use for.
 * The model's storages are not packed. What cannot be read is a finding, and gets no digests.
 */
int uz_manifest_make(struct uz_manifest *manifest, struct uz_verify_run *run,
                     const struct uz_model *model, const struct uz_manifest *want,
                     struct uz_error *err);

/* Tells of what is in one and not in the other, or differs. */
int uz_manifest_compare(struct uz_verify_run *run, const struct uz_manifest *want,
                        const struct uz_manifest *have, struct uz_error *err);

#endif
