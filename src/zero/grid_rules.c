/* SPDX-License-Identifier: Apache-2.0 */
/* Which rule joins a name, and whose tensors it is joined of. */
#include <stdlib.h>

#include "layout/shape_text.h"
#include "zero/grid_join_impl.h"

/* ---- Rules ---- */

/* The weights of tensor rank 0, or of the first that has each. */
static int list_weights(const struct uz_joiner *j, struct uz_tp_named **list, size_t *n,
                        struct uz_error *err)
{
    *n = 0;
    UZ_TRY(uz_alloc(list, j->names.n, sizeof **list, err));
    for (size_t i = 0; i < j->names.n; i++) {
        const struct uz_held *held = &j->names.held[i * j->n_slices];
        while (held->slice == UZ_NONE)
            held++;
        const struct uz_tensor *tensor = uz_joiner_tensor(j, held);
        if (tensor->role != UZ_ROLE_BUFFER)
            (*list)[(*n)++] = (struct uz_tp_named){j->names.names[i], tensor->ndim, tensor->shape};
    }
    return UZ_OK;
}

/* Without recorded rules: the user's file, or a family that knows all names. */
int uz_joiner_find_own_rules(struct uz_joiner *j, struct uz_error *err)
{
    const struct uz_grid_sources *s = j->sources;
    struct uz_tp_named *list;
    size_t n;
    if (s->tp_map)
        return uz_tp_rules_from_json(&j->own_rules, s->tp_map, s->limits, err);
    if (s->grid.tp == 1 || s->rules[0])
        return UZ_OK;
    UZ_TRY(list_weights(j, &list, &n, err));
    int rc = uz_tp_rules_of_family(&j->own_rules, list, n, s->limits, err);
    free(list);
    UZ_TRY(rc);
    return uz_warn(j->notes, err,
                   "the checkpoint does not record how tensor ranks are joined "
                   "(universal_checkpoint_info): the built-in map of %s was taken, which knows all "
                   "names; padding of the vocabulary, if any, is kept",
                   uz_tp_family_name(j->own_rules));
}

struct uz_tp_rules *uz_joiner_rules(const struct uz_joiner *j, uint32_t slice)
{
    uint32_t stage = slice / j->sources->grid.tp; /* of layer files it is not known */
    struct uz_tp_rules *recorded = stage < j->sources->grid.pp ? j->sources->rules[stage] : NULL;
    return j->own_rules ? j->own_rules : recorded ? recorded : j->sources->rules[0];
}

int uz_joiner_find_rule(const struct uz_joiner *j, const char *name, enum uz_role role,
                        struct uz_tp_rules *rules, struct uz_tp_rule *rule, struct uz_error *err)
{
    *rule = (struct uz_tp_rule){.join = UZ_TP_REPLICATED, .is_known = true};
    if (rules)
        UZ_TRY(uz_tp_rules_find(rules, name, rule, err));
    /* alone, a shard is the whole; a buffer that no rule names is the same on all ranks */
    if ((j->sources->grid.tp == 1 && rule->join != UZ_TP_AFFINE) ||
        (role == UZ_ROLE_BUFFER && !rule->is_named)) {
        rule->join = UZ_TP_REPLICATED;
        rule->is_known = true;
    }
    if (rule->is_known)
        return UZ_OK;
    return uz_fail(err, UZ_UNSUPPORTED, "%s: how its tensor ranks are joined is not known", name);
}

/* ---- Who holds a name ---- */

static bool is_parameter(const struct uz_joiner *j, const struct uz_held *held)
{
    return held->slice != UZ_NONE && uz_joiner_tensor(j, held)->role == UZ_ROLE_PARAM &&
           uz_joiner_tensor(j, held)->numel > 0;
}

/*
 * Of each tensor rank, the first stage that holds the name is taken, one that trains it before one
 * where it only stands in a module.
 */
void uz_joiner_find_main(struct uz_joiner *j, size_t number)
{
    const struct uz_grid *grid = &j->sources->grid;
    const struct uz_held *held = &j->names.held[number * j->n_slices];
    for (uint32_t tp = 0; tp < grid->tp; tp++) {
        struct uz_held *main = &j->main[tp];
        *main = (struct uz_held){UZ_NONE, UZ_NONE};
        for (uint32_t pp = 0; pp < j->n_stages; pp++) {
            const struct uz_held *other = &held[pp * grid->tp + tp];
            if (other->slice != UZ_NONE &&
                (main->slice == UZ_NONE || (is_parameter(j, other) && !is_parameter(j, main))))
                *main = *other;
        }
        j->shards[tp] = (struct uz_tp_shard){0};
        if (main->slice == UZ_NONE)
            continue;
        const struct uz_tensor *tensor = uz_joiner_tensor(j, main);
        j->shards[tp] = (struct uz_tp_shard){
            .is_there = true,
            .ndim = tensor->ndim,
            .shape = tensor->shape,
            .numel = tensor->numel,
        };
    }
}

/* The rank that tells role and dtype: the first whose shard has elements, else the first. */
uint32_t uz_joiner_reference_rank(const struct uz_joiner *j)
{
    uint32_t first = UZ_NONE;
    for (uint32_t tp = 0; tp < j->sources->grid.tp; tp++) {
        if (j->main[tp].slice == UZ_NONE)
            continue;
        if (j->shards[tp].numel > 0)
            return tp;
        if (first == UZ_NONE)
            first = tp;
    }
    return first;
}

static const char *kind_of(enum uz_role role)
{
    static const char *const names[] = {
        [UZ_ROLE_PARAM] = "a trained parameter",
        [UZ_ROLE_FROZEN] = "a frozen parameter",
        [UZ_ROLE_BUFFER] = "a buffer",
        [UZ_ROLE_STATE] = "a state",
    };
    return names[role];
}

/* Shards with elements must be of one kind and dtype. */
int uz_joiner_check_alike(const struct uz_joiner *j, const char *name, uint32_t reference,
                          struct uz_error *err)
{
    const struct uz_tensor *first = uz_joiner_tensor(j, &j->main[reference]);
    for (uint32_t tp = 0; tp < j->sources->grid.tp; tp++) {
        if (j->shards[tp].numel == 0)
            continue;
        const struct uz_tensor *other = uz_joiner_tensor(j, &j->main[tp]);
        if (other->role != first->role)
            return uz_fail(err, UZ_MISMATCH, "%s is %s on %s, but %s on %s", name,
                           kind_of(first->role), j->labels[j->main[reference].slice],
                           kind_of(other->role), j->labels[j->main[tp].slice]);
        if (other->dtype != first->dtype)
            return uz_fail(err, UZ_MISMATCH, "%s is stored as %s on %s, but as %s on %s", name,
                           uz_dtype_name(first->dtype), j->labels[j->main[reference].slice],
                           uz_dtype_name(other->dtype), j->labels[j->main[tp].slice]);
    }
    return UZ_OK;
}

/* What other stages hold of a name must have the shape and dtype of what is taken. */
static int check_tie(const struct uz_joiner *j, const struct uz_held *main,
                     const struct uz_held *tie, struct uz_error *err)
{
    const struct uz_tensor *a = uz_joiner_tensor(j, main), *b = uz_joiner_tensor(j, tie);
    if (uz_same_shape(a->ndim, a->shape, b->ndim, b->shape) && a->dtype == b->dtype)
        return UZ_OK;
    return uz_fail(err, UZ_MISMATCH,
                   "%s stands on two pipeline stages with different shapes or dtypes (%s and %s): "
                   "it cannot be one tied tensor",
                   a->name, j->labels[main->slice], j->labels[tie->slice]);
}

/* Fills ties with what stages other than the main ones hold; false if there is nothing. */
int uz_joiner_find_ties(const struct uz_joiner *j, size_t number, struct uz_held *ties, bool *any,
                        struct uz_error *err)
{
    const struct uz_held *held = &j->names.held[number * j->n_slices];
    *any = false;
    for (uint32_t mp = 0; mp < j->n_slices; mp++) {
        const struct uz_held *main = &j->main[mp % j->sources->grid.tp];
        ties[mp] = (struct uz_held){UZ_NONE, UZ_NONE};
        if (held[mp].slice == UZ_NONE || held[mp].slice == main->slice)
            continue;
        if (is_parameter(j, main) && !is_parameter(j, &held[mp]))
            continue; /* a copy in a module, not one that is trained */
        UZ_TRY(check_tie(j, main, &held[mp], err));
        ties[mp] = held[mp];
        *any = true;
    }
    return UZ_OK;
}
