/* SPDX-License-Identifier: Apache-2.0 */
/* Is a checkpoint sound? */
#ifndef UNZERO_VERIFY_H
#define UNZERO_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consolidate.h"
#include "error.h"
#include "input.h"

#ifdef __cplusplus
extern "C" {
#endif

/** How much a finding matters. */
enum uz_severity {
    UZ_SEVERITY_NOTE,    /**< worth knowing */
    UZ_SEVERITY_WARNING, /**< the values are what was saved, but something is odd about them */
    UZ_SEVERITY_ERROR,   /**< the checkpoint is damaged, incomplete or mixed up */
};

/** One thing that was found. Strings are escaped for terminals and belong to the report. */
struct uz_finding {
    const char *code; /**< "UZV010"; never changes its meaning, docs/verify.md lists all */
    const char *name; /**< the same for people: "missing-shard" */
    enum uz_severity severity;
    const char *file;   /**< path, NULL if it is about no single file */
    const char *tensor; /**< NULL if it is about no single tensor */
    int64_t dp_rank;    /**< data-parallel rank; -1: none */
    int64_t mp_rank;    /**< model-parallel rank; -1: none */
    uint64_t offset;    /**< byte of the file, or UZ_NO_OFFSET */
    const char *message;
    const char *advice; /**< what to do */
};

/** What a manifest, a file of digests of all files and tensors, is for; docs/manifest.md. */
enum uz_manifest_mode {
    UZ_MANIFEST_NONE,  /**< none */
    UZ_MANIFEST_WRITE, /**< write one if there is no error; an existing file is replaced */
    UZ_MANIFEST_CHECK, /**< tell what is not as it says */
};

/** What to look at; start from uz_verify_options_default. */
struct uz_verify_options {
    struct uz_input_options input;
    bool data;               /**< read all bytes, too: checksums and values; default false */
    const char *scratch_dir; /**< for storages that are compressed; default "/tmp" */
    enum uz_manifest_mode manifest_mode; /**< default UZ_MANIFEST_NONE */
    const char *manifest;                /**< its path, if there is a mode */
};

/** What was looked at, and all that was found, sorted by severity, code and file. */
struct uz_verify_report {
    enum uz_input_kind kind; /**< what the path is */
    const char *tag;         /**< "" if the files are in no tag folder */
    const char *dir;         /**< folder that was looked at */
    const char *ds_version;  /**< "" if not recorded */
    int zero_stage;          /**< -1 if unknown */
    uint64_t dp_world_size, mp_world_size;
    uint64_t n_files;     /**< that belong to the checkpoint */
    uint64_t file_nbytes; /**< of these */
    uint64_t n_tensors;   /**< views that were found in them */
    bool joined;          /**< the shards were joined in whole as a conversion would */
    bool fully_checked;   /**< no finding tells of something that could not be looked at */
    /** With `data`: bytes that fit their checksums, elements that were looked at, and elements
     * that were compared with their low-precision copy. */
    uint64_t n_checked_nbytes, n_values, n_compared;
    /** With a manifest: files and tensors that were written, or are as it says. */
    uint64_t n_manifest_files, n_manifest_tensors;
    const struct uz_finding *findings;
    size_t n_findings;
    size_t n_by_severity[3];
};

/** A verification that is done. */
struct uz_verification;

/** Sets the documented defaults. */
UZ_API void uz_verify_options_default(struct uz_verify_options *options);

/**
 * Looks at the checkpoint at `path` (a root or a tag folder) and collects what is wrong with it:
 * damage is a finding, not a failure. Fails only if nothing can be looked at (no such folder,
 * no memory). `progress` (may be NULL) is called about ten times a second while data is read.
 * Free *out with uz_verification_free. Uses threads of its own; calls are independent.
 */
UZ_API int uz_verify(struct uz_verification **out, const char *path,
                     const struct uz_verify_options *options, uz_progress_fn progress, void *cookie,
                     struct uz_error *err);

/** The report, valid as long as the verification. */
UZ_API const struct uz_verify_report *uz_verification_report(
    const struct uz_verification *verification);

/** NULL is allowed. */
UZ_API void uz_verification_free(struct uz_verification *verification);

#ifdef __cplusplus
}
#endif
#endif
