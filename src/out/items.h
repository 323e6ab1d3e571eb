/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensors go to the output, under which name and in which dtype. */
#ifndef UZ_OUT_ITEMS_H
#define UZ_OUT_ITEMS_H

#include <stdbool.h>

#include "base/notes.h"
#include "layout/model.h"

/* How floating-point tensors are stored in the output; see uz_output_dtype. */
enum uz_dtype_policy { UZ_POLICY_FP32, UZ_POLICY_BF16, UZ_POLICY_FP16, UZ_POLICY_KEEP };

struct uz_item {
    const char *name; /* borrowed from the model */
    uint32_t tensor;
    enum uz_dtype dtype;
    uint64_t nbytes;
    size_t holder; /* the item whose data it shares (an earlier one), or its own index */
};

/* A name that is not written because the same data stands under another. */
struct uz_dropped_name {
    const char *name, *kept; /* borrowed from the model */
    size_t item;             /* index of the item that is named `kept` */
};

struct uz_items {
    struct uz_item *items; /* in output order */
    size_t n;
    struct uz_dropped_name *dropped;
    size_t n_dropped;
    size_t n_excluded;  /* frozen parameters that were left out on request */
    size_t n_as_stored; /* parameters of a dtype that no policy changes (fp64, fp8, integers) */
};

/*
 * The dtype a tensor gets. Parameters with a master: fp32 widens it, bf16 and fp16 round it, keep
 * rounds it to the dtype of its low-precision copy. Frozen ones: widened, rounded, as stored.
 * Buffers and everything that is not fp32, bf16 or fp16: as stored.
 */
enum uz_dtype uz_output_dtype(const struct uz_tensor *tensor, enum uz_dtype_policy policy);

/*
 * Selects the model's tensors for a format that keeps one name of tied tensors: the holder's, or
 * that of an alias if it is the embedding and the holder is not (loaders re-tie from there). Free
 * with uz_items_free. UZ_ARG if nothing is left to write.
 */
int uz_items_select(struct uz_items *items, const struct uz_model *model,
                    enum uz_dtype_policy policy, bool exclude_frozen, struct uz_error *err);

void uz_items_free(struct uz_items *items);

#endif
