/* SPDX-License-Identifier: Apache-2.0 */
/* From a sharded ZeRO checkpoint to whole weights. */
#ifndef UNZERO_CONSOLIDATE_H
#define UNZERO_CONSOLIDATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "input.h"
#include "names.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Precision of floating-point parameters in the output. Buffers and integers stay as stored. */
enum uz_precision {
    UZ_PRECISION_FP32, /**< the fp32 masters as they are; frozen parameters widened */
    UZ_PRECISION_BF16, /**< rounded from the masters, to nearest, ties to even */
    UZ_PRECISION_FP16, /**< the same; overflows to infinity are counted */
    UZ_PRECISION_KEEP, /**< the dtype of the low-precision copy, rounded from the masters */
    UZ_PRECISION_AUTO, /**< UZ_PRECISION_FP32; for UZ_SOURCE_LP UZ_PRECISION_KEEP */
};

/** What the output is. */
enum uz_format {
    UZ_FORMAT_AUTO,        /**< by the name of OUT; safetensors for a folder */
    UZ_FORMAT_SAFETENSORS, /**< model.safetensors, or shards and an index */
    UZ_FORMAT_PT,          /**< pytorch_model.bin as torch.save makes it, or shards and an index */
};

/** Why a name of the checkpoint is not in the output. */
enum uz_left_out {
    UZ_LEFT_OUT_FROZEN,    /**< frozen, and exclude_frozen is set */
    UZ_LEFT_OUT_BY_RULES,  /**< the rules about names say so */
    UZ_LEFT_OUT_STATELESS, /**< a state is wanted, and it has none: a buffer, frozen */
};

/** When the output is on the disk. */
enum uz_durability {
    UZ_DURABLE_FULL, /**< contents and names, when the call returns */
    UZ_DURABLE_DATA, /**< contents before a file gets its name */
    UZ_DURABLE_NONE, /**< when the system likes */
};

/** What to do; start from uz_consolidate_options_default. Strings are borrowed. */
struct uz_consolidate_options {
    struct uz_input_options input; /**< how to read the checkpoint */
    struct uz_name_rules names; /**< which names, and what they become; default: all as they are */
    /**
     * NULL (default): the weights. The name of an optimizer state (exp_avg): that state of all
     * trained parameters, under their names. "all": weights and all states, each name with its
     * state in front: "exp_avg/NAME", and "fp32/NAME" for weights and buffers whatever their dtype.
     */
    const char *state;
    enum uz_format format;       /**< default UZ_FORMAT_AUTO */
    enum uz_precision precision; /**< default UZ_PRECISION_AUTO */
    bool widen_buffers;          /**< float buffers become fp32; default: as stored */
    bool untie; /**< all names of tied tensors are written, each with its own data; default false */
    uint64_t max_shard_bytes; /**< tensor bytes of an output file; 0: one file; default 5e9 */
    bool exclude_frozen;      /**< leave frozen parameters out; default false */
    /**
     * Put the configuration and the tokenizer of the model beside the weights, as far as they are
     * in the checkpoint's root, byte for byte: config.json, generation_config.json, tokenizer.json
     * and others by the names that transformers has for them. They count as outputs. Default false.
     */
    bool copy_config;
    bool force;                    /**< replace outputs that exist; default false */
    enum uz_durability durability; /**< default UZ_DURABLE_FULL */
    bool drop_cache; /**< files read and written leave the page cache, so that a large conversion
                        does not displace what others use; default false */
    uint64_t max_memory; /**< bytes; 0 (default): no bound but what the defaults take */
};

/** A name of the checkpoint that is not in the output; tied names are listed elsewhere. */
struct uz_left_out_name {
    const char *name;
    enum uz_left_out why;
};

/** One output file. */
struct uz_output_file {
    const char *name; /**< within the output folder */
    uint64_t nbytes;
    uint64_t n_tensors;
};

/** What will be, or was, done. Strings belong to the job. */
struct uz_consolidate_summary {
    struct uz_source_info source;
    const char *out_dir;         /**< folder the files go to */
    enum uz_format format;       /**< of the output, never UZ_FORMAT_AUTO */
    enum uz_precision precision; /**< of the output, never UZ_PRECISION_AUTO */
    const struct uz_output_file *files;
    size_t n_files;
    uint64_t n_tensors; /**< written */
    uint64_t n_frozen_excluded;
    const struct uz_left_out_name *left_out; /**< n_left_out names that are not in the output */
    size_t n_left_out;
    const char *const *renamed; /**< n_renamed pairs: old name, new name */
    size_t n_renamed;
    size_t n_config_left;   /**< files copy_config would have brought to a folder without any */
    uint64_t data_nbytes;   /**< of tensors in the output */
    uint64_t file_nbytes;   /**< of all output files */
    uint64_t memory_nbytes; /**< that the run uses at most, estimated */
    unsigned threads;
    const char *const *tied; /**< n_tied pairs: a name left out, the name its data is under */
    size_t n_tied;
    const char *const *warnings;
    size_t n_warnings;
    uint64_t n_overflows; /**< finite values that became infinite; known after the run */
};

/**
 * The format that the name of an output file says: *.safetensors, and *.bin, *.pt or *.pth for
 * UZ_FORMAT_PT. UZ_FORMAT_AUTO for other names, and if `out` is a folder or ends in a slash.
 */
UZ_API enum uz_format uz_output_file_format(const char *out);

/**
 * Is `out` a name that uz_consolidation_plan takes? Looks at the name alone, and at whether it is a
 * folder. UZ_ARG for what is surely a mistake, as it would otherwise become a folder: "", "-", and
 * names that end like a file of another format (model.gguf, model.BIN). With a slash at its end, or
 * if it is there, any folder's name is fine.
 */
UZ_API int uz_output_name_check(const char *out, struct uz_error *err);

/** A planned consolidation. */
struct uz_consolidation;

/** Sets the documented defaults. */
UZ_API void uz_consolidate_options_default(struct uz_consolidate_options *options);

/**
 * Reads and checks all metadata of `checkpoint` (a root or a tag folder), checks the target, and
 * plans. Nothing is written. `out` is a folder, or a file name with one of the endings that
 * uz_output_file_format knows (one file is made then, whatever max_shard_bytes says). The caller
 * frees the job with uz_consolidation_free. One thread at a time may use a job; different jobs are
 * independent.
 *
 * Fails with any status of enum uz_status; *job is set only on success. Too little room on the
 * target's file system is a warning here, and an error of uz_consolidation_run.
 */
UZ_API int uz_consolidation_plan(struct uz_consolidation **job, const char *checkpoint,
                                 const char *out, const struct uz_consolidate_options *options,
                                 struct uz_error *err);

/** The summary, valid as long as the job. */
UZ_API const struct uz_consolidate_summary *uz_consolidation_summary(
    const struct uz_consolidation *job);

/**
 * Called about ten times a second on the thread that runs the job, and once when all bytes are
 * written. A non-zero result stops the job with UZ_CANCELLED.
 */
typedef int (*uz_progress_fn)(void *cookie, uint64_t nbytes_done, uint64_t nbytes_total);

/**
 * Writes the output: staged inside the output folder, renamed when all is whole. On failure
 * nothing under the final names was touched. A job can be run once. `progress` may be NULL.
 */
UZ_API int uz_consolidation_run(struct uz_consolidation *job, uz_progress_fn progress, void *cookie,
                                struct uz_error *err);

/** Frees the job. NULL is allowed. */
UZ_API void uz_consolidation_free(struct uz_consolidation *job);

#ifdef __cplusplus
}
#endif
#endif
