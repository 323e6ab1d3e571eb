/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of ranks become pieces of joined tensors. */
#include "layout/shape_text.h"
#include "zero/grid_join_impl.h"

/* A tensor of a rank that is to be joined; what its pieces become is said by the sink. */
struct sink {
    struct uz_joiner *joiner;
    uint32_t slice;  /* whose pieces these are */
    uint32_t tensor; /* of the model */
    int (*add)(struct uz_model *model, const struct uz_piece *piece, struct uz_error *err);
};

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

static int add_layer(struct uz_joiner *j, uint32_t tensor, enum uz_layer_op op, uint32_t base,
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
static int place_held(struct uz_joiner *j, const struct uz_tp_part *part,
                      const struct uz_held *held, uint32_t tensor,
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
static int place_tie(struct uz_joiner *j, const struct uz_tp_part *part, const struct uz_held *main,
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
int uz_joiner_place(struct uz_joiner *j, const struct uz_tp_plan *plan, const struct uz_held *main,
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

static struct copy find_copy(const struct uz_joiner *j, size_t number, uint32_t tp)
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
static int check_copy(const struct uz_joiner *j, size_t number, uint32_t tp, struct uz_error *err)
{
    uint32_t at = j->sources->grid.pp * j->sources->grid.tp + tp;
    const struct uz_tensor *main = uz_joiner_tensor(j, &j->main[tp]);
    if (!j->sources->has_layers || j->names.held[number * j->n_slices + at].slice == UZ_NONE)
        return UZ_OK;
    const struct uz_tensor *copy = uz_joiner_tensor(j, &j->names.held[number * j->n_slices + at]);
    if (uz_same_shape(copy->ndim, copy->shape, main->ndim, main->shape))
        return UZ_OK;
    char here[160], there[160];
    return uz_fail(err, UZ_MISMATCH, "%s has shape %s in its layer file, but %s in 'param_shapes'",
                   main->name,
                   uz_shape_text(here, sizeof here, copy->ndim, copy->shape, copy->numel),
                   uz_shape_text(there, sizeof there, main->ndim, main->shape, main->numel));
}

/* True if all parts' ranks have a copy, of one dtype, that is joined like the parameter. */
static bool has_lp(const struct uz_joiner *j, size_t number, const struct uz_tp_plan *plan,
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

/* The pieces that become the tensor's lp_pieces. */
static int place_main_lp(struct uz_joiner *j, size_t number, const struct uz_tp_plan *plan,
                         enum uz_dtype dtype, uint32_t tensor, struct uz_error *err)
{
    struct lp_sink lp = {.sink = {.joiner = j, .tensor = tensor}, .dtype = dtype};
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

/* ---- Further copies ---- */

static int add_lp_layer(struct uz_joiner *j, const struct uz_tp_part *part, const struct copy *copy,
                        uint32_t tensor, struct uz_error *err)
{
    struct sink sink = {
        .joiner = j, .slice = copy->slice, .tensor = tensor, .add = uz_model_add_layer_piece};
    uint32_t index;
    if (copy->slice == UZ_NONE)
        return UZ_OK;
    if (copy->dtype != j->model->tensors[tensor].lp_dtype) {
        j->model->tensors[tensor].hides_copies = true;
        return UZ_OK;
    }
    UZ_TRY(add_layer(j, tensor, UZ_LAYER_LP, UZ_NONE, copy->slice, j->main[part->rank].slice,
                     &index, err));
    return place_pieces(&sink, &part->placement, copy->pieces, copy->n_pieces, err);
}

/* Copies of one part on stages other than the one it is taken from. */
static int place_stages_lp(struct uz_joiner *j, size_t number, const struct uz_tp_part *part,
                           const struct uz_held *ties, uint32_t tensor, struct uz_error *err)
{
    const struct uz_grid *grid = &j->sources->grid;
    for (uint32_t pp = 0; pp < grid->pp; pp++) {
        uint32_t at = pp * grid->tp + part->rank;
        if (j->names.held[number * j->n_slices + at].slice == UZ_NONE ||
            at == j->main[part->rank].slice)
            continue;
        if (j->sources->has_layers || !ties || ties[at].slice == UZ_NONE) {
            j->model->tensors[tensor].hides_copies = true; /* a tied layer's file has it again */
            continue;
        }
        const struct uz_model *slice = j->sources->slices[at];
        const struct uz_tensor *local = &slice->tensors[ties[at].tensor];
        struct copy copy = {UZ_NONE, local->lp_dtype, NULL, 0};
        if (local->lp != UZ_NONE)
            copy = (struct copy){at, local->lp_dtype, &slice->lp_pieces[local->lp], local->n_lp};
        UZ_TRY(add_lp_layer(j, part, &copy, tensor, err));
    }
    return UZ_OK;
}

/* `placed`: what parts hold became lp_pieces. */
static int place_further_lp(struct uz_joiner *j, size_t number, const struct uz_tp_plan *plan,
                            const struct uz_held *ties, bool placed, uint32_t tensor,
                            struct uz_error *err)
{
    for (size_t i = 0; i < plan->n_parts; i++) {
        const struct uz_tp_part *part = &plan->parts[i];
        struct copy copy = find_copy(j, number, part->rank);
        if (!placed || part->role != UZ_TP_PART)
            UZ_TRY(add_lp_layer(j, part, &copy, tensor, err));
        UZ_TRY(place_stages_lp(j, number, part, ties, tensor, err));
    }
    return UZ_OK;
}

int uz_joiner_place_lp(struct uz_joiner *j, size_t number, const struct uz_tp_plan *plan,
                       const struct uz_held *ties, uint32_t reference, uint32_t tensor,
                       struct uz_error *err)
{
    enum uz_dtype dtype;
    for (uint32_t tp = 0; tp < j->sources->grid.tp; tp++)
        if (j->shards[tp].is_there)
            UZ_TRY(check_copy(j, number, tp, err));
    j->model->tensors[tensor].lp_dtype = find_copy(j, number, reference).dtype;
    bool placed = has_lp(j, number, plan, &dtype);
    if (placed)
        UZ_TRY(place_main_lp(j, number, plan, dtype, tensor, err));
    if (!j->sources->all_copies)
        return UZ_OK;
    return place_further_lp(j, number, plan, ties, placed, tensor, err);
}
