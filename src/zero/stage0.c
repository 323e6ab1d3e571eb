/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ZeRO stage 0: masters and states stand in the model states, in lists or flat tensors without
 * names. Which parameter each belongs to follows from the order of the module, shapes and values:
 * the low-precision copy must be the rounded master.
 */
#include <stdlib.h>
#include <string.h>

#include "zero/masters.h"
#include "zero/optim_state.h"
#include "zero/reading.h"
#include "zero/source.h"
#include "zero/stage0_fit.h"

/* Parameters by their numbers among the candidates; weights are those of struct uz_fit. */
struct candidates {
    size_t n;
    uint32_t *tensors;
    uint64_t *weights;
    int32_t *group_of;
    uint64_t *place_of;
};

struct stage0 {
    struct uz_reading *reading;
    struct uz_torch_file *file;
    uint32_t file_index;
    struct uz_masters masters;
    struct uz_fit fit;
    struct candidates candidates;
    uint32_t *flat_places;  /* of flat groups in the model */
    const char *compressed; /* what compresses states that are left out; NULL: none are */
};

static int list_candidates(struct stage0 *s, struct uz_error *err)
{
    const struct uz_model *model = s->reading->model;
    struct candidates *c = &s->candidates;
    UZ_TRY(uz_alloc(&c->tensors, model->n_tensors, sizeof *c->tensors, err));
    UZ_TRY(uz_alloc(&c->weights, model->n_tensors, sizeof *c->weights, err));
    UZ_TRY(uz_alloc(&c->group_of, model->n_tensors, sizeof *c->group_of, err));
    UZ_TRY(uz_alloc(&c->place_of, model->n_tensors, sizeof *c->place_of, err));
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        const struct uz_tensor *tensor = &model->tensors[i];
        bool counts = tensor->numel > 0 || s->masters.form == UZ_MASTERS_NONE;
        if (tensor->role != UZ_ROLE_FROZEN || !counts)
            continue;
        c->weights[c->n] = s->masters.form == UZ_MASTERS_FLAT ? tensor->numel : 1;
        c->tensors[c->n++] = i;
    }
    return UZ_OK;
}

static int matches(void *cookie, size_t candidate, size_t group, uint64_t place, bool *matches,
                   struct uz_error *err)
{
    struct stage0 *s = cookie;
    const struct uz_tensor *tensor = &s->reading->model->tensors[s->candidates.tensors[candidate]];
    return uz_masters_match(&s->masters, tensor, candidate, group, place, matches, err);
}

static int fail_fit(const struct stage0 *s, enum uz_fit_result result, struct uz_error *err)
{
    if (result == UZ_FIT_AMBIGUOUS)
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(s->file), UZ_NO_OFFSET,
                          "ZeRO stage 0 stores its fp32 weights without names, and here shapes and "
                          "values fit the parameters in more than one way; --source lp exports the "
                          "low-precision weights");
    return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(s->file), UZ_NO_OFFSET,
                      "ZeRO stage 0 stores its fp32 weights without names, and no order of the "
                      "module's parameters makes them the rounded masters; --source lp exports the "
                      "low-precision weights");
}

/* What no group takes is frozen; what a group takes has its master there. */
static int add_piece(struct stage0 *s, size_t candidate, struct uz_error *err)
{
    struct uz_model *model = s->reading->model;
    uint32_t index = s->candidates.tensors[candidate];
    struct uz_tensor *tensor = &model->tensors[index];
    size_t group = (size_t)s->candidates.group_of[candidate];
    uint64_t place = s->candidates.place_of[candidate];
    struct uz_piece piece;
    tensor->role = UZ_ROLE_PARAM;
    if (s->masters.form == UZ_MASTERS_FLAT) {
        const struct uz_view *flat = &s->masters.groups[group].flat;
        tensor->dtype = flat->dtype;
        piece = (struct uz_piece){
            .tensor = index,
            .storage = s->flat_places[group],
            .n_elems = tensor->numel,
            .src = flat->first + place,
        };
    } else {
        struct uz_view view;
        UZ_TRY(uz_masters_view(&s->masters, group, place, &view, err));
        tensor->dtype = view.dtype;
        UZ_TRY(uz_source_whole(model, s->file_index, &view, index, &piece, err));
    }
    return uz_model_add_piece(model, &piece, err);
}

/* A parameter without a master is what the module holds. */
static int add_module_piece(struct uz_model *model, uint32_t index, struct uz_error *err)
{
    struct uz_tensor *tensor = &model->tensors[index];
    struct uz_piece piece = model->lp_pieces[tensor->lp];
    tensor->lp = UZ_NONE;
    tensor->n_lp = 0;
    return uz_model_add_piece(model, &piece, err);
}

static int add_pieces(struct stage0 *s, struct uz_error *err)
{
    struct uz_model *model = s->reading->model;
    bool has_masters = s->masters.form != UZ_MASTERS_NONE;
    for (size_t g = 0; s->masters.form == UZ_MASTERS_FLAT && g < s->masters.n_groups; g++)
        UZ_TRY(uz_source_add_place(model, s->file_index, &s->masters.groups[g].flat.storage,
                                   &s->flat_places[g], err));
    for (size_t c = 0; c < s->candidates.n; c++) {
        if (s->candidates.group_of[c] < 0)
            continue;
        if (has_masters)
            UZ_TRY(add_piece(s, c, err));
        else
            model->tensors[s->candidates.tensors[c]].role = UZ_ROLE_PARAM;
    }
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        const struct uz_tensor *tensor = &model->tensors[i];
        if (tensor->lp != UZ_NONE && (tensor->role == UZ_ROLE_FROZEN || !has_masters))
            UZ_TRY(add_module_piece(model, i, err));
    }
    return UZ_OK;
}

/* ---- States ---- */

static int add_state(struct stage0 *s, size_t candidate, const char *name, size_t name_nbytes,
                     const struct uz_view *view, struct uz_error *err)
{
    struct uz_model *model = s->reading->model;
    uint32_t param = s->candidates.tensors[candidate], state, tensor;
    struct uz_piece piece;
    UZ_TRY(uz_model_add_state(model, name, name_nbytes, &state, err));
    UZ_TRY(uz_model_add_state_tensor(model, param, state, view->dtype, &tensor, err));
    UZ_TRY(uz_source_whole(model, s->file_index, view, tensor, &piece, err));
    if (s->masters.form == UZ_MASTERS_FLAT) {
        piece.src += s->candidates.place_of[candidate];
        piece.n_elems = model->tensors[param].numel;
    }
    return uz_model_add_piece(model, &piece, err);
}

/* True if a state has one element for each of the candidate's (flat: of its whole group). */
static bool has_shape(const struct stage0 *s, size_t candidate, const struct uz_view *view)
{
    const struct uz_tensor *tensor = &s->reading->model->tensors[s->candidates.tensors[candidate]];
    if (s->masters.form == UZ_MASTERS_FLAT)
        return view->ndim == 1 && view->contiguous &&
               view->numel == s->fit.totals[s->candidates.group_of[candidate]];
    return uz_view_is_of(view, tensor);
}

static int add_states_of(struct stage0 *s, size_t candidate, struct uz_error *err)
{
    const char *wanted = s->reading->options->state;
    size_t group = (size_t)s->candidates.group_of[candidate];
    uint64_t place = s->masters.form == UZ_MASTERS_FLAT ? 0 : s->candidates.place_of[candidate];
    const struct uz_dict *states = uz_masters_states(&s->masters, group, place);
    for (size_t i = 0; states && i < states->n; i++) {
        struct uz_view view;
        bool found;
        UZ_TRY(uz_state_read(s->file, states, i, wanted, &view, &found, &s->compressed, err));
        if (!found || !has_shape(s, candidate, &view))
            continue;
        const struct uz_text *name = &states->pairs[i].key->u.text;
        uz_reading_note_state(s->reading, name->data, name->nbytes);
        if (uz_state_is_wanted(wanted, name->data, name->nbytes))
            UZ_TRY(add_state(s, candidate, name->data, name->nbytes, &view, err));
    }
    return UZ_OK;
}

/* ---- The order of the steps ---- */

static int assign(struct stage0 *s, enum uz_fit_result *result, struct uz_error *err)
{
    UZ_TRY(list_candidates(s, err));
    s->fit = (struct uz_fit){
        .n_candidates = s->candidates.n,
        .n_groups = s->masters.n_groups,
        .weights = s->candidates.weights,
        .totals = s->masters.totals,
        .matches = matches,
        .cookie = s,
    };
    UZ_TRY(uz_masters_prepare(&s->masters, s->reading->model, s->candidates.tensors,
                              s->candidates.n, err));
    return uz_fit_assign(&s->fit, s->candidates.group_of, s->candidates.place_of, result, err);
}

/* Without masters the weights are the module's; only the states would need to be assigned. */
static int forget_groups(struct stage0 *s, enum uz_fit_result result, struct uz_error *err)
{
    for (size_t c = 0; c < s->candidates.n; c++)
        s->candidates.group_of[c] = 0;
    if (!s->reading->options->state || s->masters.n_groups == 0)
        return UZ_OK;
    return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(s->file), UZ_NO_OFFSET,
                      "the optimizer's states stand without names in a ZeRO stage 0 checkpoint, "
                      "and their shapes fit the parameters in %s; the weights can be had",
                      result == UZ_FIT_AMBIGUOUS ? "more than one way" : "no way");
}

static int join(struct stage0 *s, struct uz_error *err)
{
    enum uz_fit_result result;
    bool fits;
    UZ_TRY(assign(s, &result, err));
    fits = result == UZ_FIT_UNIQUE;
    if (!fits && s->masters.form != UZ_MASTERS_NONE)
        return fail_fit(s, result, err);
    if (!fits)
        UZ_TRY(forget_groups(s, result, err));
    UZ_TRY(uz_alloc(&s->flat_places, s->masters.n_groups, sizeof *s->flat_places, err));
    UZ_TRY(add_pieces(s, err));
    for (size_t c = 0; fits && s->reading->options->state && c < s->candidates.n; c++)
        if (s->candidates.group_of[c] >= 0)
            UZ_TRY(add_states_of(s, c, err));
    if (s->compressed)
        UZ_TRY(uz_warn_of_states(s->reading->notes, s->compressed, err));
    s->reading->info->masters_by_fit = s->masters.form != UZ_MASTERS_NONE;
    return UZ_OK;
}

int uz_reading_join_stage0(struct uz_reading *reading, struct uz_torch_file *file,
                           uint32_t file_index, struct uz_error *err)
{
    struct stage0 s = {.reading = reading, .file = file, .file_index = file_index};
    int rc = uz_masters_read(&s.masters, file, err);
    if (rc == UZ_OK)
        rc = join(&s, err);
    uz_masters_free(&s.masters);
    free(s.candidates.tensors);
    free(s.candidates.weights);
    free(s.candidates.group_of);
    free(s.candidates.place_of);
    free(s.flat_places);
    return rc;
}
