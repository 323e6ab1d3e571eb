/* SPDX-License-Identifier: Apache-2.0 */
/* What is in a checkpoint or weight file: metadata alone, also of what no other command reads. */
#ifndef UNZERO_INSPECT_H
#define UNZERO_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dtype.h"
#include "error.h"
#include "input.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What stored tensors are for. */
enum uz_stored_kind {
    UZ_STORED_MASTERS, /**< the optimizer's high-precision weights */
    UZ_STORED_STATE,   /**< an optimizer state */
    UZ_STORED_LP,      /**< low-precision weights: the `module` of model states, layers, experts */
    UZ_STORED_FROZEN,  /**< frozen parameters */
    UZ_STORED_BUFFER,  /**< running statistics, counters */
    UZ_STORED_WEIGHTS, /**< of files that are no checkpoint */
    UZ_STORED_OTHER,   /**< what trainers add: random states, schedulers, ... */
};

/** "masters", "state", "lp", "frozen", "buffer", "weights", "other". */
UZ_API const char *uz_stored_kind_name(enum uz_stored_kind kind);

/**
 * The stored tensors of one kind and dtype, over all readable files. A tensor under two names in
 * one file counts once; what each rank keeps a copy of counts for each rank.
 */
struct uz_stored {
    enum uz_stored_kind kind;
    const char *state; /**< name of the optimizer state, NULL for other kinds */
    enum uz_dtype dtype;
    uint64_t n_tensors;
    uint64_t n_elems; /**< with padding */
    uint64_t nbytes;
};

/** Where a class comes from. */
enum uz_class_origin {
    UZ_CLASS_PYTHON,    /**< containers and plain data of Python's standard library */
    UZ_CLASS_PYTORCH,   /**< what torch.save writes for tensors */
    UZ_CLASS_NUMPY,     /**< numpy's arrays and scalars */
    UZ_CLASS_DEEPSPEED, /**< DeepSpeed's own */
    UZ_CLASS_FOREIGN,   /**< anything else: unpickling would import and may run it */
};

/** "python", "pytorch", "numpy", "deepspeed", "foreign". */
UZ_API const char *uz_class_origin_name(enum uz_class_origin origin);

/** A class or function that pickles name, as "module.name". */
struct uz_named_class {
    const char *name;
    enum uz_class_origin origin;
    uint64_t n_files; /**< files that name it */
};

/** A hyperparameter: its value as JSON text. */
struct uz_hyperparameter {
    const char *name;
    const char *json;
};

/** A parameter group of the optimizer. */
struct uz_param_group {
    const struct uz_hyperparameter *values;
    size_t n_values;
};

/** A tensor by its logical name. */
struct uz_inspect_tensor {
    const char *name;
    enum uz_stored_kind kind; /**< MASTERS: a trained parameter with a master */
    enum uz_dtype dtype;      /**< stored; of the master if there is one */
    enum uz_dtype lp_dtype;   /**< of the low-precision copy; UZ_DTYPE_INVALID: none known */
    unsigned ndim;
    const uint64_t *shape;
    uint64_t n_elems;
    uint64_t nbytes;     /**< in `dtype` */
    const char *tied_to; /**< name that holds the data; NULL: it has its own */
    const char *file;    /**< the file it was found in, where files are not joined; else NULL */
};

/** A file that cannot be read. */
struct uz_file_fault {
    const char *file;
    const char *message;
};

/** A number of tensors and of their elements. */
struct uz_tensor_count {
    uint64_t n_tensors, n_elems;
};

/** What was found. Everything belongs to the inspection. 0 and NULL mean unknown. */
struct uz_inspect_summary {
    enum uz_input_kind kind;
    const char *tag;
    int zero_stage; /**< -1 if it is no ZeRO checkpoint, or not known */
    const char *ds_version;
    bool has_steps;
    int64_t global_steps, skipped_steps;
    uint64_t dp, tp, pp, ep; /**< degrees of parallelism; data parallel counts sequence parallel */
    const char *optimizer;   /**< type named in the configuration */
    const struct uz_param_group *groups;
    size_t n_groups;
    struct uz_tensor_count trainable, frozen, buffers; /**< tied ones once */
    uint64_t n_tied;                                   /**< second names */
    const struct uz_stored *contents;                  /**< sorted by kind, state, dtype */
    size_t n_contents;
    bool has_padding;
    uint64_t padding_nbytes;        /**< elements of masters and states that are no parameter's */
    uint64_t dead_nbytes;           /**< of storages that no tensor covers */
    const char *const *client_keys; /**< of the model states, beside DeepSpeed's own */
    size_t n_client_keys;
    const struct uz_named_class *classes; /**< sorted by name */
    size_t n_classes;
    const struct uz_inspect_tensor *tensors;
    size_t n_tensors;
    bool joined; /**< whether tensors are whole: if not, each is listed as its file has it */
    uint64_t n_files, file_nbytes;
    const struct uz_file_fault *faults;
    size_t n_faults;
    const char *refusal; /**< why consolidate (or reading) would fail; NULL: it would not */
    int refusal_status;  /**< enum uz_status */
    const char *const *warnings;
    size_t n_warnings;
};

/** The result of an inspection. */
struct uz_inspection;

/**
 * Reads the metadata of everything at `path`: a ZeRO checkpoint (root or tag folder), a PyTorch
 * file, a safetensors file, or a folder of them. Damaged files and layouts that cannot be converted
 * do not make it fail: they are in the summary. It fails if nothing at all can be read. Uses
 * options->threads threads; the caller frees *out with uz_inspection_free.
 */
UZ_API int uz_inspection_open(struct uz_inspection **out, const char *path,
                              const struct uz_input_options *options, struct uz_error *err);

/** Lives as long as the inspection; may be read by any thread. */
UZ_API const struct uz_inspect_summary *uz_inspection_summary(
    const struct uz_inspection *inspection);

/** NULL is allowed. */
UZ_API void uz_inspection_free(struct uz_inspection *inspection);

/** One line of a value tree. Texts are escaped for terminals and valid for the call. */
struct uz_tree_line {
    uint64_t number;   /**< of the line, from 1 */
    unsigned depth;    /**< 0: the value of the file */
    const char *key;   /**< what it is within the container: `"name"`, `[3]`, `.state`; "" at 0 */
    const char *value; /**< "dict of 3", "42", "tensor bf16 [2, 3] of storage 7" */
    uint64_t same_as;  /**< number of the line that shows this very object; 0: shown here */
};

/** A non-zero result stops the walk with UZ_CANCELLED. */
typedef int (*uz_tree_fn)(void *cookie, const struct uz_tree_line *line);

/** Bounds of a tree; start from uz_tree_options_default. */
struct uz_tree_options {
    uint64_t max_lines; /**< default 100,000 */
    uint64_t max_items; /**< of one container; the rest is counted; default 1,000 */
    unsigned max_depth; /**< default 32 */
};

/** Sets the documented defaults. */
UZ_API void uz_tree_options_default(struct uz_tree_options *options);

/**
 * Shows the values of a PyTorch file line by line. `path` is the file, or a checkpoint, of which
 * `file` names a shard (NULL: the first model states). An object that was shown before, or that
 * holds itself, is a reference to its line.
 */
UZ_API int uz_inspect_tree(const char *path, const char *file, const struct uz_input_options *input,
                           const struct uz_tree_options *options, uz_tree_fn show, void *cookie,
                           struct uz_error *err);

#ifdef __cplusplus
}
#endif
#endif
