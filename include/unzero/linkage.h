/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which part of a low-precision parameter (lp) lies where in a rank's partition of the flat
 * high-precision group (hp): DeepSpeed's mixed-precision linkage for any program, on tensors in
 * memory or in a checkpoint (unzero/checkpoint.h).
 *
 * The parameters of an optimizer group stand one after another in a flat buffer, which is cut into
 * equal partitions, one a rank. A parameter that shares elements with a partition has a fragment
 * there:
 *
 *                   0           4     6        9        12
 *     parameters    |   embed   |    weight    |  bias  |
 *     flat group    [ .  .  .  .  .  .  .  .  .  .  .  .]
 *     partitions    [      rank 0     |      rank 1     ]
 *     fragments     of embed [0, 4) and of weight [0, 2) on rank 0; of weight [2, 5) and of bias
 *                   [0, 3) on rank 1
 *
 * Every function names what it mirrors in DeepSpeed 0.19.8: deepspeed/utils/
 * mixed_precision_linkage.py ("mpl") and deepspeed/utils/tensor_fragment.py ("tf"). Where the
 * original raises an exception, the function fails with UZ_ARG unless another status is named.
 *
 * All sizes and addresses are in elements. Nothing here starts a thread or keeps global state.
 * Linking, setting and updating write to the parameters, mappings and tensors they are given: one
 * thread at a time for each; reading functions may run side by side.
 */
#ifndef UNZERO_LINKAGE_H
#define UNZERO_LINKAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dtype.h"
#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Tensors ---- */

/**
 * Elements that are not in memory. The functions get elements [first, first + n_elems) of the
 * source in the view's dtype and the machine's byte order, and are called on the thread that uses
 * the view. They return 0, or a negative status with *err filled.
 */
struct uz_view_source {
    int (*read)(void *cookie, uint64_t first, uint64_t n_elems, void *out, struct uz_error *err);
    /** NULL: the elements cannot be written. */
    int (*write)(void *cookie, uint64_t first, uint64_t n_elems, const void *elems,
                 struct uz_error *err);
    void *cookie;
};

/**
 * A flat run of elements (stride 1); the elements are borrowed. They are in memory at `data`, or
 * behind `source` from its element `first` on. A view with neither has a number of elements but no
 * values (a parameter whose low-precision copy is elsewhere).
 */
struct uz_tensor_view {
    void *data; /**< of any alignment; NULL if not in memory */
    const struct uz_view_source *source;
    uint64_t first; /**< element of `source`; unused in memory */
    uint64_t numel;
    enum uz_dtype dtype;
};

/**
 * A view of elements in memory. `data` may be constant if the view is only read from.
 */
static inline struct uz_tensor_view uz_view_of(void *data, enum uz_dtype dtype, uint64_t numel)
{
    struct uz_tensor_view view = {data, NULL, 0, numel, dtype};
    return view;
}

/* ---- Fragments ---- */

/** Where a fragment lies in a parameter or in a partition (tf: fragment_address). */
struct uz_fragment_address {
    uint64_t start;
    uint64_t numel;
};

/** The overlap of one parameter with one partition; both addresses have the same numel. */
struct uz_hp_fragment {
    struct uz_fragment_address lp; /**< inside the parameter */
    struct uz_fragment_address hp; /**< inside the partition */
};

/**
 * The parameter occupies [offset, offset + numel) of the flat group, the partition
 * [partition_start, partition_start + partition_size). True and *fragment if they share an
 * element; a parameter without elements never does. The sums must fit 64 bits. Pure arithmetic, on
 * which all else here and the library's own readers stand.
 */
UZ_API bool uz_hp_fragment(uint64_t offset, uint64_t numel, uint64_t partition_start,
                           uint64_t partition_size, struct uz_hp_fragment *fragment);

/* ---- Gradients ---- */

/** The gradients of one parameter group on one rank, in the order that indices count. */
struct uz_gradient_list {
    const struct uz_tensor_view *items;
    size_t n;
};

/**
 * Gradients by parameter group. groups[g] is NULL while group g has none: the caller changes that
 * as training goes on, and mappings look when they are asked. Borrowed by the mappings made with
 * it.
 */
struct uz_gradient_dict {
    const struct uz_gradient_list *const *groups;
    size_t n_groups;
};

/* ---- Ranks ---- */

struct uz_lp_param;

/** The parameter list of one rank. */
struct uz_lp_param_list {
    struct uz_lp_param *const *items;
    size_t n;
};

/**
 * What a caller with one process a rank does instead of an all-reduce. `full` holds `numel`
 * elements of a parameter: this rank's fragment (of address `own`; numel 0 if it has none) and
 * zeros elsewhere. On return it must hold the fragments of all ranks. A sum of floats, which is
 * what DeepSpeed does, turns -0.0 into 0.0; a sum or a bitwise or of the elements as 32-bit
 * integers, or sending the fragments about, keeps every bit. Called on every rank that asks, with
 * a fragment or without, in the order in which the ranks ask. Returns 0, or a negative status with
 * *err filled.
 */
struct uz_collective {
    int (*all_reduce)(void *cookie, float *full, uint64_t numel,
                      const struct uz_fragment_address *own, struct uz_error *err);
    void *cookie;
};

/**
 * The data-parallel ranks that share a group of parameters. One of
 *  - ranks within reach, in this process or in a checkpoint: `ranks` has the parameter list of
 *    each. The lists have the same parameters in the same order, and each was linked with this
 *    group. Values are copied bit for bit.
 *  - `collective`: the ranks are elsewhere; `ranks` is not used.
 * Borrowed by the parameters that are linked with it. Parameters without a group (NULL) are the
 * only rank.
 */
struct uz_dp_group {
    const struct uz_lp_param_list *ranks;
    size_t n_ranks;
    const struct uz_collective *collective;
};

/* ---- Parameters and mappings ---- */

/** A view of an optimizer state's fragment under its name. */
struct uz_state_fragment {
    const char *key; /**< borrowed from the optimizer states */
    struct uz_tensor_view view;
};

/** What links a parameter to its fragment on one rank (tf: tensor_fragment). */
struct uz_hp_mapping {
    struct uz_tensor_view lp_fragment; /**< inside the parameter's elements */
    struct uz_fragment_address lp_fragment_address;
    struct uz_tensor_view hp_fragment; /**< inside the flat partition's elements */
    struct uz_fragment_address hp_fragment_address;
    const struct uz_gradient_dict *gradient_dict;
    const struct uz_gradient_dict *offload_gradient_dict;
    bool use_offload;
    size_t param_group_index;
    bool has_states; /**< states were linked, though there may be none */
    struct uz_state_fragment *states;
    size_t n_states;
};

/**
 * A parameter on one rank. The caller fills in the first two and zeroes the rest before it is
 * linked for the first time; linking fills those, and uz_unlink_hp_params frees what they own.
 */
struct uz_lp_param {
    const char *name;         /**< for messages; NULL if it has none; borrowed */
    struct uz_tensor_view lp; /**< all elements of the low-precision parameter, row-major */

    struct uz_hp_mapping *hp_mapping; /**< NULL: none of its elements are in the partition */
    const struct uz_dp_group *dp_group;
    size_t list_index;           /**< place in the list it was linked in */
    bool has_index;              /**< it counts as one of the partition's parameters */
    size_t index_in_param_group; /**< its gradient's index, if so */
};

/** Arguments of linking: those of mpl: link_hp_params. Everything is borrowed. */
struct uz_linkage {
    struct uz_lp_param *const *lp_params;
    size_t n_lp_params;
    struct uz_tensor_view flat_hp_partition; /**< partition_size elements, or less by padding */
    const struct uz_gradient_dict *gradient_dict;         /**< may be NULL */
    const struct uz_gradient_dict *offload_gradient_dict; /**< may be NULL */
    bool use_offload;                                     /**< gradients come from the latter */
    size_t param_group_index;
    uint64_t partition_start; /**< in the flat group */
    uint64_t partition_size;
    const struct uz_dp_group *dp_group; /**< may be NULL */
    /** Where each parameter begins in the flat group; NULL: one behind another, without gaps. */
    const uint64_t *param_offsets;
};

/** A parameter that overlaps with the partition, and where it begins in the flat group. */
struct uz_param_offset {
    size_t param; /**< index into the list */
    uint64_t offset;
};

/**
 * Finds the parameters that overlap with the partition (mpl: _init_lp_to_hp_mapping). Uses
 * lp_params, partition_start, partition_size, dp_group, param_offsets and use_offload. Every
 * parameter of the list loses its mapping and gets its group and place in the list; those of the
 * partition get index_in_param_group: their place among them, in list order. With param_offsets
 * it counts in the order of offsets and, unless use_offload, once more for each gap of padding
 * before a parameter, because the list of gradients has an entry for each.
 *
 * A parameter without elements that stands inside the partition counts, but is not in `overlaps`,
 * which has room for n_lp_params and gets *n_overlaps in list order. A partition of no elements
 * overlaps with the parameter that it would cut.
 *
 * UZ_ARG if offsets and sizes do not fit 63 bits, before anything was changed; UZ_NOMEM.
 */
UZ_API int uz_init_lp_to_hp_mapping(const struct uz_linkage *linkage,
                                    struct uz_param_offset *overlaps, size_t *n_overlaps,
                                    struct uz_error *err);

/**
 * Makes the mapping of one parameter that begins at `lp_start` of the flat group (tf:
 * get_hp_fragment_mapping). Uses the partition, gradient and group fields of `linkage`. UZ_ARG if
 * they share no element, or the flat partition is too short. The caller frees *mapping with
 * uz_hp_mapping_free; it is set only on success.
 */
UZ_API int uz_get_hp_fragment_mapping(const struct uz_linkage *linkage,
                                      const struct uz_lp_param *param, uint64_t lp_start,
                                      struct uz_hp_mapping **mapping, struct uz_error *err);

/** Frees a mapping. NULL is allowed. */
UZ_API void uz_hp_mapping_free(struct uz_hp_mapping *mapping);

/**
 * Links every parameter of the list to its fragment of the partition, if it has one (mpl:
 * link_hp_params). May be called again. On failure no parameter of the list has a mapping.
 */
UZ_API int uz_link_hp_params(const struct uz_linkage *linkage, struct uz_error *err);

/** Takes the mappings from `n` parameters and frees them. Linked anew, they get others. */
UZ_API void uz_unlink_hp_params(struct uz_lp_param *const *params, size_t n);

/* ---- Optimizer states ---- */

/** One value of the optimizer's state for a partition. */
struct uz_state_value {
    const char *key; /**< such as "exp_avg"; borrowed by mappings */
    /** Dimensions: 1 for a flat tensor, 0 for a scalar, -1 for what is no tensor. */
    int ndim;
    struct uz_tensor_view view;
};

/** The optimizer's state of one partition; keys differ from one another. */
struct uz_state_values {
    const struct uz_state_value *items;
    size_t n;
};

/**
 * Links the states of the parameters that have a mapping (mpl:
 * lazy_init_hp_params_optimizer_state). `states` is the optimizer's state of this partition, NULL
 * if it has none, which is UZ_ARG if a parameter has a mapping.
 */
UZ_API int uz_lazy_init_hp_params_optimizer_state(struct uz_lp_param *const *params, size_t n,
                                                  const struct uz_tensor_view *flat_hp_partition,
                                                  const struct uz_state_values *states,
                                                  struct uz_error *err);

/**
 * Gives the mapping a fragment of every state that has the flat partition's shape; others are left
 * out (tf: tensor_fragment.set_optim_state_fragment). Replaces those it had.
 */
UZ_API int uz_set_optim_state_fragment(struct uz_hp_mapping *mapping,
                                       const struct uz_tensor_view *flat_hp_partition,
                                       const struct uz_state_values *states, struct uz_error *err);

/**
 * The fragment of one state (tf: tensor_fragment.get_optim_state_fragment). UZ_ARG for an unknown
 * key; the message lists those there are.
 */
UZ_API int uz_get_optim_state_fragment(const struct uz_hp_mapping *mapping, const char *key,
                                       struct uz_tensor_view *fragment, struct uz_error *err);

/**
 * The number of states (tf: tensor_fragment.get_optim_state_keys). Up to `n_keys` of their names
 * are put to `keys` (NULL if n_keys is 0) in the optimizer's order; they are borrowed.
 */
UZ_API size_t uz_get_optim_state_keys(const struct uz_hp_mapping *mapping, const char **keys,
                                      size_t n_keys);

/* ---- Whole values ---- */

/**
 * The whole value of a parameter (`key` NULL) or of one of its states, as fp32 (tf:
 * get_full_hp_param). `full` has room for `numel` elements, which must be the parameter's. fp16 and
 * bf16 are widened; other dtypes are UZ_UNSUPPORTED.
 *
 * With ranks within reach the fragments are copied as they are, and UZ_MISMATCH says so if they do
 * not cover the parameter exactly (the original fills with zeros). With a collective, every rank of
 * the group must call.
 */
UZ_API int uz_get_full_hp_param(const struct uz_lp_param *param, const char *key, float *full,
                                uint64_t numel, struct uz_error *err);

/**
 * Sets the parameter or a state from a whole value, cast to what the fragments have (tf:
 * set_full_hp_param). With ranks within reach the fragments of all ranks are set, and nothing if
 * one cannot be; with a collective or no group that of this rank. The low-precision copy is left as
 * it is: see uz_update_lp.
 */
UZ_API int uz_set_full_hp_param(struct uz_lp_param *param, const char *key,
                                const struct uz_tensor_view *value, struct uz_error *err);

/**
 * The gradient of a mapped parameter, as it is kept on this rank (tf:
 * tensor_fragment.get_lp_grad_fragment): entry `index_in_param_group` of its group's list. UZ_ARG
 * outside the time between the backward pass and the optimizer's step, when the dictionary has
 * none.
 */
UZ_API int uz_get_lp_grad_fragment(const struct uz_hp_mapping *mapping, size_t index_in_param_group,
                                   struct uz_tensor_view *gradient, struct uz_error *err);

/**
 * The whole gradient as fp32 (tf: get_full_hp_grad), otherwise like uz_get_full_hp_param. A rank's
 * gradient has the elements of its fragment, or those of the whole parameter (BF16_Optimizer), of
 * which the fragment's are taken.
 */
UZ_API int uz_get_full_hp_grad(const struct uz_lp_param *param, float *full, uint64_t numel,
                               struct uz_error *err);

/**
 * Sets the gradient from a whole value, cast to what the gradients have (tf: set_full_hp_grad),
 * otherwise like uz_set_full_hp_param. A rank's gradient must have the elements of its fragment.
 * *overflow (may be NULL) tells whether the value has an infinity or a NaN, as far as a fragment
 * was set: what the original tells the optimizer's overflow tracker.
 */
UZ_API int uz_set_full_hp_grad(struct uz_lp_param *param, const struct uz_tensor_view *value,
                               bool *overflow, struct uz_error *err);

/* ---- Between the precisions ---- */

/** Sets the hp fragment from the low-precision one (tf: tensor_fragment.update_hp). */
UZ_API int uz_update_hp(const struct uz_hp_mapping *mapping, struct uz_error *err);

/**
 * Sets the low-precision fragment from the hp one, rounded to nearest, ties to even (tf:
 * tensor_fragment.update_lp). *n_overflows (may be NULL): finite values that became infinite.
 */
UZ_API int uz_update_lp(const struct uz_hp_mapping *mapping, uint64_t *n_overflows,
                        struct uz_error *err);

#ifdef __cplusplus
}
#endif
#endif
