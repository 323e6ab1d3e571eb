/* SPDX-License-Identifier: Apache-2.0 */
/* From places in nameless groups to pieces of the model, or copies where they are there before. */
#include <string.h>

#include "zero/optim_state.h"
#include "zero/source.h"
#include "zero/stage0.h"

/* Where the elements of a candidate are taken from, and whether they were there before. */
struct target {
    struct uz_stage0 *stage0;
    const struct uz_stage0_source *source;
    const struct uz_candidate *candidate;
    uint32_t tensor; /* the candidate's, or that of its state */
    bool is_copy;
    uint32_t owner; /* of a copy: the source that had it first */
};

/* ---- Whose the elements are ---- */

/* The first source that has a candidate owns it. */
static int find_owner(struct uz_stage0 *s, const struct uz_stage0_source *source,
                      const struct uz_candidate *c, struct target *target, struct uz_error *err)
{
    const struct uz_stage0_key key = {c->tensor, c->n_experts ? c->experts[0] : 0};
    uint64_t owner = source->number;
    *target = (struct target){.stage0 = s, .source = source, .candidate = c, .tensor = c->tensor};
    if (!uz_map_get(s->owners, (const char *)&key, sizeof key, &owner)) {
        struct uz_stage0_key *kept;
        UZ_TRY(uz_arena_alloc(s->reading->model->arena, 1, sizeof *kept, &kept, err));
        *kept = key;
        UZ_TRY(uz_map_add(s->owners, (const char *)kept, sizeof *kept, owner, NULL, err));
    }
    target->owner = (uint32_t)owner;
    target->is_copy = owner != source->number;
    return UZ_OK;
}

/* ---- Pieces ---- */

static int add_one(const struct target *t, const struct uz_piece *piece, struct uz_error *err)
{
    struct uz_model *model = t->stage0->reading->model;
    return t->is_copy ? uz_model_add_layer_piece(model, piece, err)
                      : uz_model_add_piece(model, piece, err);
}

/* `piece` is all elements of the candidate; a stack's go to the places of its experts. */
static int add_elements(const struct target *t, const struct uz_piece *piece, struct uz_error *err)
{
    struct uz_model *model = t->stage0->reading->model;
    const struct uz_candidate *c = t->candidate;
    if (t->is_copy) {
        const struct uz_layer layer = {
            .tensor = t->tensor,
            .op = UZ_LAYER_EQUAL,
            .base = UZ_NONE,
            .rank = t->stage0->labels[t->source->number],
            .base_rank = t->stage0->labels[t->owner],
        };
        uint32_t index;
        UZ_TRY(uz_model_add_layer(model, &layer, &index, err));
    }
    if (c->n_experts == 0)
        return add_one(t, piece, err);
    if (piece->map)
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(t->source->file), UZ_NO_OFFSET,
                          "%s: a stack of experts is stored with strides",
                          model->tensors[c->tensor].name);
    for (uint32_t i = 0; i < c->n_experts; i++) {
        struct uz_piece part = *piece;
        part.n_elems = c->numel / c->n_experts;
        part.src += i * part.n_elems;
        part.lo = c->experts[i] * part.n_elems;
        UZ_TRY(add_one(t, &part, err));
    }
    return UZ_OK;
}

/* A stored tensor is the candidate, or (flat) holds it from element `place` on. */
static int add_stored(const struct target *t, const struct uz_view *view, uint64_t place,
                      struct uz_error *err)
{
    const struct uz_stage0_source *source = t->source;
    struct uz_piece piece;
    UZ_TRY(uz_source_whole(t->stage0->reading->model, source->file_index, view, t->tensor, &piece,
                           err));
    if (source->masters.form == UZ_MASTERS_FLAT) {
        piece.src += place;
        piece.n_elems = t->candidate->numel;
    }
    return add_elements(t, &piece, err);
}

/* ---- Masters ---- */

static int add_master(struct uz_stage0 *s, struct uz_stage0_source *source, size_t candidate,
                      struct uz_error *err)
{
    struct uz_tensor *tensor = &s->reading->model->tensors[source->candidates[candidate].tensor];
    size_t group = (size_t)source->group_of[candidate];
    uint64_t place = source->place_of[candidate];
    struct uz_view view = source->masters.groups[group].flat;
    struct target target;
    UZ_TRY(find_owner(s, source, &source->candidates[candidate], &target, err));
    if (source->masters.form == UZ_MASTERS_LISTS)
        UZ_TRY(uz_masters_view(&source->masters, group, place, &view, err));
    if (tensor->role == UZ_ROLE_PARAM && tensor->dtype != view.dtype)
        return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(source->file), UZ_NO_OFFSET,
                          "the master of %s is %s here, but %s in other files", tensor->name,
                          uz_dtype_name(view.dtype), uz_dtype_name(tensor->dtype));
    tensor->role = UZ_ROLE_PARAM;
    tensor->dtype = view.dtype;
    return add_stored(&target, &view, place, err);
}

int uz_stage0_add_masters(struct uz_stage0 *s, struct uz_stage0_source *source,
                          struct uz_error *err)
{
    for (size_t c = 0; c < source->n; c++) {
        if (source->group_of[c] < 0)
            continue;
        if (source->masters.form != UZ_MASTERS_NONE)
            UZ_TRY(add_master(s, source, c, err));
        else
            s->reading->model->tensors[source->candidates[c].tensor].role = UZ_ROLE_PARAM;
    }
    return UZ_OK;
}

/* ---- States ---- */

/* The tensor of a parameter's state, made when it is met first. */
static int state_tensor(struct uz_stage0 *s, uint32_t param, uint32_t state, enum uz_dtype dtype,
                        uint32_t *tensor, struct uz_error *err)
{
    struct uz_model *model = s->reading->model;
    uint32_t *key;
    uint64_t found;
    UZ_TRY(uz_arena_alloc(model->arena, 2, sizeof *key, &key, err));
    key[0] = param;
    key[1] = state;
    if (uz_map_get(s->states, (const char *)key, 2 * sizeof *key, &found)) {
        *tensor = (uint32_t)found;
        if (model->tensors[*tensor].dtype == dtype)
            return UZ_OK;
        return uz_fail(err, UZ_MISMATCH, "%s: the state %s has another dtype on other ranks",
                       model->tensors[param].name, model->states[state]);
    }
    UZ_TRY(uz_model_add_state_tensor(model, param, state, dtype, tensor, err));
    return uz_map_add(s->states, (const char *)key, 2 * sizeof *key, *tensor, NULL, err);
}

static int add_state(struct uz_stage0 *s, const struct uz_stage0_source *source, size_t candidate,
                     const struct uz_text *name, const struct uz_view *view, struct uz_error *err)
{
    struct target target;
    uint32_t state;
    UZ_TRY(find_owner(s, source, &source->candidates[candidate], &target, err));
    UZ_TRY(uz_model_add_state(s->reading->model, name->data, name->nbytes, &state, err));
    UZ_TRY(state_tensor(s, target.tensor, state, view->dtype, &target.tensor, err));
    return add_stored(&target, view, source->place_of[candidate], err);
}

/* True if a state has one element for each of the candidate's (flat: of its whole group). */
static bool has_shape(const struct uz_stage0_source *source, size_t candidate,
                      const struct uz_view *view)
{
    const struct uz_candidate *c = &source->candidates[candidate];
    if (source->masters.form == UZ_MASTERS_FLAT)
        return view->ndim == 1 && view->contiguous &&
               view->numel == source->masters.totals[source->group_of[candidate]];
    return uz_same_shape(view->ndim, view->shape, c->ndim, c->shape);
}

static int add_states_of(struct uz_stage0 *s, struct uz_stage0_source *source, size_t candidate,
                         struct uz_error *err)
{
    const char *wanted = s->reading->options->state;
    size_t group = (size_t)source->group_of[candidate];
    bool is_flat = source->masters.form == UZ_MASTERS_FLAT;
    const struct uz_dict *states =
        uz_masters_states(&source->masters, group, is_flat ? 0 : source->place_of[candidate]);
    for (size_t i = 0; states && i < states->n; i++) {
        struct uz_view view;
        bool found;
        UZ_TRY(uz_state_read(source->file, states, i, wanted, &view, &found, &s->compressed, err));
        if (!found || !has_shape(source, candidate, &view))
            continue;
        const struct uz_text *name = &states->pairs[i].key->u.text;
        uz_reading_note_state(s->reading, name->data, name->nbytes);
        if (uz_state_is_wanted(wanted, name->data, name->nbytes))
            UZ_TRY(add_state(s, source, candidate, name, &view, err));
    }
    return UZ_OK;
}

int uz_stage0_add_states(struct uz_stage0 *s, struct uz_stage0_source *source, struct uz_error *err)
{
    if (!s->reading->options->state)
        return UZ_OK;
    for (size_t c = 0; c < source->n; c++)
        if (source->group_of[c] >= 0)
            UZ_TRY(add_states_of(s, source, c, err));
    return UZ_OK;
}
