/* SPDX-License-Identifier: Apache-2.0 */
/* The names of each weight after rules were applied: its own and those that are tied to it. */
#ifndef UZ_OUT_WEIGHT_NAMES_H
#define UZ_OUT_WEIGHT_NAMES_H

#include <stdbool.h>

#include <unzero/names.h>

#include "base/notes.h"
#include "layout/model.h"

struct uz_weight_name {
    const char *old_name; /* in the model */
    const char *name;     /* new one; NULL: dropped. old_name itself if nothing changed it */
    uint64_t order;       /* place in the module */
    bool is_alias;
    uint32_t tensor; /* the weight */
};

/* Names of weight i that stay: names[first[i]] up to names[first[i + 1]], its own one first. */
struct uz_weight_names {
    struct uz_weight_name *names; /* those that are dropped stand at the end */
    size_t n;
    size_t *first;
};

/*
 * Lists the names of the model's first n_weights tensors. rules may be NULL. New names live in the
 * arena. Fails as uz_names_apply does. Free with uz_weight_names_free, after failures too.
 */
int uz_weight_names_make(struct uz_weight_names *names, const struct uz_model *model,
                         size_t n_weights, const struct uz_name_rules *rules,
                         struct uz_arena *arena, struct uz_notes *notes, struct uz_error *err);

void uz_weight_names_free(struct uz_weight_names *names);

/* True if the old or the new name says that it is the input embedding. */
bool uz_is_embedding(const struct uz_weight_name *name);

#endif
