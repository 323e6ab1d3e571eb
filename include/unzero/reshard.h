/* SPDX-License-Identifier: Apache-2.0 */
/* ZeRO shards for another number of ranks or another stage. */
#ifndef UNZERO_RESHARD_H
#define UNZERO_RESHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consolidate.h"
#include "error.h"
#include "input.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What to do; start from uz_reshard_options_default. Strings are borrowed. */
struct uz_reshard_options {
    struct uz_input_options input; /**< how to read the checkpoint */
    uint64_t world_size;           /**< data-parallel ranks that will load the result; required */
    int stage; /**< ZeRO stage 1, 2 or 3; 0 (default): that of the configuration */
    /**
     * DeepSpeed's configuration (JSON) of the run that will load the result; it decides
     * sub_group_size, round_robin_gradients, parameter_alignment and which optimizer wrapper is
     * meant, and becomes the shards' ds_config. NULL (default): the checkpoint's own ds_config.
     */
    const char *ds_config;
    uint64_t max_memory;           /**< bytes, as of uz_consolidate_options; 0: no bound */
    enum uz_durability durability; /**< default UZ_DURABLE_FULL */
};

/** A file of the new checkpoint's tag folder. */
struct uz_reshard_file {
    const char *name;
    uint64_t nbytes;
};

/**
 * What has one flat partition on each rank: an optimizer group, or under stage 3 a sub-group.
 * All counts are of elements.
 */
struct uz_reshard_group {
    size_t optimizer_group;
    uint64_t n_params;
    uint64_t numel;              /**< of its parameters */
    uint64_t partition_numel;    /**< of each rank's partition, padding included */
    uint64_t padding;            /**< in all partitions together */
    uint64_t n_ranks_of_padding; /**< ranks whose partition holds nothing but padding */
};

/** What was, or would be, done. Strings and arrays belong to the job. */
struct uz_reshard_summary {
    const char *tag;
    const char *ds_version; /**< of the checkpoint, "" if not recorded */
    bool from_universal;
    int old_stage, stage;
    uint64_t old_world_size, world_size;
    /** The layout assumed. */
    bool bf16_optimizer, round_robin, parameter_alignment;
    uint64_t sub_group_size; /**< stage 3 only, else 0 */
    const struct uz_reshard_group *groups;
    size_t n_groups;
    const struct uz_reshard_file *files;
    size_t n_files;
    uint64_t file_nbytes; /**< of all files */
    uint64_t rank_nbytes; /**< of the files that one rank's are, rank 0's */
    uint64_t n_new_ranks; /**< ranks that the old world did not have */
    /** True if per-rank values of the model states were copied from rank 0 for new ranks. */
    bool copied_rank_values;
    /** New ranks whose file of random states beside the tag folder will be a copy of rank 0's. */
    uint64_t n_random_states_copied;
    uint64_t memory_nbytes;
    unsigned threads;
    const char *const *warnings;
    size_t n_warnings;
};

/** A job that was planned. */
struct uz_resharding;

/** Sets the documented defaults. */
UZ_API void uz_reshard_options_default(struct uz_reshard_options *options);

/**
 * Plans ZeRO shards for options->world_size ranks from a ZeRO 1, 2 or 3 checkpoint or a universal
 * one, as DeepSpeed 0.19.8 would have saved them in that world: the stock engine loads them with
 * load_checkpoint. `out` is the folder of the new checkpoint and must not exist. All metadata is
 * read and checked; nothing is written. The caller frees the job with uz_resharding_free; one
 * thread at a time may use it.
 *
 * Every element of a weight and of an optimizer state keeps its bits, unless a stage changes from 3
 * to 1 or 2: then the low-precision module, which stage 3 does not store, is rounded from the
 * masters as the engine rounds it. Padding is zero. Counters, scheduler, loss scaler and a client's
 * values are carried over; so are those of each rank, and new ranks get those of rank 0. Files that
 * stand beside the shards (a trainer's) are shared with the old checkpoint, as uz_setting_run does
 * it; random states that transformers keeps for each rank are named for the new world.
 *
 * Fails with any status; *job is set only on success. UZ_UNSUPPORTED by name, among others, for
 * tensor, pipeline and expert parallelism, stage 0, states whose cut is unknown, and elastic
 * checkpoints (which lack the optimizer's hyperparameters).
 */
UZ_API int uz_resharding_plan(struct uz_resharding **job, const char *checkpoint, const char *out,
                              const struct uz_reshard_options *options, struct uz_error *err);

/** The summary. */
UZ_API const struct uz_reshard_summary *uz_resharding_summary(const struct uz_resharding *job);

/**
 * Writes the new checkpoint: `out`/latest and the tag folder in it. Everything is made in a folder
 * beside `out`, which gets that name when all is written: on failure there is no `out`. A job can
 * be run once. `progress` (may be NULL) is called as that of uz_consolidation_run.
 */
UZ_API int uz_resharding_run(struct uz_resharding *job, uz_progress_fn progress, void *cookie,
                             struct uz_error *err);

/** NULL is allowed. */
UZ_API void uz_resharding_free(struct uz_resharding *job);

#ifdef __cplusplus
}
#endif
#endif
