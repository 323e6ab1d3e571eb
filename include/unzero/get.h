/* SPDX-License-Identifier: Apache-2.0 */
/* One whole tensor of a checkpoint, or a part of it: its values, or what they are like. */
#ifndef UNZERO_GET_H
#define UNZERO_GET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consolidate.h"
#include "dtype.h"
#include "error.h"
#include "input.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What is wanted; start from uz_get_options_default. Strings are borrowed. */
struct uz_get_options {
    struct uz_input_options input; /**< how to read the checkpoint */
    const char *state;             /**< optimizer state; NULL (default): the weight itself */
    /** dtype of the elements that are given; UZ_DTYPE_INVALID (default): as stored */
    enum uz_dtype dtype;
    /**
     * The part that is wanted, in the syntax of numpy for one index or range (`start:stop:step`, a
     * positive step) for each dimension, commas between; dimensions that are left out are whole,
     * an index takes its dimension away. NULL (default): all.
     */
    const char *slice;
    const char *scratch_dir; /**< for storages that are compressed; default "/tmp" */
};

/** The tensor that was found. Pointers live as long as it. */
struct uz_got_info {
    const char *name;        /**< as asked for; of tied weights any name can be */
    const char *stored_name; /**< the name it is stored under */
    const char *role;        /**< "parameter", "frozen", "buffer", "state" */
    const char *state;       /**< the optimizer state, NULL for weights and buffers */
    enum uz_dtype stored;    /**< dtype of the stored elements */
    enum uz_dtype dtype;     /**< dtype of the elements that are given */
    unsigned ndim;           /**< of the part that is wanted, as all that follows */
    const uint64_t *shape;   /**< ndim numbers */
    uint64_t numel;
    struct uz_source_info source;
    const char *const *warnings; /**< about the checkpoint */
    size_t n_warnings;
};

/** What the values of a tensor are like. Sums are made in double precision, NaN and Inf apart. */
struct uz_statistics {
    uint64_t n_elems;
    uint64_t n_nan, n_inf, n_zero;
    double min, max; /**< of finite elements; NaN if there are none */
    double mean;     /**< of finite elements; NaN if there are none */
    double norm;     /**< root of the sum of squares of finite elements */
};

/** A tensor of an open checkpoint. */
struct uz_got;

/** Sets the documented defaults. */
UZ_API void uz_get_options_default(struct uz_get_options *options);

/** UZ_ARG, with what is wrong, for a `slice` that fits no tensor, whatever its shape. */
UZ_API int uz_get_slice_check(const char *slice, struct uz_error *err);

/**
 * Finds tensor `name` in a checkpoint. Reads metadata alone, unless storages are compressed. The
 * caller frees *got with uz_got_free; it is set only on success. One thread at a time may use it.
 *
 * UZ_ARG if there is no such tensor (the message names the nearest ones), for a slice that does not
 * fit, or a dtype that the stored one is not converted to; else any status of reading.
 */
UZ_API int uz_get(struct uz_got **got, const char *checkpoint, const char *name,
                  const struct uz_get_options *options, struct uz_error *err);

/** What was found. */
UZ_API const struct uz_got_info *uz_got_info(const struct uz_got *got);

/**
 * Copies elements [first, first + n_elems) of the part that is wanted, counted row-major, to `out`,
 * in the machine's byte order, without gaps: n_elems * uz_dtype_size(dtype) bytes.
 */
UZ_API int uz_got_read(struct uz_got *got, uint64_t first, uint64_t n_elems, void *out,
                       struct uz_error *err);

/** Goes through all elements. UZ_UNSUPPORTED for a dtype that has no numbers (fp8). */
UZ_API int uz_got_statistics(struct uz_got *got, struct uz_statistics *statistics,
                             struct uz_error *err);

/** Formats a tensor can be written in. */
enum uz_array_format {
    UZ_ARRAY_NPY,         /**< numpy's; it has no bf16 and no fp8 (UZ_UNSUPPORTED) */
    UZ_ARRAY_SAFETENSORS, /**< one tensor under its name (`name/state` is never used) */
};

/**
 * Writes the part that is wanted to a new file (UZ_ARG if it exists, unless `force`), which gets
 * its name when it is whole. `progress` (may be NULL) is called after each MiB; a non-zero result
 * stops with UZ_CANCELLED.
 */
UZ_API int uz_got_save(struct uz_got *got, const char *path, enum uz_array_format format,
                       bool force, uz_progress_fn progress, void *cookie, struct uz_error *err);

/** The same to an open descriptor, from front to back: a pipe will do. `what` is for messages. */
UZ_API int uz_got_write(struct uz_got *got, int fd, enum uz_array_format format, const char *what,
                        uz_progress_fn progress, void *cookie, struct uz_error *err);

/** NULL is allowed. */
UZ_API void uz_got_free(struct uz_got *got);

#ifdef __cplusplus
}
#endif
#endif
