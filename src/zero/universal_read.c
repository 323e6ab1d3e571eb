/* SPDX-License-Identifier: Apache-2.0 */
/* From the names of the model states, folder by folder, to the model. */
#include "zero/universal_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/parallel.h"
#include "layout/shape_text.h"
#include "zero/archive_root.h"
#include "zero/source.h"
#include "zero/universal_extra.h"
#include "zero/universal_grid.h"
#include "zero/universal_param.h"

/* Folders whose views are in memory at a time. */
enum { BATCH = 512 };

struct universal {
    struct uz_reading *r;
    char *dir; /* zero/ */
    struct uz_universal_names names;
    size_t first;                      /* name of the batch's first folder */
    struct uz_universal_param *params; /* of the batch */
    uint64_t *n_of_state;              /* by number of the state: parameters that have it */
    size_t cap_of_state;
    bool has_step, steps_vary;
    double step;
};

/* ---- Reading folders, in parallel ---- */

static int read_folder(struct universal *u, size_t name, struct uz_universal_param *param,
                       struct uz_error *err)
{
    struct stat st;
    char *folder = uz_path_join(u->dir, u->names.items[name]);
    if (!folder)
        return uz_fail_nomem(err, strlen(u->dir));
    int rc = UZ_OK;
    if (stat(folder, &st) < 0)
        rc = errno == ENOENT
                 ? uz_fail_at(err, UZ_MISMATCH, folder, UZ_NO_OFFSET,
                              "is not there: param_shapes of the model states lists this parameter")
                 : uz_fail_errno(err, errno, folder, "cannot be opened");
    if (rc == UZ_OK)
        rc = uz_universal_param_read(param, folder, u->r->options->state,
                                     &u->r->options->input.limits, err);
    if (rc == UZ_OK && !uz_universal_weight(param))
        rc = uz_fail_at(err, UZ_MISMATCH, folder, UZ_NO_OFFSET,
                        "holds no fp32.pt: the parameter's weight is missing");
    free(folder);
    return rc;
}

static int read_job(void *cookie, uint64_t job, unsigned worker, struct uz_error *err)
{
    struct universal *u = cookie;
    (void)worker;
    return read_folder(u, u->first + job, &u->params[job], err);
}

/* ---- Adding them to the model, in order ---- */

static int fail_shape(const struct uz_tensor *tensor, const struct uz_universal_state *state,
                      struct uz_error *err)
{
    char here[160], there[160];
    const struct uz_view *view = &state->view;
    return uz_fail_at(
        err, UZ_MISMATCH, state->path, UZ_NO_OFFSET,
        "is of shape %s, but the parameter %s of shape %s",
        uz_shape_text(here, sizeof here, view->ndim, view->shape, view->numel), tensor->name,
        uz_shape_text(there, sizeof there, tensor->ndim, tensor->shape, tensor->numel));
}

/*
 * The shape of param_shapes gives way to that of the file where the file says so: the padding of a
 * vocabulary was stripped, or experts were joined. The low-precision copy then has another shape.
 */
static int take_own_shape(struct uz_model *model, uint32_t index, const struct uz_view *view,
                          struct uz_error *err)
{
    struct uz_tensor *tensor = &model->tensors[index];
    uint64_t *shape;
    UZ_TRY(uz_arena_alloc(model->arena, view->ndim, sizeof *shape, &shape, err));
    memcpy(shape, view->shape, view->ndim * sizeof *shape);
    UZ_TRY(uz_shape_numel(view->ndim, shape, &tensor->numel, err));
    tensor->ndim = view->ndim;
    tensor->shape = shape;
    tensor->lp = UZ_NONE;
    return UZ_OK;
}

/* The tensor of the model that a folder is; added if the model states do not tell its shape. */
static int find_tensor(struct universal *u, size_t name, const struct uz_universal_state *weight,
                       uint32_t *index, struct uz_error *err)
{
    struct uz_model *model = u->r->model;
    const char *text = u->names.items[name];
    const struct uz_view *view = &weight->view;
    if (!uz_model_find(model, text, strlen(text), index)) {
        if (!weight->whole)
            return uz_fail_at(err, UZ_MISMATCH, weight->path, UZ_NO_OFFSET,
                              "is a flat tensor, and no model states tell the parameter's shape");
        int rc = uz_model_add_tensor(model, text, strlen(text), UZ_ROLE_PARAM, view->dtype,
                                     view->ndim, view->shape, index, err);
        return rc < 0 ? uz_error_in_file(err, rc, weight->path) : UZ_OK;
    }
    struct uz_tensor *tensor = &model->tensors[*index];
    if (tensor->role != UZ_ROLE_PARAM)
        return uz_fail_at(err, UZ_MISMATCH, weight->path, UZ_NO_OFFSET,
                          "%s is listed in param_shapes and as something else", tensor->name);
    tensor->dtype = view->dtype;
    if (weight->own_shape && !uz_view_is_of(view, tensor) && tensor->ndim == view->ndim)
        return take_own_shape(model, *index, view, err);
    return UZ_OK;
}

/* The tensor's data: of its shape, or flat. */
static int add_data(struct universal *u, const struct uz_universal_state *state, uint32_t index,
                    struct uz_error *err)
{
    struct uz_model *model = u->r->model;
    const struct uz_tensor *tensor = &model->tensors[index];
    struct uz_piece piece;
    uint32_t file;
    if (state->view.numel != tensor->numel ||
        (state->view.ndim != 1 && !uz_view_is_of(&state->view, tensor)))
        return fail_shape(tensor, state, err);
    UZ_TRY(uz_model_add_file(model, state->path, &file, err));
    UZ_TRY(uz_source_whole(model, file, &state->view, index, &piece, err));
    return uz_model_add_piece(model, &piece, err);
}

static int count_state(struct universal *u, uint32_t state, struct uz_error *err)
{
    size_t cap = u->cap_of_state;
    UZ_TRY(uz_reserve(&u->n_of_state, &u->cap_of_state, (uint64_t)state + 1, sizeof *u->n_of_state,
                      err));
    memset(u->n_of_state + cap, 0, (u->cap_of_state - cap) * sizeof *u->n_of_state);
    u->n_of_state[state]++;
    return UZ_OK;
}

static int add_state(struct universal *u, const struct uz_universal_state *state, uint32_t param,
                     struct uz_error *err)
{
    struct uz_model *model = u->r->model;
    uint32_t number, tensor;
    uz_reading_note_state(u->r, state->name, strlen(state->name));
    if (!state->wanted)
        return UZ_OK;
    int rc = uz_model_add_state(model, state->name, strlen(state->name), &number, err);
    if (rc < 0)
        return uz_error_in_file(err, rc, state->path);
    UZ_TRY(count_state(u, number, err));
    UZ_TRY(uz_model_add_state_tensor(model, param, number, state->view.dtype, &tensor, err));
    return add_data(u, state, tensor, err);
}

static void note_step(struct universal *u, const struct uz_universal_param *param)
{
    if (!param->has_step)
        return;
    u->steps_vary |= u->has_step && (param->step < u->step || param->step > u->step);
    u->has_step = true;
    u->step = param->step;
}

static int add_param(struct universal *u, size_t name, const struct uz_universal_param *param,
                     struct uz_error *err)
{
    const struct uz_universal_state *weight = uz_universal_weight(param);
    uint32_t tensor;
    UZ_TRY(find_tensor(u, name, weight, &tensor, err));
    UZ_TRY(add_data(u, weight, tensor, err));
    for (size_t i = 0; i < param->n_states; i++)
        if (&param->states[i] != weight)
            UZ_TRY(add_state(u, &param->states[i], tensor, err));
    note_step(u, param);
    return UZ_OK;
}

static int read_batch(struct universal *u, size_t n, struct uz_error *err)
{
    UZ_TRY(uz_alloc(&u->params, n, sizeof *u->params, err));
    int rc = uz_parallel(u->r->threads, n, read_job, NULL, u, err);
    for (size_t i = 0; rc == UZ_OK && i < n; i++)
        rc = add_param(u, u->first + i, &u->params[i], err);
    for (size_t i = 0; i < n; i++)
        uz_universal_param_free(&u->params[i]);
    free(u->params);
    u->params = NULL;
    return rc;
}

/* Reads the folders of all names from number `first` on. */
static int read_params(struct universal *u, size_t first, struct uz_error *err)
{
    for (u->first = first; u->first < u->names.n; u->first += BATCH) {
        size_t left = u->names.n - u->first;
        UZ_TRY(read_batch(u, left < BATCH ? left : BATCH, err));
    }
    return UZ_OK;
}

/* ---- What stands in zero/ beside them ---- */

/* Folders that no model states explain are parameters, too, and must not be lost. */
static int read_unlisted(struct universal *u, struct uz_error *err)
{
    size_t n_listed = u->names.n;
    UZ_TRY(uz_universal_list_extra(u->dir, u->r->model, &u->names, err));
    if (u->names.n == n_listed)
        return UZ_OK;
    UZ_TRY(uz_warn_of_data(u->r->notes, err,
                           "%zu parameters stand in %s, but not in the model states (%s%s): taken "
                           "as they are stored there",
                           u->names.n - n_listed, u->dir, u->names.items[n_listed],
                           u->names.n - n_listed > 1 ? ", ..." : ""));
    return read_params(u, n_listed, err);
}

/* The optimizer's own file tells the stage and, where there is no step.pt, the step. */
static int read_optimizer(struct universal *u, struct uz_error *err)
{
    struct uz_torch_file *file;
    int64_t stage;
    char *path = uz_path_join(u->dir, "optimizer_state.pt");
    if (!path)
        return uz_fail_nomem(err, strlen(u->dir));
    bool there = access(path, F_OK) == 0;
    int rc = there ? uz_torch_open(&file, path, &u->r->options->input.limits, err) : UZ_OK;
    free(path);
    if (!there || rc < 0)
        return rc;
    const struct uz_node *root = uz_torch_root(file);
    if (uz_node_int(uz_node_get(root, "zero_stage"), &stage) && stage >= 0 && stage <= 3)
        u->r->info->stage = (int)stage;
    const struct uz_dict *states =
        uz_node_dict(uz_node_get(uz_node_get(root, "optimizer_state_dict"), "state"));
    const struct uz_node *step = NULL;
    for (size_t i = 0; states && !step && i < states->n; i++)
        step = uz_node_get_small(states->pairs[i].value, "step");
    if (step && !u->has_step) {
        rc = uz_torch_number(file, step, "the optimizer's step", &u->step, err);
        u->has_step = rc == UZ_OK;
    }
    uz_torch_close(file);
    return rc;
}

static int report_missing_states(struct universal *u, struct uz_error *err)
{
    const struct uz_model *model = u->r->model;
    for (size_t state = 1; state < model->n_states; state++) {
        uint64_t n = state < u->cap_of_state ? u->n_of_state[state] : 0;
        if (n < u->names.n)
            UZ_TRY(uz_warn_of_data(u->r->notes, err,
                                   "%llu of %zu parameters have no state %s in %s (they never "
                                   "received a gradient?)",
                                   (unsigned long long)(u->names.n - n), u->names.n,
                                   model->states[state], u->dir));
    }
    return UZ_OK;
}

static int set_step(struct universal *u, struct uz_error *err)
{
    if (u->steps_vary)
        UZ_TRY(uz_warn_of_data(u->r->notes, err,
                               "the parameters' step.pt in %s do not all tell the same step",
                               u->dir));
    return u->has_step ? uz_reading_set_step(u->r, u->step, err) : UZ_OK;
}

/* ---- The order of things ---- */

/* One model-parallel rank: its model states are read as those of a ZeRO checkpoint are. */
static int open_single(struct universal *u, struct uz_error *err)
{
    struct uz_reading *r = u->r;
    UZ_TRY(uz_reading_open(r, err));
    if (r->layout == UZ_LAYOUT_STAGE0)
        return uz_fail_at(err, UZ_UNSUPPORTED, r->model->files[0], UZ_NO_OFFSET,
                          "has no 'param_shapes', the list of parameters");
    UZ_TRY(
        uz_archive_root_check(r->info->metadata.archive_root, r->model->files[0], r->notes, err));
    size_t n_params = r->params.group_tensor[r->params.n_groups];
    for (size_t i = 0; i < n_params; i++) {
        struct uz_tensor *tensor = &r->model->tensors[i];
        const char *name = tensor->name;
        if (tensor->numel == 0) { /* nothing was written for it */
            tensor->dtype = UZ_DTYPE_F32;
            continue;
        }
        if (!uz_universal_name_is_safe(name, strlen(name)))
            return uz_fail_at(err, UZ_CORRUPT, r->model->files[0], UZ_NO_OFFSET,
                              "the parameter's name %s cannot be that of a folder in zero/", name);
        UZ_TRY(uz_universal_add_name(&u->names, r->model, name, strlen(name), err));
    }
    return UZ_OK;
}

static int read_all(struct universal *u, uint32_t n_mp, struct uz_error *err)
{
    struct uz_reading *r = u->r;
    if (n_mp == 1)
        UZ_TRY(open_single(u, err));
    else
        UZ_TRY(uz_universal_grid_open(r, n_mp, &u->names, err));
    r->world = r->info->metadata.dp_world_size ? r->info->metadata.dp_world_size : 1;
    UZ_TRY(read_params(u, 0, err));
    if (n_mp == 1)
        UZ_TRY(uz_reading_join_frozen(r, err));
    else
        UZ_TRY(uz_universal_grid_modules(r, n_mp, err));
    UZ_TRY(read_unlisted(u, err));
    UZ_TRY(read_optimizer(u, err));
    UZ_TRY(report_missing_states(u, err));
    UZ_TRY(set_step(u, err));
    return uz_model_finish(r->model, err);
}

int uz_universal_read(struct uz_reading *r, uint32_t n_mp, struct uz_error *err)
{
    struct universal u = {.r = r, .dir = uz_path_join(r->topology->dir, "zero")};
    u.names.index = uz_map_new();
    int rc = u.dir && u.names.index ? read_all(&u, n_mp, err)
                                    : uz_fail_nomem(err, strlen(r->topology->dir));
    free(u.dir);
    free(u.n_of_state);
    free(u.names.items);
    uz_map_free(u.names.index);
    return rc;
}
