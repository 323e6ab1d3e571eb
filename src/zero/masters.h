/* SPDX-License-Identifier: Apache-2.0 */
/* The nameless masters and optimizer states that ZeRO stage 0 keeps in its model states. */
#ifndef UZ_ZERO_MASTERS_H
#define UZ_ZERO_MASTERS_H

#include "layout/model.h"
#include "torch/file.h"
#include "zero/sample.h"

enum { UZ_MAX_MASTERS_GROUPS = 65536 };

enum uz_masters_form {
    UZ_MASTERS_NONE,  /* none: fp32 training, or the module is all there is */
    UZ_MASTERS_LISTS, /* FP16_UnfusedOptimizer, fp32_groups: a list of tensors for each group */
    UZ_MASTERS_FLAT,  /* FP16_Optimizer, fp32_groups_flat: a flat tensor for each group */
};

/* A group of the optimizer; Muon's are as many as they have shapes (masters_muon.c). */
struct uz_masters_group {
    const struct uz_seq *items; /* UZ_MASTERS_LISTS: tensors; UZ_MASTERS_NONE: ids of states */
    struct uz_view flat;        /* UZ_MASTERS_FLAT */
    size_t of;                  /* the optimizer's number of the group */
    size_t first;               /* item that is at place 0 */
};

/*
 * What may have its master in a file: a parameter, or of a stack of experts (experts.h, fused)
 * those that one rank holds. Shape and numel are those of what the rank holds.
 */
struct uz_candidate {
    uint32_t tensor;     /* of the model */
    enum uz_dtype dtype; /* of the low-precision copy */
    unsigned ndim;
    const uint64_t *shape;
    uint64_t numel;
    const uint32_t *experts; /* a stack: numbers of the experts in their order; else NULL */
    uint32_t n_experts;
    bool is_late;          /* may stand behind those that are not in its group */
    struct uz_sample copy; /* the low-precision copy's first elements */
};

struct uz_masters {
    enum uz_masters_form form;
    struct uz_torch_file *file;
    struct uz_masters_group *groups;
    uint64_t *totals; /* of each group: tensors, or elements if flat */
    size_t n_groups;
    const struct uz_node *optimizer; /* the wrapped optimizer's state_dict; NULL if there is none */
    struct uz_map *state_of_id;      /* optimizer.state: id (8 bytes) -> place in the dictionary */
    int64_t *ids;
};

/* Reads what stands under `optimizer`. Free with uz_masters_free, after failures too. */
int uz_masters_read(struct uz_masters *masters, struct uz_torch_file *file, struct uz_error *err);

void uz_masters_free(struct uz_masters *masters);

/*
 * Muon sorts the parameters of its groups by shape. Makes a group of each shape, in which they are
 * in the order of the module. (uz_masters_read does it.)
 */
int uz_masters_split_muon(struct uz_masters *masters, struct uz_error *err);

/*
 * Whether a candidate can have its master at `place` of a group: the shape is the same and the
 * low-precision copy is the rounded master, as far as the first elements tell. Without masters the
 * shapes of states decide, where there are any.
 */
int uz_masters_match(const struct uz_masters *masters, const struct uz_candidate *candidate,
                     size_t group, uint64_t place, bool *matches, struct uz_error *err);

/* The view of master number `index` of a group of UZ_MASTERS_LISTS. */
int uz_masters_view(const struct uz_masters *masters, size_t group, uint64_t index,
                    struct uz_view *view, struct uz_error *err);

/* The states of parameter number `index` of a group (flat: 0); NULL if it has none. */
const struct uz_dict *uz_masters_states(const struct uz_masters *masters, size_t group,
                                        uint64_t index);

/* The first of the states from number *i on that is a tensor, and its number; false: none is. */
bool uz_masters_state_view(const struct uz_masters *masters, const struct uz_dict *states,
                           size_t *i, struct uz_view *view);

#endif
