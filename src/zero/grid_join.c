/* SPDX-License-Identifier: Apache-2.0 */
/* Name by name: who holds it, how it is joined, and the same for its states and copies. */
#include "zero/grid_join.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layout/shape_text.h"
#include "zero/grid_names.h"
#include "zero/tp_plan.h"

enum { LABEL_NBYTES = 64 };

struct joiner {
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

/* A tensor of a rank that is to be joined; what its pieces become is said by the sink. */
struct sink {
    struct joiner *joiner;
    uint32_t slice;  /* whose pieces these are */
    uint32_t tensor; /* of the model */
    enum uz_dtype dtype;
    int (*add)(struct uz_model *model, const struct uz_piece *piece, struct uz_error *err);
};

static const struct uz_tensor *held_tensor(const struct joiner *j, const struct uz_held *held)
{
    return &j->sources->slices[held->slice]->tensors[held->tensor];
}

/* ---- Setting up ---- */

/* Files and storages of all ranks become the model's. */
static int take_places(struct joiner *j, struct uz_error *err)
{
    for (uint32_t mp = 0; mp < j->n_slices; mp++) {
        const struct uz_model *slice = j->sources->slices[mp];
        uint32_t first_file = (uint32_t)j->model->n_files, index;
        for (size_t i = 0; i < slice->n_files; i++)
            UZ_TRY(uz_model_add_file(j->model, slice->files[i], &index, err));
        j->first_place[mp] = (uint32_t)j->model->n_places;
        for (size_t i = 0; i < slice->n_places; i++) {
            struct uz_place place = slice->places[i];
            place.file += first_file;
            UZ_TRY(uz_model_add_place(j->model, &place, &index, err));
        }
    }
    return UZ_OK;
}

/* Flat tensors of all ranks; their states get the model's numbers. */
static int take_partitions(struct joiner *j, struct uz_error *err)
{
    for (uint32_t mp = 0; mp < j->n_slices; mp++) {
        const struct uz_model *slice = j->sources->slices[mp];
        for (size_t i = 0; i < slice->n_partitions; i++) {
            struct uz_partition partition = slice->partitions[i];
            const char *state = slice->states[partition.state];
            partition.mp = mp;
            partition.place += j->first_place[mp];
            UZ_TRY(uz_model_add_state(j->model, state, strlen(state), &partition.state, err));
            UZ_TRY(uz_model_add_partition(j->model, &partition, err));
        }
    }
    return UZ_OK;
}

static int make_labels(struct joiner *j, struct uz_error *err)
{
    const struct uz_grid *grid = &j->sources->grid;
    for (uint32_t mp = 0; mp < j->n_slices; mp++) {
        char label[LABEL_NBYTES];
        if (mp / grid->tp == grid->pp)
            snprintf(label, sizeof label, "the layer files of tensor rank %u", mp % grid->tp);
        else if (grid->pp > 1 && grid->tp > 1)
            snprintf(label, sizeof label, "tensor rank %u of pipeline stage %u", mp % grid->tp,
                     mp / grid->tp);
        else
            snprintf(label, sizeof label, "%s %u", grid->pp > 1 ? "pipeline stage" : "tensor rank",
                     mp);
        UZ_TRY(uz_arena_strndup(j->model->arena, label, strlen(label), &j->labels[mp], err));
    }
    return UZ_OK;
}

/* Chains each parameter's states, so that they are found without a search. */
static int chain_states(struct joiner *j, uint32_t mp, struct uz_error *err)
{
    const struct uz_model *slice = j->sources->slices[mp];
    UZ_TRY(uz_alloc(&j->first_state[mp], slice->n_tensors, sizeof **j->first_state, err));
    UZ_TRY(uz_alloc(&j->next_state[mp], slice->n_tensors, sizeof **j->next_state, err));
    for (size_t i = 0; i < slice->n_tensors; i++)
        j->first_state[mp][i] = UZ_NONE;
    for (uint32_t i = (uint32_t)slice->n_tensors; i-- > 0;) {
        const struct uz_tensor *tensor = &slice->tensors[i];
        if (tensor->role != UZ_ROLE_STATE)
            continue;
        j->next_state[mp][i] = j->first_state[mp][tensor->param];
        j->first_state[mp][tensor->param] = i;
    }
    return UZ_OK;
}

static int set_up(struct joiner *j, struct uz_error *err)
{
    UZ_TRY(uz_alloc(&j->labels, j->n_slices, sizeof *j->labels, err));
    UZ_TRY(uz_alloc(&j->first_place, j->n_slices, sizeof *j->first_place, err));
    UZ_TRY(uz_alloc(&j->first_state, j->n_slices, sizeof *j->first_state, err));
    UZ_TRY(uz_alloc(&j->next_state, j->n_slices, sizeof *j->next_state, err));
    UZ_TRY(uz_alloc(&j->main, j->sources->grid.tp, sizeof *j->main, err));
    UZ_TRY(uz_alloc(&j->shards, j->sources->grid.tp, sizeof *j->shards, err));
    UZ_TRY(take_places(j, err));
    UZ_TRY(take_partitions(j, err));
    UZ_TRY(make_labels(j, err));
    for (uint32_t mp = 0; mp < j->n_slices; mp++)
        UZ_TRY(chain_states(j, mp, err));
    return uz_grid_names_list(&j->names, j->sources->slices, j->n_slices, err);
}

/* ---- Rules ---- */

/* The weights of tensor rank 0, or of the first that has each. */
static int list_weights(const struct joiner *j, struct uz_tp_named **list, size_t *n,
                        struct uz_error *err)
{
    *n = 0;
    UZ_TRY(uz_alloc(list, j->names.n, sizeof **list, err));
    for (size_t i = 0; i < j->names.n; i++) {
        const struct uz_held *held = &j->names.held[i * j->n_slices];
        while (held->slice == UZ_NONE)
            held++;
        const struct uz_tensor *tensor = held_tensor(j, held);
        if (tensor->role != UZ_ROLE_BUFFER)
            (*list)[(*n)++] = (struct uz_tp_named){j->names.names[i], tensor->ndim, tensor->shape};
    }
    return UZ_OK;
}

/* Without recorded rules: the user's file, or a family that knows all names. */
static int find_own_rules(struct joiner *j, struct uz_error *err)
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

static struct uz_tp_rules *rules_of(const struct joiner *j, uint32_t slice)
{
    uint32_t stage = slice / j->sources->grid.tp; /* of layer files it is not known */
    struct uz_tp_rules *recorded = stage < j->sources->grid.pp ? j->sources->rules[stage] : NULL;
    return j->own_rules ? j->own_rules : recorded ? recorded : j->sources->rules[0];
}

static int find_rule(const struct joiner *j, const char *name, enum uz_role role,
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

static bool is_parameter(const struct joiner *j, const struct uz_held *held)
{
    return held->slice != UZ_NONE && held_tensor(j, held)->role == UZ_ROLE_PARAM &&
           held_tensor(j, held)->numel > 0;
}

/*
 * Of each tensor rank, the first stage that holds the name is taken, one that trains it before one
 * where it only stands in a module.
 */
static void find_main(struct joiner *j, size_t number)
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
        const struct uz_tensor *tensor = held_tensor(j, main);
        j->shards[tp] = (struct uz_tp_shard){
            .is_there = true,
            .ndim = tensor->ndim,
            .shape = tensor->shape,
            .numel = tensor->numel,
        };
    }
}

/* The rank that tells role and dtype: the first whose shard has elements, else the first. */
static uint32_t reference_rank(const struct joiner *j)
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
static int check_alike(const struct joiner *j, const char *name, uint32_t reference,
                       struct uz_error *err)
{
    const struct uz_tensor *first = held_tensor(j, &j->main[reference]);
    for (uint32_t tp = 0; tp < j->sources->grid.tp; tp++) {
        if (j->shards[tp].numel == 0)
            continue;
        const struct uz_tensor *other = held_tensor(j, &j->main[tp]);
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

/* ---- Pieces ---- */

static int emit(void *cookie, const struct uz_piece *piece, struct uz_error *err)
{
    const struct sink *sink = cookie;
    struct uz_piece made = *piece;
    made.tensor = sink->tensor;
    made.storage += sink->joiner->first_place[sink->slice];
    return sink->add(sink->joiner->model, &made, err);
}

static int place_pieces(struct sink *sink, const struct uz_placement *placement,
                        const struct uz_piece *pieces, uint64_t n_pieces, struct uz_error *err)
{
    for (uint64_t i = 0; i < n_pieces; i++) {
        int rc =
            uz_placement_apply(placement, &pieces[i], sink->joiner->model->arena, emit, sink, err);
        if (rc < 0)
            return uz_context(err, rc, "%s", sink->joiner->model->tensors[sink->tensor].name);
    }
    return UZ_OK;
}

static int add_layer(struct joiner *j, uint32_t tensor, enum uz_layer_op op, uint32_t base,
                     uint32_t slice, uint32_t base_slice, uint32_t *index, struct uz_error *err)
{
    const struct uz_layer layer = {
        .tensor = tensor,
        .op = op,
        .base = base,
        .rank = j->labels[slice],
        .base_rank = j->labels[base_slice],
    };
    return uz_model_add_layer(j->model, &layer, index, err);
}

/* Pieces of what a rank holds go where the plan's part tells. */
static int place_held(struct joiner *j, const struct uz_tp_part *part, const struct uz_held *held,
                      uint32_t tensor,
                      int (*add)(struct uz_model *, const struct uz_piece *, struct uz_error *),
                      struct uz_error *err)
{
    const struct uz_model *slice = j->sources->slices[held->slice];
    const struct uz_tensor *local = &slice->tensors[held->tensor];
    struct sink sink = {.joiner = j, .slice = held->slice, .tensor = tensor, .add = add};
    if (local->n_pieces == 0)
        return UZ_OK;
    return place_pieces(&sink, &part->placement, &slice->pieces[local->first_piece],
                        local->n_pieces, err);
}

/* The same elements on another stage: compared with those that were taken. */
static int place_tie(struct joiner *j, const struct uz_tp_part *part, const struct uz_held *main,
                     const struct uz_held *tie, uint32_t tensor, uint32_t base,
                     struct uz_error *err)
{
    uint32_t index;
    UZ_TRY(add_layer(j, tensor, UZ_LAYER_EQUAL, base, tie->slice, main->slice, &index, err));
    return place_held(j, part, tie, tensor, uz_model_add_layer_piece, err);
}

/*
 * Gives a tensor its pieces and layers. main[tp] is what is taken of each tensor rank, ties (of
 * all model-parallel ranks, may be NULL) what other stages hold of the same.
 */
static int place_all(struct joiner *j, const struct uz_tp_plan *plan, const struct uz_held *main,
                     const struct uz_held *ties, uint32_t tensor, struct uz_error *err)
{
    const struct uz_grid *grid = &j->sources->grid;
    for (size_t i = 0; i < plan->n_parts; i++) {
        const struct uz_tp_part *part = &plan->parts[i];
        const struct uz_held *held = &main[part->rank];
        uint32_t base = UZ_NONE, index;
        if (part->role == UZ_TP_PART) {
            UZ_TRY(place_held(j, part, held, tensor, uz_model_add_piece, err));
        } else {
            bool copy = part->role == UZ_TP_COPY;
            UZ_TRY(add_layer(j, tensor, copy ? UZ_LAYER_EQUAL : UZ_LAYER_MEAN, UZ_NONE, held->slice,
                             main[part->owner].slice, &index, err));
            UZ_TRY(place_held(j, part, held, tensor, uz_model_add_layer_piece, err));
            base = copy ? UZ_NONE : index;
        }
        for (uint32_t pp = 0; ties && pp < j->n_stages; pp++) {
            const struct uz_held *tie = &ties[pp * grid->tp + part->rank];
            if (tie->slice != UZ_NONE && tie->slice != held->slice)
                UZ_TRY(place_tie(j, part, held, tie, tensor, base, err));
        }
    }
    return UZ_OK;
}

/* ---- A name ---- */

/* What other stages hold of a name must have the shape and dtype of what is taken. */
static int check_tie(const struct joiner *j, const struct uz_held *main, const struct uz_held *tie,
                     struct uz_error *err)
{
    const struct uz_tensor *a = held_tensor(j, main), *b = held_tensor(j, tie);
    if (uz_same_shape(a->ndim, a->shape, b->ndim, b->shape) && a->dtype == b->dtype)
        return UZ_OK;
    return uz_fail(err, UZ_MISMATCH,
                   "%s stands on two pipeline stages with different shapes or dtypes (%s and %s): "
                   "it cannot be one tied tensor",
                   a->name, j->labels[main->slice], j->labels[tie->slice]);
}

/* Fills ties with what stages other than the main ones hold; false if there is nothing. */
static int find_ties(const struct joiner *j, size_t number, struct uz_held *ties, bool *any,
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

/* The state called like state number `state` of slice `from`, of what `held` holds. */
static struct uz_held find_state(const struct joiner *j, const struct uz_held *held,
                                 const char *name)
{
    if (held->slice != UZ_NONE) {
        const struct uz_model *slice = j->sources->slices[held->slice];
        uint32_t i = j->first_state[held->slice][held->tensor];
        for (; i != UZ_NONE; i = j->next_state[held->slice][i])
            if (!strcmp(slice->states[slice->tensors[i].state], name))
                return (struct uz_held){held->slice, i};
    }
    return (struct uz_held){UZ_NONE, UZ_NONE};
}

static int lacks_state(const struct joiner *j, const struct uz_held *held, const char *param,
                       const char *name, struct uz_error *err)
{
    return uz_fail(err, UZ_MISMATCH, "%s: %s has no optimizer state %s of it, other ranks have",
                   param, j->labels[held->slice], name);
}

/* Joins one state of a parameter as the parameter itself was. */
static int join_state(struct joiner *j, const struct uz_tp_plan *plan, uint32_t param,
                      const char *name, const struct uz_held *ties, struct uz_error *err)
{
    const struct uz_grid *grid = &j->sources->grid;
    const char *param_name = j->model->tensors[param].name;
    struct uz_held *main = NULL, *state_ties = NULL;
    enum uz_dtype dtype = UZ_DTYPE_INVALID;
    uint32_t number, tensor;
    if (plan->is_scaled)
        return uz_fail(err, UZ_UNSUPPORTED,
                       "%s: the state %s cannot be had, because the parameter is stored scaled "
                       "(affine_map): its moments belong to other hyperparameters",
                       param_name, name);
    UZ_TRY(uz_alloc(&main, grid->tp + (uint64_t)j->n_slices, sizeof *main, err));
    state_ties = main + grid->tp;
    int rc = uz_model_add_state(j->model, name, strlen(name), &number, err);
    for (uint32_t tp = 0; rc == UZ_OK && tp < grid->tp; tp++) {
        main[tp] = find_state(j, &j->main[tp], name);
        if (main[tp].slice == UZ_NONE && j->shards[tp].numel > 0)
            rc = lacks_state(j, &j->main[tp], param_name, name, err);
        else if (main[tp].slice == UZ_NONE)
            main[tp] = j->main[tp]; /* without elements: no piece is taken */
        else if (dtype == UZ_DTYPE_INVALID)
            dtype = held_tensor(j, &main[tp])->dtype;
        else if (dtype != held_tensor(j, &main[tp])->dtype)
            rc = uz_fail(err, UZ_MISMATCH, "%s: the state %s has another dtype on %s", param_name,
                         name, j->labels[main[tp].slice]);
    }
    for (uint32_t mp = 0; rc == UZ_OK && mp < j->n_slices; mp++) {
        state_ties[mp] = ties ? find_state(j, &ties[mp], name) : (struct uz_held){UZ_NONE, UZ_NONE};
        if (ties && ties[mp].slice != UZ_NONE && state_ties[mp].slice == UZ_NONE)
            rc = lacks_state(j, &ties[mp], param_name, name, err);
    }
    if (rc == UZ_OK)
        rc = uz_model_add_state_tensor(j->model, param, number, dtype, &tensor, err);
    if (rc == UZ_OK)
        rc = place_all(j, plan, main, ties ? state_ties : NULL, tensor, err);
    free(main);
    return rc;
}

static int join_states(struct joiner *j, const struct uz_tp_plan *plan, uint32_t reference,
                       uint32_t param, const struct uz_held *ties, struct uz_error *err)
{
    const struct uz_held *held = &j->main[reference];
    const struct uz_model *slice = j->sources->slices[held->slice];
    uint32_t i = j->first_state[held->slice][held->tensor];
    for (; i != UZ_NONE; i = j->next_state[held->slice][i])
        UZ_TRY(join_state(j, plan, param, slice->states[slice->tensors[i].state], ties, err));
    return UZ_OK;
}

/* ---- The low-precision copy ---- */

struct lp_sink {
    struct sink sink;
    enum uz_dtype dtype;
};

static int emit_lp(void *cookie, const struct uz_piece *piece, struct uz_error *err)
{
    const struct lp_sink *lp = cookie;
    struct uz_piece made = *piece;
    made.tensor = lp->sink.tensor;
    made.storage += lp->sink.joiner->first_place[lp->sink.slice];
    return uz_model_add_lp_piece(lp->sink.joiner->model, lp->sink.tensor, lp->dtype, &made, err);
}

/* The low-precision copy of what is taken of a tensor rank: beside it, or in a layer file. */
struct copy {
    uint32_t slice;
    enum uz_dtype dtype;
    const struct uz_piece *pieces;
    uint64_t n_pieces;
};

static struct copy find_copy(const struct joiner *j, size_t number, uint32_t tp)
{
    const struct uz_held *main = &j->main[tp];
    const struct uz_model *slice = j->sources->slices[main->slice];
    const struct uz_tensor *local = &slice->tensors[main->tensor];
    if (local->lp != UZ_NONE)
        return (struct copy){main->slice, local->lp_dtype, &slice->lp_pieces[local->lp],
                             local->n_lp};
    uint32_t at = j->sources->grid.pp * j->sources->grid.tp + tp;
    const struct uz_held *held = &j->names.held[number * j->n_slices];
    if (!j->sources->has_layers || held[at].slice == UZ_NONE || at == main->slice)
        return (struct copy){UZ_NONE, local->lp_dtype, NULL, 0};
    const struct uz_model *layers = j->sources->slices[at];
    const struct uz_tensor *copy = &layers->tensors[held[at].tensor];
    return (struct copy){at, copy->dtype, &layers->pieces[copy->first_piece], copy->n_pieces};
}

/* A layer file's copy has the shape of what it is a copy of. */
static int check_copy(const struct joiner *j, size_t number, uint32_t tp, struct uz_error *err)
{
    uint32_t at = j->sources->grid.pp * j->sources->grid.tp + tp;
    const struct uz_tensor *main = held_tensor(j, &j->main[tp]);
    if (!j->sources->has_layers || j->names.held[number * j->n_slices + at].slice == UZ_NONE)
        return UZ_OK;
    const struct uz_tensor *copy = held_tensor(j, &j->names.held[number * j->n_slices + at]);
    if (uz_same_shape(copy->ndim, copy->shape, main->ndim, main->shape))
        return UZ_OK;
    char here[160], there[160];
    return uz_fail(err, UZ_MISMATCH, "%s has shape %s in its layer file, but %s in 'param_shapes'",
                   main->name,
                   uz_shape_text(here, sizeof here, copy->ndim, copy->shape, copy->numel),
                   uz_shape_text(there, sizeof there, main->ndim, main->shape, main->numel));
}

/* True if all parts' ranks have a copy, of one dtype, that is joined like the parameter. */
static bool has_lp(const struct joiner *j, size_t number, const struct uz_tp_plan *plan,
                   enum uz_dtype *dtype)
{
    *dtype = UZ_DTYPE_INVALID;
    for (size_t i = 0; i < plan->n_parts; i++) {
        struct copy copy = find_copy(j, number, plan->parts[i].rank);
        if (copy.slice == UZ_NONE || (*dtype != UZ_DTYPE_INVALID && *dtype != copy.dtype))
            return false;
        *dtype = copy.dtype;
        if (plan->parts[i].role == UZ_TP_ADDEND)
            return false; /* a mean of rounded values is no rounded mean */
    }
    return !plan->is_scaled && plan->n_parts > 0;
}

static int join_lp(struct joiner *j, size_t number, const struct uz_tp_plan *plan,
                   uint32_t reference, uint32_t tensor, struct uz_error *err)
{
    struct lp_sink lp = {.sink = {.joiner = j, .tensor = tensor}};
    for (uint32_t tp = 0; tp < j->sources->grid.tp; tp++)
        if (j->shards[tp].is_there)
            UZ_TRY(check_copy(j, number, tp, err));
    j->model->tensors[tensor].lp_dtype = find_copy(j, number, reference).dtype;
    if (!has_lp(j, number, plan, &lp.dtype))
        return UZ_OK;
    for (size_t i = 0; i < plan->n_parts; i++) {
        const struct uz_tp_part *part = &plan->parts[i];
        if (part->role != UZ_TP_PART)
            continue;
        struct copy copy = find_copy(j, number, part->rank);
        lp.sink.slice = copy.slice;
        for (uint64_t k = 0; k < copy.n_pieces; k++)
            UZ_TRY(uz_placement_apply(&part->placement, &copy.pieces[k], j->model->arena, emit_lp,
                                      &lp, err));
    }
    return UZ_OK;
}

/* ---- All names ---- */

static int join_planned(struct joiner *j, size_t number, const struct uz_tp_plan *plan,
                        uint32_t reference, const struct uz_held *ties, struct uz_error *err)
{
    const char *name = j->names.names[number];
    const struct uz_tensor *local = held_tensor(j, &j->main[reference]);
    uint32_t tensor;
    UZ_TRY(uz_model_add_tensor(j->model, name, strlen(name), local->role, local->dtype, plan->ndim,
                               plan->shape, &tensor, err));
    j->model->tensors[tensor].order = number;
    UZ_TRY(place_all(j, plan, j->main, ties, tensor, err));
    UZ_TRY(join_lp(j, number, plan, reference, tensor, err));
    return join_states(j, plan, reference, tensor, ties, err);
}

/* `ties` is scratch for one entry a rank. */
static int join_name(struct joiner *j, size_t number, struct uz_held *ties, struct uz_error *err)
{
    const char *name = j->names.names[number];
    struct uz_tp_rule rule;
    struct uz_tp_plan plan;
    bool any_ties;
    find_main(j, number);
    uint32_t reference = reference_rank(j);
    const struct uz_held *held = &j->main[reference];
    struct uz_tp_rules *rules = rules_of(j, held->slice);
    UZ_TRY(check_alike(j, name, reference, err));
    UZ_TRY(find_ties(j, number, ties, &any_ties, err));
    UZ_TRY(find_rule(j, name, held_tensor(j, held)->role, rules, &rule, err));
    int rc = uz_tp_plan_make(&plan, name, rules, &rule, j->shards, j->sources->grid.tp,
                             j->model->arena, err);
    if (rc == UZ_OK && rules)
        rc = uz_tp_rules_check_shape(rules, &rule, name, plan.ndim, plan.shape, err);
    if (rc == UZ_OK)
        rc = join_planned(j, number, &plan, reference, any_ties ? ties : NULL, err);
    uz_tp_plan_free(&plan);
    return rc;
}

/* Second names of tensors, from whichever rank knows them. */
static int join_aliases(struct joiner *j, struct uz_error *err)
{
    struct uz_map *seen = uz_map_new();
    int rc = seen ? UZ_OK : uz_fail_nomem(err, sizeof(void *));
    for (uint32_t mp = 0; rc == UZ_OK && mp < j->n_slices; mp++) {
        const struct uz_model *slice = j->sources->slices[mp];
        for (size_t i = 0; rc == UZ_OK && i < slice->n_aliases; i++) {
            const struct uz_alias *alias = &slice->aliases[i];
            const char *holder = slice->tensors[alias->tensor].name;
            bool present = false;
            uint32_t tensor;
            rc = uz_map_add(seen, alias->name, strlen(alias->name), 0, &present, err);
            if (rc == UZ_OK && !present && uz_model_find(j->model, holder, strlen(holder), &tensor))
                rc = uz_model_add_alias(j->model, alias->name, strlen(alias->name), tensor,
                                        j->names.n + alias->order, err);
        }
    }
    uz_map_free(seen);
    return rc;
}

static int join(struct joiner *j, struct uz_error *err)
{
    struct uz_held *ties;
    UZ_TRY(set_up(j, err));
    UZ_TRY(find_own_rules(j, err));
    UZ_TRY(uz_alloc(&ties, j->n_slices, sizeof *ties, err));
    int rc = UZ_OK;
    for (size_t i = 0; rc == UZ_OK && i < j->names.n; i++)
        rc = join_name(j, i, ties, err);
    free(ties);
    UZ_TRY(rc);
    UZ_TRY(join_aliases(j, err));
    if (j->own_rules)
        return uz_tp_rules_report_unused(&j->own_rules, 1, j->notes, err);
    return uz_tp_rules_report_unused(j->sources->rules, j->sources->grid.pp, j->notes, err);
}

int uz_grid_join(struct uz_model *model, const struct uz_grid_sources *sources,
                 struct uz_notes *notes, struct uz_error *err)
{
    struct joiner j = {
        .model = model,
        .sources = sources,
        .notes = notes,
        .n_stages = sources->grid.pp + sources->has_layers,
    };
    j.n_slices = j.n_stages * sources->grid.tp;
    int rc = join(&j, err);
    for (uint32_t mp = 0; mp < j.n_slices; mp++) {
        if (j.first_state)
            free(j.first_state[mp]);
        if (j.next_state)
            free(j.next_state[mp]);
    }
    uz_grid_names_free(&j.names);
    uz_tp_rules_free(j.own_rules);
    free(j.labels);
    free(j.first_place);
    free(j.first_state);
    free(j.next_state);
    free(j.main);
    free(j.shards);
    return rc;
}
