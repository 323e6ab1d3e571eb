/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the join of model-parallel ranks, for the files that make it. */
#ifndef UZ_ZERO_GRID_JOIN_IMPL_H
#define UZ_ZERO_GRID_JOIN_IMPL_H

#include "zero/grid_join.h"
#include "zero/grid_names.h"
#include "zero/tp_plan.h"

struct uz_joiner {
    struct uz_model *model;
    const struct uz_grid_sources *sources;
    struct uz_notes *notes;
    uint32_t n_stages; /* of the pipeline, and one more if there are layer files */
    uint32_t n_slices;
    struct uz_grid_names names;
    struct uz_tp_rules *own_rules; /* of a file or a family, if the checkpoint has none */
    const char **labels;           /* of each rank, for messages */
    uint32_t *first_place;         /* of each rank's places in the model */
    uint32_t **next_state; /* of each rank: the next state of the same parameter after tensor i */
    uint32_t **first_state;
    struct uz_held *main; /* what is taken, of each tensor rank */
    struct uz_tp_shard *shards;
};

/* What a rank holds under a name. */
static inline const struct uz_tensor *uz_joiner_tensor(const struct uz_joiner *joiner,
                                                       const struct uz_held *held)
{
    return &joiner->sources->slices[held->slice]->tensors[held->tensor];
}

/* ---- grid_rules.c: who holds a name, and how it is joined ---- */

/* Without recorded rules: the user's file, or a family that knows all names. */
int uz_joiner_find_own_rules(struct uz_joiner *joiner, struct uz_error *err);

/* Rules for what a rank holds: the user's or the family's, or those its stage records; or NULL. */
struct uz_tp_rules *uz_joiner_rules(const struct uz_joiner *joiner, uint32_t slice);

/* The rule for a name; UZ_UNSUPPORTED where the rules do not tell. */
int uz_joiner_find_rule(const struct uz_joiner *joiner, const char *name, enum uz_role role,
                        struct uz_tp_rules *rules, struct uz_tp_rule *rule, struct uz_error *err);

/*
 * Sets `main` and `shards`: of each tensor rank, the first stage that holds the name is taken, one
 * that trains it before one where it only stands in a module.
 */
void uz_joiner_find_main(struct uz_joiner *joiner, size_t number);

/* The rank that tells role and dtype: the first whose shard has elements, else the first. */
uint32_t uz_joiner_reference_rank(const struct uz_joiner *joiner);

/* Shards with elements must be of one kind and dtype. */
int uz_joiner_check_alike(const struct uz_joiner *joiner, const char *name, uint32_t reference,
                          struct uz_error *err);

/* Fills ties with what stages other than the main ones hold; false if there is nothing. */
int uz_joiner_find_ties(const struct uz_joiner *joiner, size_t number, struct uz_held *ties,
                        bool *any, struct uz_error *err);

/* ---- grid_place.c: pieces ---- */

/*
 * Gives a tensor its pieces and layers. main[tp] is what is taken of each tensor rank, ties (of
 * all model-parallel ranks, may be NULL) what other stages hold of the same.
 */
int uz_joiner_place(struct uz_joiner *joiner, const struct uz_tp_plan *plan,
                    const struct uz_held *main, const struct uz_held *ties, uint32_t tensor,
                    struct uz_error *err);

/*
 * The low-precision copy of name `number`, if all ranks have one: joined like the parameter. With
 * all_copies those that are not needed for that become layers.
 */
int uz_joiner_place_lp(struct uz_joiner *joiner, size_t number, const struct uz_tp_plan *plan,
                       const struct uz_held *ties, uint32_t reference, uint32_t tensor,
                       struct uz_error *err);

/* ---- grid_states.c ---- */

/* Chains each parameter's states on a rank, so that they are found without a search. */
int uz_joiner_chain_states(struct uz_joiner *joiner, uint32_t mp, struct uz_error *err);

/* Joins all states of a parameter as the parameter itself was. */
int uz_joiner_join_states(struct uz_joiner *joiner, const struct uz_tp_plan *plan,
                          uint32_t reference, uint32_t param, const struct uz_held *ties,
                          struct uz_error *err);

#endif
