/* SPDX-License-Identifier: Apache-2.0 */
/* One folder for each parameter, one file for each of its states. */
#include "check/verify_universal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/dir.h"
#include "base/file.h"
#include "layout/shape_text.h"
#include "zero/universal_param.h"

static const char suffix[] = ".pt", weight_name[] = "fp32", step_name[] = "step";

/* ---- Listing ---- */

/* Folders that are still to be listed, by path from zero/; "" is itself. */
struct walk {
    struct uz_verify_run *run;
    const char *root;
    char **todo;
    size_t n_todo, cap_todo;
    const char *folder; /* the one that is being listed */
    const char *path;
};

static int push(struct walk *w, char *folder, struct uz_error *err)
{
    int rc = folder
                 ? uz_reserve(&w->todo, &w->cap_todo, (uint64_t)w->n_todo + 1, sizeof *w->todo, err)
                 : uz_fail_nomem(err, 0);
    if (rc < 0) {
        free(folder);
        return rc;
    }
    w->todo[w->n_todo++] = folder;
    return UZ_OK;
}

static int add_file(struct walk *w, const char *path, const char *name, struct uz_error *err)
{
    struct uz_record *record;
    UZ_TRY(uz_verify_add_loose(w->run, path, &record, err));
    if (!*w->folder) /* optimizer_state.pt */
        return UZ_OK;
    record->param = strdup(w->folder);
    record->state = strndup(name, strlen(name) - strlen(suffix));
    return record->param && record->state ? UZ_OK : uz_fail_nomem(err, strlen(name));
}

static int look_at(void *cookie, const char *name, struct uz_error *err)
{
    struct walk *w = cookie;
    struct stat st;
    char *path = uz_path_join(w->path, name);
    if (!path)
        return uz_fail_nomem(err, strlen(name));
    int rc = UZ_OK;
    if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
        rc = push(w, *w->folder ? uz_path_join(w->folder, name) : strdup(name), err);
    else if (uz_has_suffix(name, suffix))
        rc = add_file(w, path, name, err);
    free(path);
    return rc;
}

static int list_folder(struct walk *w, const char *folder, struct uz_error *err)
{
    char *path = *folder ? uz_path_join(w->root, folder) : strdup(w->root);
    if (!path)
        return uz_fail_nomem(err, strlen(folder));
    w->folder = folder;
    w->path = path;
    int rc = uz_each_entry(path, look_at, w, err);
    free(path);
    return rc;
}

int uz_verify_list_universal(struct uz_verify_run *run, struct uz_error *err)
{
    char *root = uz_path_join(run->dir, "zero");
    struct walk w = {.run = run, .root = root};
    int rc = root ? push(&w, strdup(""), err) : uz_fail_nomem(err, strlen(run->dir));
    while (rc == UZ_OK && w.n_todo > 0) {
        char *folder = w.todo[--w.n_todo];
        rc = list_folder(&w, folder, err);
        free(folder);
    }
    for (size_t i = 0; i < w.n_todo; i++)
        free(w.todo[i]);
    free(w.todo);
    free(root);
    return rc;
}

/* ---- One file ---- */

int uz_verify_read_state(struct uz_record *record, struct uz_torch_file *file, struct uz_error *why)
{
    struct uz_universal_state state = {.path = record->path};
    double step;
    if (!strcmp(record->state, step_name))
        return uz_torch_number(file, uz_torch_root(file), "the step", &step, why);
    UZ_TRY(uz_universal_state_read(&state, file, why));
    UZ_TRY(uz_alloc(&record->shape, state.view.ndim, sizeof *record->shape, why));
    memcpy(record->shape, state.view.shape, state.view.ndim * sizeof *record->shape);
    record->ndim = state.view.ndim;
    record->numel = state.view.numel;
    record->own_shape = state.own_shape;
    record->has_shape = true;
    return UZ_OK;
}

/* ---- All of them ---- */

/* Records [first, end) are the files of one parameter. */
struct folder {
    size_t first, end;
};

struct universal {
    struct uz_verify_run *run;
    struct uz_map *index; /* name -> index of folders */
    struct folder *folders;
    size_t n_folders, cap_folders;
    const char *states[64]; /* of the group that is looked at */
    size_t n_states;
};

static int index_folders(struct universal *u, struct uz_error *err)
{
    struct uz_verify_run *run = u->run;
    for (size_t i = 0, end; i < run->n_records; i = end) {
        const char *name = run->records[i].param;
        struct folder *folder;
        end = i + 1;
        if (!name)
            continue;
        while (end < run->n_records && run->records[end].param &&
               !strcmp(run->records[end].param, name))
            end++;
        UZ_TRY(UZ_APPEND(u->folders, u->n_folders, u->cap_folders, &folder, err));
        *folder = (struct folder){i, end};
        UZ_TRY(uz_map_add(u->index, name, strlen(name), u->n_folders - 1, NULL, err));
    }
    return UZ_OK;
}

static const struct uz_record *record_of(const struct universal *u, const struct folder *folder,
                                         const char *state)
{
    for (size_t i = folder->first; i < folder->end; i++)
        if (!strcmp(u->run->records[i].state, state))
            return &u->run->records[i];
    return NULL;
}

static const struct folder *folder_of(const struct universal *u, const char *name)
{
    uint64_t number;
    return uz_map_get(u->index, name, strlen(name), &number) ? &u->folders[number] : NULL;
}

static int tell_of_param(struct universal *u, enum uz_find what, const char *name,
                         const char *message, struct uz_error *err)
{
    struct uz_where where = UZ_NOWHERE;
    char *zero = uz_path_join(u->run->dir, "zero");
    char *path = zero ? uz_path_join(zero, name) : NULL;
    where.file = path;
    where.tensor = name;
    int rc = path ? uz_find(&u->run->findings, what, &where, err, "%s", message)
                  : uz_fail_nomem(err, strlen(name));
    free(path);
    free(zero);
    return rc;
}

/* The states that any parameter of a group has. */
static void list_states(struct universal *u, const struct uz_params *params, size_t g)
{
    u->n_states = 1;
    u->states[0] = weight_name;
    for (size_t p = params->group_first[g]; p < params->group_first[g + 1]; p++) {
        const struct folder *folder = folder_of(u, params->names[p]);
        for (size_t i = folder ? folder->first : 0; folder && i < folder->end; i++) {
            const char *state = u->run->records[i].state;
            size_t known = 0;
            while (known < u->n_states && strcmp(u->states[known], state) != 0)
                known++;
            if (known == u->n_states && known < sizeof u->states / sizeof u->states[0])
                u->states[u->n_states++] = state;
        }
    }
}

/*
 * A file of one state must have the shape of param_shapes, or be flat. With several model-parallel
 * ranks the shapes there are those of shards, and only the joins tell.
 */
static int check_shape(struct universal *u, const struct uz_record *record,
                       const struct uz_tensor *tensor, struct uz_error *err)
{
    char here[160], there[160];
    struct uz_where where = uz_record_where(record);
    bool same = record->numel == tensor->numel &&
                (record->ndim == 1 ||
                 uz_same_shape(record->ndim, record->shape, tensor->ndim, tensor->shape));
    if (!record->has_shape || same || u->run->n_mp > 1 ||
        (record->own_shape && record->ndim == tensor->ndim))
        return UZ_OK;
    where.tensor = tensor->name;
    return uz_find(&u->run->findings, UZ_FIND_WRONG_SHAPE, &where, err,
                   "is of shape %s, but the model states say %s",
                   uz_shape_text(here, sizeof here, record->ndim, record->shape, record->numel),
                   uz_shape_text(there, sizeof there, tensor->ndim, tensor->shape, tensor->numel));
}

static int check_param(struct universal *u, const struct uz_mp_rank *mp, size_t p,
                       struct uz_error *err)
{
    char message[160];
    const char *name = mp->params.names[p];
    const struct folder *folder = folder_of(u, name);
    if (!folder)
        return tell_of_param(u, UZ_FIND_MISSING_PARAM, name,
                             "the model states list this parameter, its folder is missing or empty",
                             err);
    for (size_t i = 0; i < u->n_states; i++) {
        const struct uz_record *record = record_of(u, folder, u->states[i]);
        if (record) {
            UZ_TRY(check_shape(u, record, &mp->model.tensors[mp->params.tensors[p]], err));
            continue;
        }
        (void)snprintf(message, sizeof message,
                       "holds no %s.pt, which other parameters of its group have", u->states[i]);
        UZ_TRY(tell_of_param(u, UZ_FIND_MISSING_STATE, name, message, err));
    }
    return UZ_OK;
}

static int check_mp_rank(struct universal *u, const struct uz_mp_rank *mp, struct uz_error *err)
{
    const struct uz_params *params = &mp->params;
    for (size_t g = 0; g < params->n_groups; g++) {
        if (params->group_has_experts && params->group_has_experts[g])
            continue; /* numbered in another way: the joins tell */
        list_states(u, params, g);
        for (size_t p = params->group_first[g]; p < params->group_first[g + 1]; p++)
            if (params->numels[p] > 0) /* for others no folder is made */
                UZ_TRY(check_param(u, mp, p, err));
    }
    return UZ_OK;
}

int uz_verify_universal(struct uz_verify_run *run, struct uz_error *err)
{
    struct universal u = {.run = run, .index = uz_map_new()};
    int rc = u.index ? index_folders(&u, err) : uz_fail_nomem(err, sizeof u);
    for (uint32_t mp = 0; rc == UZ_OK && mp < run->n_mp; mp++)
        if (run->mp_ranks[mp].is_known)
            rc = check_mp_rank(&u, &run->mp_ranks[mp], err);
    uz_map_free(u.index);
    free(u.folders);
    return rc;
}
