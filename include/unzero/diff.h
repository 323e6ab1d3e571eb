/* SPDX-License-Identifier: Apache-2.0 */
/* Whether two checkpoints or weight files hold the same values, and where they differ. */
#ifndef UNZERO_DIFF_H
#define UNZERO_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consolidate.h"
#include "dtype.h"
#include "error.h"
#include "input.h"
#include "names.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * What is compared and what is let pass; start from uz_diff_options_default. Strings are borrowed.
 *
 * Without a tolerance elements must be equal bit by bit; in different dtypes their values must be
 * (+0 and -0 differ, any two NaN are equal). With any tolerance, an element passes also if
 *
 *     |a - b| <= atol + rtol * |b|
 *
 * as in numpy.isclose, or if its distance is at most `ulp`: units in the last place of the dtype
 * with fewer bits, to which the other element is rounded first. So 0 means "equal after rounding",
 * and lets -0 pass as +0. Two NaN pass under any tolerance; a NaN and a number never do, nor does
 * an infinity and what is not rounded to it.
 */
struct uz_diff_options {
    struct uz_input_options input; /**< how to read both sides; strict and tag mean both, too */
    const char
        *state; /**< compare this optimizer state; "all": weights and states; NULL: weights */
    /**
     * Rules for names. What is included and excluded is so on both sides; prefixes are taken off
     * and names changed on side A only, as consolidate does.
     */
    struct uz_name_rules names;
    bool has_tolerance; /**< whether atol and rtol count; default false */
    double atol, rtol;  /**< default 0 */
    bool has_ulp;       /**< whether ulp counts; default false */
    uint64_t ulp;
    const char *scratch_dir; /**< for storages that are compressed; default "/tmp" */
};

/** How two tensors compare. */
enum uz_diff_verdict {
    UZ_DIFF_EQUAL,   /**< all elements are equal */
    UZ_DIFF_CLOSE,   /**< all pass the tolerance */
    UZ_DIFF_ROUNDED, /**< one side is the other, rounded to its dtype */
    UZ_DIFF_VALUES,  /**< some elements differ */
    UZ_DIFF_DTYPE,   /**< dtypes whose values cannot be compared */
    UZ_DIFF_SHAPE,   /**< shapes differ: not compared */
    UZ_DIFF_ONLY_A,  /**< side B has no tensor of that name */
    UZ_DIFF_ONLY_B,
};

/** "equal", "close", "rounded", "values", "dtype", "shape", "only-a", "only-b". */
UZ_API const char *uz_diff_verdict_name(enum uz_diff_verdict verdict);

/** A tensor as one side has it. */
struct uz_diff_operand {
    enum uz_dtype dtype; /**< UZ_DTYPE_INVALID: it has none */
    unsigned ndim;
    const uint64_t *shape;
};

/** One name. Elements are counted row-major from 0. */
struct uz_diff_tensor {
    const char *name; /**< after renaming */
    enum uz_diff_verdict verdict;
    bool passes; /**< equal within the tolerance */
    struct uz_diff_operand a, b;
    uint64_t n_elems;
    uint64_t n_differ; /**< elements that are not equal */
    uint64_t n_beyond; /**< those of them that do not pass */
    uint64_t n_nan;    /**< those that differ with a NaN on one side or both */
    double max_abs;    /**< largest |a - b|; infinity if one side is */
    double max_rel;    /**< largest |a - b| / max(|a|, |b|) */
    bool has_ulp;      /**< whether distances in ulp are known: floats */
    uint64_t max_ulp;
    uint64_t first; /**< index of the first element that differs; UINT64_MAX: none */
    double first_a, first_b;
};

/** What was found. Everything belongs to the diff. */
struct uz_diff_result {
    bool same; /**< every name passes */
    enum uz_input_kind kind_a, kind_b;
    const struct uz_diff_tensor *tensors; /**< the most different first, equal ones last */
    size_t n_tensors;
    uint64_t n_equal, n_close, n_rounded, n_differ, n_only_a, n_only_b; /**< of names */
    uint64_t n_tied; /**< names that were not compared again: the same pair of tensors */
    uint64_t n_elems;
    const char *const *warnings;
    size_t n_warnings;
};

/** A finished comparison. */
struct uz_diff;

/** Sets the documented defaults. */
UZ_API void uz_diff_options_default(struct uz_diff_options *options);

/**
 * Compares all tensors of `a` and `b`, whatever they are: ZeRO checkpoints, PyTorch or safetensors
 * files, or folders of them, in any sharding and dtype. A name that is missing on one side is fine
 * if its tensor is there under another name (tied weights). Reads both sides once, in parallel, in
 * memory that does not depend on their size. `progress` may be NULL; see uz_progress_fn. The caller
 * frees *out with uz_diff_free. Differences are a result, not a failure.
 */
UZ_API int uz_diff_run(struct uz_diff **out, const char *a, const char *b,
                       const struct uz_diff_options *options, uz_progress_fn progress, void *cookie,
                       struct uz_error *err);

/** Lives as long as the diff; may be read by any thread. */
UZ_API const struct uz_diff_result *uz_diff_result(const struct uz_diff *diff);

/** NULL is allowed. */
UZ_API void uz_diff_free(struct uz_diff *diff);

#ifdef __cplusplus
}
#endif
#endif
