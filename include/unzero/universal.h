/* SPDX-License-Identifier: Apache-2.0 */
/* From a sharded ZeRO checkpoint to a universal one, which DeepSpeed loads on any number of ranks.
 */
#ifndef UNZERO_UNIVERSAL_H
#define UNZERO_UNIVERSAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consolidate.h"
#include "error.h"
#include "input.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Which universal checkpoint is made. Both hold zero/NAME/STATE.pt for every trained parameter. */
enum uz_universal_dialect {
    /**
     * One that DeepSpeed 0.19 loads with checkpoint.load_universal under ZeRO 1, 2 and 3, whatever
     * stage it was saved in: every state in a dictionary with the tensor in its shape, step.pt, an
     * optimizer_state.pt for all stages, and model states under the names of all stages.
     */
    UZ_UNIVERSAL_ANY,
    /**
     * The files, keys and tensors that ds_to_universal.py of DeepSpeed 0.19.8 makes for the stage
     * that the checkpoint was saved in. It knows the states exp_avg and exp_avg_sq alone.
     */
    UZ_UNIVERSAL_DEEPSPEED,
};

/** What to do; start from uz_universal_options_default. Strings are borrowed. */
struct uz_universal_options {
    struct uz_input_options input; /**< how to read the checkpoint */
    enum uz_universal_dialect dialect;
    /**
     * Add universal_checkpoint_info to the model states if it is missing, or fail (UZ_UNSUPPORTED)
     * where it cannot be known: with tensor or pipeline parallelism. UZ_UNIVERSAL_ANY adds it
     * anyway where it can.
     */
    bool inject_missing_state;
    enum uz_durability durability; /**< default UZ_DURABLE_FULL */
    uint64_t max_memory;           /**< bytes; 0 (default): no bound but what the defaults take */
};

/** What will be, or was, done. Strings belong to the job. */
struct uz_universal_summary {
    const char *tag; /**< of the source */
    const char *ds_version;
    int zero_stage;
    uint64_t world_size;       /**< data-parallel ranks */
    unsigned tp_size, pp_size; /**< tensor ranks, pipeline stages */
    const char *latest;        /**< the file latest_universal that will name the output */
    const char *const *states; /**< what each parameter has, beginning with "fp32" */
    size_t n_states;
    bool has_step;      /**< each parameter has a step.pt */
    bool info_injected; /**< universal_checkpoint_info was missing and is added */
    uint64_t n_params;  /**< parameters in zero/ */
    uint64_t n_files;
    uint64_t data_nbytes;   /**< of tensors in the output */
    uint64_t file_nbytes;   /**< of all output files */
    uint64_t memory_nbytes; /**< that the run uses at most, estimated */
    unsigned threads;
    const char *const *warnings;
    size_t n_warnings;
};

/** A planned conversion. */
struct uz_universal_job;

/** Sets the documented defaults. */
UZ_API void uz_universal_options_default(struct uz_universal_options *options);

/**
 * Reads and checks all metadata of `checkpoint` (a root or a tag folder), and plans. `out` is the
 * folder to make, which must not exist or be empty; its name is the tag that latest_universal,
 * beside it, will hold. Nothing is written. The caller frees the job with uz_universal_free; one
 * thread at a time may use it.
 *
 * Fails with any status; *job is set only on success. UZ_UNSUPPORTED, among others, for optimizers
 * whose states are not one value for each element of a parameter (8-bit, 1-bit), and for a source
 * that is universal already.
 */
UZ_API int uz_universal_plan(struct uz_universal_job **job, const char *checkpoint, const char *out,
                             const struct uz_universal_options *options, struct uz_error *err);

/** The summary, valid as long as the job. */
UZ_API const struct uz_universal_summary *uz_universal_summary(const struct uz_universal_job *job);

/**
 * Makes the universal checkpoint in a folder beside `out`, gives that the name `out` when it is
 * complete, and then writes latest_universal. On failure there is no `out`, and latest_universal
 * is as it was. A job can be run once. `progress` may be NULL.
 */
UZ_API int uz_universal_run(struct uz_universal_job *job, uz_progress_fn progress, void *cookie,
                            struct uz_error *err);

/** NULL is allowed. */
UZ_API void uz_universal_free(struct uz_universal_job *job);

#ifdef __cplusplus
}
#endif
#endif
