/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensors go to the output, under which name and in which dtype. */
#ifndef UZ_OUT_ITEMS_H
#define UZ_OUT_ITEMS_H

#include <stdbool.h>

#include <unzero/consolidate.h>
#include <unzero/names.h>

#include "base/notes.h"
#include "layout/model.h"

/* How floating-point tensors are stored in the output; see uz_output_dtype. */
enum uz_dtype_policy { UZ_POLICY_FP32, UZ_POLICY_BF16, UZ_POLICY_FP16, UZ_POLICY_KEEP };

/* What becomes of tensors with several names. */
enum uz_ties {
    UZ_TIES_ONE_NAME, /* one name is written, the others are dropped: safetensors */
    UZ_TIES_SHARED,   /* every name; they share the data of the first: torch.save */
    UZ_TIES_COPIES,   /* every name, each with data of its own */
};

struct uz_items_options {
    enum uz_dtype_policy policy;
    enum uz_ties ties;
    bool widen_buffers;  /* float buffers become fp32 */
    bool exclude_frozen; /* frozen parameters are left out */
    const char *state;   /* NULL: the weights; a state's name: that state; "all": all of it */
    const struct uz_name_rules *names; /* NULL: names stay as they are */
};

struct uz_item {
    const char *name; /* borrowed from the model, or in the arena */
    uint32_t tensor;
    enum uz_dtype dtype;
    uint64_t nbytes;
    size_t holder; /* the item whose data it shares (an earlier one), or its own index */
};

/* A name that is not written because the same data stands under another. */
struct uz_dropped_name {
    const char *name, *kept;
    size_t item; /* index of the item that is named `kept` */
};

/* A name that rules have changed. */
struct uz_renamed {
    const char *from, *to;
};

struct uz_items {
    struct uz_item *items; /* in output order: that of the module; weights before states */
    size_t n, cap;
    struct uz_dropped_name *dropped;
    size_t n_dropped, cap_dropped;
    struct uz_left_out_name *left_out; /* names of the model that are not in the output */
    size_t n_left_out, cap_left_out;
    struct uz_renamed *renamed;
    size_t n_renamed, cap_renamed;
    size_t n_excluded;  /* frozen parameters that were left out on request */
    size_t n_as_stored; /* parameters of a dtype that no policy changes (fp64, fp8, integers) */
    struct uz_arena *arena;
};

/*
 * The dtype a tensor gets. Parameters with a master: fp32 widens it, bf16 and fp16 round it, keep
 * rounds it to the dtype of its low-precision copy. Frozen ones and optimizer states: widened,
 * rounded, as stored. Buffers and everything that is not fp32, bf16 or fp16: as stored.
 */
enum uz_dtype uz_output_dtype(const struct uz_tensor *tensor, enum uz_dtype_policy policy);

/*
 * Selects tensors of the model and gives them names and dtypes.
 *
 * Where one name of tied tensors is kept, it is the holder's, or that of an alias if it is the
 * embedding and the holder is not (loaders re-tie from there). Rules are about names: a tied tensor
 * is written as long as one of its names stays. Optimizer states are named as their parameters;
 * with state "all" every name gets its state in front, "fp32/" if it is no optimizer state.
 *
 * Warns of parameters that lack the state. UZ_ARG if nothing is left to write or two names are the
 * same. Free with uz_items_free, after failures too.
 */
int uz_items_select(struct uz_items *items, const struct uz_model *model,
                    const struct uz_items_options *options, struct uz_notes *notes,
                    struct uz_error *err);

void uz_items_free(struct uz_items *items);

#endif
