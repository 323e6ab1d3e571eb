/* SPDX-License-Identifier: Apache-2.0 */
/* Where tensors come from: what every command that reads a checkpoint can be told about it. */
#ifndef UNZERO_INPUT_H
#define UNZERO_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "limits.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What a path is. */
enum uz_input_kind {
    UZ_INPUT_ZERO,        /**< a sharded ZeRO checkpoint: its root or a tag folder */
    UZ_INPUT_UNIVERSAL,   /**< a universal checkpoint */
    UZ_INPUT_TORCH,       /**< a PyTorch file */
    UZ_INPUT_SAFETENSORS, /**< a safetensors file */
    UZ_INPUT_FOLDER,      /**< a folder of weight files, or its *.index.json (Hugging Face) */
};

/** "zero", "universal", "torch", "safetensors", "folder"; "unknown" for other values. */
UZ_API const char *uz_input_kind_name(enum uz_input_kind kind);

/** Which copy of the weights is wanted. */
enum uz_source {
    UZ_SOURCE_MASTERS, /**< the optimizer's high-precision ones */
    UZ_SOURCE_LP,      /**< the low-precision `module` (ZeRO 0-2): optimizer shards may be gone */
};

/**
 * How to read a checkpoint; start from uz_input_options_default. Strings are borrowed.
 *
 * Strict means UZ_MISMATCH instead of a warning wherever a tensor is missing (frozen parameters
 * that were not saved), values are not what was asked for (masters that are not fp32, fp64 that
 * stays, overflow), or it is in doubt what they are (a renamed shard, steps that differ). Remarks
 * about free space and about other tools stay warnings.
 */
struct uz_input_options {
    const char *tag;               /**< folder in the checkpoint root; NULL: what `latest` names */
    const char *const *input_dirs; /**< further folders with shards of the same checkpoint */
    size_t n_input_dirs;
    /**
     * A JSON file that tells how the shards of tensor ranks are joined, with the keys of
     * DeepSpeed's universal_checkpoint_info; it counts in place of what the checkpoint records.
     * NULL: none.
     */
    const char *tp_map;
    enum uz_source source;   /**< default UZ_SOURCE_MASTERS */
    bool strict;             /**< what is else a warning about data is an error; see below */
    unsigned threads;        /**< 0 (default): the processors this process may use */
    struct uz_limits limits; /**< caps on the input */
};

/** Which checkpoint was read. Strings belong to what this is a part of. */
struct uz_source_info {
    const char *tag;        /**< NULL if the input is no checkpoint; then nothing else is set */
    const char *ds_version; /**< "" if the files don't tell */
    int zero_stage;
    uint64_t world_size; /**< data-parallel ranks */
};

/** Sets the documented defaults. */
UZ_API void uz_input_options_default(struct uz_input_options *options);

#ifdef __cplusplus
}
#endif
#endif
