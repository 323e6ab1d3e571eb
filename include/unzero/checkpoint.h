/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An open checkpoint: every tensor and optimizer state by name, and the linkage of each parameter
 * to the ranks' partitions in the files (unzero/linkage.h).
 */
#ifndef UNZERO_CHECKPOINT_H
#define UNZERO_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dtype.h"
#include "error.h"
#include "input.h"
#include "linkage.h"

#ifdef __cplusplus
extern "C" {
#endif

/** How to open; start from uz_checkpoint_options_default. Strings are borrowed by the handle. */
struct uz_checkpoint_options {
    struct uz_input_options input;
    /** Optimizer state that is wanted beside the weights; "all" (default); NULL: none. */
    const char *state;
    /**
     * Folder for an unnamed temporary file with what is compressed in the checkpoint, unpacked;
     * default "/tmp". Nothing is written if nothing is compressed.
     */
    const char *spool_dir;
    /**
     * -1 (default): tensors are whole, joined from all tensor ranks and pipeline stages. Else the
     * model-parallel rank (pipeline stage * tensor ranks + tensor rank) whose shards are the
     * tensors, as that rank has them in memory: so partitions can be linked to the shards that were
     * cut. UZ_ARG if there is no such rank. A pipeline's shards have no low-precision copies.
     */
    int64_t model_parallel_rank;
};

/** What a tensor is. */
enum uz_tensor_kind {
    UZ_TENSOR_PARAM,  /**< a parameter with a high-precision master */
    UZ_TENSOR_FROZEN, /**< a parameter without: frozen, or of zero elements */
    UZ_TENSOR_BUFFER, /**< running statistics, counters */
};

/** One tensor; pointers belong to the handle. */
struct uz_tensor_info {
    const char *name;
    enum uz_tensor_kind kind;
    enum uz_dtype dtype;    /**< as stored: that of the masters of a parameter */
    enum uz_dtype lp_dtype; /**< of the low-precision copy; UZ_DTYPE_INVALID if unknown */
    unsigned ndim;
    const uint64_t *shape;
    uint64_t numel;
};

/** What the files tell; pointers belong to the handle. */
struct uz_checkpoint_info {
    const char *tag;
    const char *ds_version; /**< "" if the files don't tell */
    int zero_stage;
    uint64_t world_size; /**< data-parallel ranks */
    size_t n_tensors;
    const char *const *states; /**< of the optimizer, such as "exp_avg", as far as wanted */
    size_t n_states;
    const char *const *warnings;
    size_t n_warnings;
};

/**
 * An open checkpoint. Reading functions may be called from any thread; the reads of one handle are
 * done one after another.
 */
struct uz_checkpoint;

/** Sets the documented defaults. */
UZ_API void uz_checkpoint_options_default(struct uz_checkpoint_options *options);

/**
 * Opens a checkpoint (a root or a tag folder) of any layout that can be consolidated: reads and
 * checks all metadata, unpacks what is compressed, and, where the metadata leaves doubts whether
 * the files belong together, proves it from the values. *checkpoint is set only on success; free
 * with uz_checkpoint_close. Fails with any status of enum uz_status.
 */
UZ_API int uz_checkpoint_open(struct uz_checkpoint **checkpoint, const char *path,
                              const struct uz_checkpoint_options *options, struct uz_error *err);

/** Closes the handle. What was linked with it must be gone. NULL is allowed. */
UZ_API void uz_checkpoint_close(struct uz_checkpoint *checkpoint);

/** What the files tell, valid as long as the handle. */
UZ_API const struct uz_checkpoint_info *uz_checkpoint_info(const struct uz_checkpoint *checkpoint);

/** Tensor number `index`, below n_tensors; in the module's order. */
UZ_API struct uz_tensor_info uz_checkpoint_tensor(const struct uz_checkpoint *checkpoint,
                                                  size_t index);

/** The number of the tensor with that name, or with an alias of it (tied weights). UZ_ARG if none.
 */
UZ_API int uz_checkpoint_find(const struct uz_checkpoint *checkpoint, const char *name,
                              size_t *index, struct uz_error *err);

/**
 * Reads elements [first, first + n_elems) of a tensor (`state` NULL), or of one of its optimizer
 * states, row-major, to `out`, which has room for as many elements of `dtype`: the stored one, or
 * one that is cast to (fp32, bf16 and fp16 are cast to one another; else UZ_UNSUPPORTED). Only
 * what is asked for is read. UZ_ARG for elements beyond the tensor and for a state that the tensor
 * has not; the message lists those it has.
 */
UZ_API int uz_checkpoint_read(struct uz_checkpoint *checkpoint, size_t index, const char *state,
                              uint64_t first, uint64_t n_elems, enum uz_dtype dtype, void *out,
                              struct uz_error *err);

/**
 * A parameter on every data-parallel rank of the checkpoint. ranks[r] is linked to rank r's
 * partition in the files: its hp_mapping (NULL: nothing of it is there) has the addresses, the
 * fragment of the master, and those of the states; their elements, and those of the low-precision
 * copy if there is one, are read when asked for, and cannot be written. param_group_index is the
 * parameter group, under ZeRO-3 the sub-group, whose flat tensor the partition is. There are no
 * gradients in a checkpoint. uz_get_full_hp_param of any rank gives the whole value.
 */
struct uz_linked_param {
    struct uz_lp_param *ranks;
    size_t n_ranks;
};

/**
 * Links the parameter with that number. The caller frees *linked with uz_linked_param_free before
 * it closes the handle. UZ_ARG for a tensor that is not partitioned (a buffer, a frozen parameter,
 * any of ZeRO 0), UZ_UNSUPPORTED if partitions hold shards of the parameter (tensor parallelism);
 * uz_checkpoint_read reads those, too.
 */
UZ_API int uz_checkpoint_link(struct uz_checkpoint *checkpoint, size_t index,
                              struct uz_linked_param **linked, struct uz_error *err);

/** Frees it. NULL is allowed. */
UZ_API void uz_linked_param_free(struct uz_linked_param *linked);

#ifdef __cplusplus
}
#endif
#endif
