/* SPDX-License-Identifier: Apache-2.0 */
/* A new checkpoint that differs from another in one tensor. */
#ifndef UNZERO_SET_H
#define UNZERO_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consolidate.h"
#include "error.h"
#include "input.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What to do; start from uz_set_options_default. Strings are borrowed. */
struct uz_set_options {
    struct uz_input_options input; /**< how to read the checkpoint */
    const char *state;             /**< optimizer state to set; NULL (default): the weight itself */
};

/** What was, or would be, done. Strings belong to the job. */
struct uz_set_summary {
    struct uz_source_info source;
    const char *stored_name; /**< the name that the tensor is stored under */
    uint64_t n_elems;
    uint64_t n_fragments; /**< parts of files that hold it, low-precision copies included */
    uint64_t n_files_changed;
    uint64_t n_files_shared; /**< unchanged: reflinks, or links to the old checkpoint's files */
    uint64_t n_files_linked; /**< those of them that are hard links */
    uint64_t n_files_copied; /**< unchanged, on another file system */
    bool lp_updated;         /**< low-precision copies are rounded from the new values */
    uint64_t n_overflows;    /**< finite values that became infinite where they are stored */
    const char *const *warnings;
    size_t n_warnings;
};

/** A job that was planned. */
struct uz_setting;

/** Sets the documented defaults. */
UZ_API void uz_set_options_default(struct uz_set_options *options);

/**
 * Checks that tensor `name` of a ZeRO or universal checkpoint can be set to the values of a file:
 * .npy, or .safetensors or PyTorch with one tensor or one of that name. Shapes must be equal;
 * floating-point values of 32 and 16 bits are converted (to nearest, ties to even), others must
 * have the stored dtype. `out` is the folder of the new checkpoint and must not exist. Nothing is
 * written. The caller frees the job with uz_setting_free; one thread at a time may use it.
 *
 * All copies that ranks keep are set. NaN and infinities among the values are a warning about data.
 *
 * Fails with any status; *job is set only on success. UZ_UNSUPPORTED, among others, where copies
 * are known to be but not where, and for shards with compressed zip entries.
 */
UZ_API int uz_setting_plan(struct uz_setting **job, const char *checkpoint, const char *name,
                           const char *values, const char *out,
                           const struct uz_set_options *options, struct uz_error *err);

/** The summary; its counts of files are known after the run. */
UZ_API const struct uz_set_summary *uz_setting_summary(const struct uz_setting *job);

/**
 * Makes the new checkpoint: `out`/latest (or latest_universal) and the tag folder in it. Files that
 * do not change share their data with the old ones; shards that were compressed whole and change
 * are written plainly. Everything is made in a folder beside `out`, which gets that name when all
 * is on the disk: on failure there is no `out`; UZ_IO beforehand if the file system has no room for
 * what must be copied. A job can be run once. `progress` (may be NULL) is called with the bytes
 * that were copied or written for each MiB of them, of about so many; a non-zero result stops the
 * job with UZ_CANCELLED.
 */
UZ_API int uz_setting_run(struct uz_setting *job, uz_progress_fn progress, void *cookie,
                          struct uz_error *err);

/** NULL is allowed. */
UZ_API void uz_setting_free(struct uz_setting *job);

#ifdef __cplusplus
}
#endif
#endif
