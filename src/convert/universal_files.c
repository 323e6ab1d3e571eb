/* SPDX-License-Identifier: Apache-2.0 */
/* The files under zero/: one for each parameter's weight, each of its states, and its step. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "convert/universal_impl.h"
#include "torch/node_write.h"
#include "zero/universal_param.h"

enum { MAX_NAME_NBYTES = 4096 };

int uz_universal_add_file(struct uz_universal_job *job, enum uz_universal_kind kind,
                          uint32_t tensor, struct uz_error *err, const char *fmt, ...)
{
    char name[MAX_NAME_NBYTES];
    struct uz_universal_file *file;
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof name)
        return uz_fail(err, UZ_UNSUPPORTED, "%.100s...: the name is too long for a file's", name);
    UZ_TRY(UZ_APPEND(job->files, job->n_files, job->cap_files, &file, err));
    file->kind = kind;
    file->tensor = tensor;
    return uz_arena_strndup(job->arena, name, (size_t)n, &file->name, err);
}

/* ---- Which files there are ---- */

/* A parameter that the optimizer knows: param_shapes lists it, also if it has no elements. */
struct trained {
    struct uz_map *names; /* of parameters without elements */
};

static int add_trained(struct trained *trained, const struct uz_node *groups, struct uz_error *err)
{
    const struct uz_seq *list = uz_node_list(groups);
    for (size_t g = 0; list && g < list->n; g++) {
        const struct uz_dict *shapes = uz_node_dict(list->items[g]);
        for (size_t i = 0; shapes && i < shapes->n; i++) {
            const struct uz_node *key = shapes->pairs[i].key;
            if (key->kind == UZ_NODE_STR)
                UZ_TRY(
                    uz_map_add(trained->names, key->u.text.data, key->u.text.nbytes, 0, NULL, err));
        }
    }
    return UZ_OK;
}

static int find_trained(const struct uz_universal_job *job, struct trained *trained,
                        struct uz_error *err)
{
    trained->names = uz_map_new();
    if (!trained->names)
        return uz_fail_nomem(err, sizeof(void *));
    for (uint32_t mp = 0; mp < job->source.n_mp; mp++)
        UZ_TRY(add_trained(
            trained, uz_node_get(uz_torch_root(job->source.states[mp]), "param_shapes"), err));
    return UZ_OK;
}

static bool is_trained(const struct trained *trained, const struct uz_tensor *tensor)
{
    if (tensor->numel > 0)
        return tensor->role == UZ_ROLE_PARAM;
    return tensor->role != UZ_ROLE_BUFFER && tensor->role != UZ_ROLE_STATE &&
           uz_map_get(trained->names, tensor->name, strlen(tensor->name), NULL);
}

bool uz_universal_is_wanted(const struct uz_universal_job *job, const char *state)
{
    return job->options.dialect != UZ_UNIVERSAL_DEEPSPEED || !strcmp(state, "fp32") ||
           !strcmp(state, "exp_avg") || !strcmp(state, "exp_avg_sq");
}

/* The states of each parameter, chained; UZ_NONE ends a chain. */
struct chains {
    uint32_t *first, *next;
};

static int chain_states(const struct uz_model *model, struct chains *chains, struct uz_error *err)
{
    UZ_TRY(uz_alloc(&chains->first, model->n_tensors, sizeof *chains->first, err));
    UZ_TRY(uz_alloc(&chains->next, model->n_tensors, sizeof *chains->next, err));
    for (size_t i = 0; i < model->n_tensors; i++)
        chains->first[i] = UZ_NONE;
    for (uint32_t i = (uint32_t)model->n_tensors; i-- > 0;) {
        const struct uz_tensor *tensor = &model->tensors[i];
        if (tensor->role != UZ_ROLE_STATE)
            continue;
        chains->next[i] = chains->first[tensor->param];
        chains->first[tensor->param] = i;
    }
    return UZ_OK;
}

/*
 * Without elements a parameter has no states in the model; the loader expects them all the same.
 * DeepSpeed's converter writes the weight alone, from the module (uz_universal_list_lone).
 */
static int list_empty(struct uz_universal_job *job, uint32_t param, struct uz_error *err)
{
    const struct uz_model *model = &job->source.model;
    const char *name = model->tensors[param].name;
    if (job->options.dialect == UZ_UNIVERSAL_DEEPSPEED && job->in_dicts)
        return UZ_OK;
    for (size_t i = 0; i < model->n_states; i++)
        if (uz_universal_is_wanted(job, model->states[i]))
            UZ_TRY(uz_universal_add_file(job, UZ_UNIVERSAL_TENSOR, param, err, "zero/%s/%s.pt",
                                         name, model->states[i]));
    return UZ_OK;
}

static int list_param(struct uz_universal_job *job, const struct chains *chains, uint32_t param,
                      struct uz_error *err)
{
    const struct uz_model *model = &job->source.model;
    const char *name = model->tensors[param].name;
    if (!uz_universal_name_is_safe(name, strlen(name)))
        return uz_fail(err, UZ_UNSUPPORTED, "the parameter's name %s cannot be that of a folder",
                       name);
    if (model->tensors[param].numel == 0)
        UZ_TRY(list_empty(job, param, err));
    else
        UZ_TRY(
            uz_universal_add_file(job, UZ_UNIVERSAL_TENSOR, param, err, "zero/%s/fp32.pt", name));
    for (uint32_t i = chains->first[param]; i != UZ_NONE && model->tensors[param].numel > 0;
         i = chains->next[i]) {
        const char *state = model->states[model->tensors[i].state];
        if (uz_universal_is_wanted(job, state))
            UZ_TRY(uz_universal_add_file(job, UZ_UNIVERSAL_TENSOR, i, err, "zero/%s/%s.pt", name,
                                         state));
    }
    bool lone = model->tensors[param].numel == 0 && job->options.dialect == UZ_UNIVERSAL_DEEPSPEED;
    if (job->has_steps && !lone && uz_universal_step_of(&job->source, param))
        UZ_TRY(uz_universal_add_file(job, UZ_UNIVERSAL_STEP, param, err, "zero/%s/step.pt", name));
    job->summary.n_params++;
    return UZ_OK;
}

/*
 * With tensor ranks the model states hold a frozen parameter in shards, and with a pipeline they
 * hold neither these nor buffers: they would be lost, were they not written here.
 */
static bool is_joined_here(const struct uz_universal_job *job, const struct uz_tensor *tensor)
{
    if (job->source.n_mp == 1 || job->options.dialect == UZ_UNIVERSAL_DEEPSPEED)
        return false;
    bool has_module = uz_node_dict(uz_node_get(uz_torch_root(job->source.states[0]), "module"));
    return tensor->role == UZ_ROLE_FROZEN || (tensor->role == UZ_ROLE_BUFFER && !has_module);
}

static int list_lonely(struct uz_universal_job *job, uint32_t tensor, struct uz_error *err)
{
    const char *name = job->source.model.tensors[tensor].name;
    if (!uz_universal_name_is_safe(name, strlen(name)))
        return uz_fail(err, UZ_UNSUPPORTED, "the name %s cannot be that of a folder", name);
    return uz_universal_add_file(job, UZ_UNIVERSAL_TENSOR, tensor, err, "zero/%s/fp32.pt", name);
}

static int list_params(struct uz_universal_job *job, const struct trained *trained,
                       const struct chains *chains, struct uz_error *err)
{
    const struct uz_model *model = &job->source.model;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        if (is_trained(trained, &model->tensors[i]))
            UZ_TRY(list_param(job, chains, i, err));
        else if (is_joined_here(job, &model->tensors[i]))
            UZ_TRY(list_lonely(job, i, err));
    }
    return UZ_OK;
}

/* DeepSpeed's dialect is that of Adam; what it would lose, or fail on, is told. */
static int check_states(struct uz_universal_job *job, struct uz_error *err)
{
    const struct uz_model *model = &job->source.model;
    unsigned n_known = 0;
    if (job->options.dialect != UZ_UNIVERSAL_DEEPSPEED)
        return UZ_OK;
    for (size_t i = 1; i < model->n_states; i++)
        n_known += uz_universal_is_wanted(job, model->states[i]);
    if (n_known < 2)
        return uz_fail(err, UZ_UNSUPPORTED,
                       "--dialect deepspeed needs the optimizer states exp_avg and exp_avg_sq, "
                       "which DeepSpeed's converter has built in; this checkpoint has not both: "
                       "--dialect any writes the states that there are");
    for (size_t i = 1; i < model->n_states; i++)
        if (!uz_universal_is_wanted(job, model->states[i]))
            UZ_TRY(uz_warn_of_data(&job->notes, err,
                                   "the optimizer state %s is left out, as DeepSpeed's converter "
                                   "does: --dialect any keeps it",
                                   model->states[i]));
    return UZ_OK;
}

int uz_universal_list_files(struct uz_universal_job *job, struct uz_error *err)
{
    struct trained trained = {0};
    struct chains chains = {0};
    UZ_TRY(check_states(job, err));
    int rc = find_trained(job, &trained, err);
    if (rc == UZ_OK)
        rc = chain_states(&job->source.model, &chains, err);
    if (rc == UZ_OK)
        rc = list_params(job, &trained, &chains, err);
    uz_map_free(trained.names);
    free(chains.first);
    free(chains.next);
    UZ_TRY(rc);
    if (job->options.dialect == UZ_UNIVERSAL_DEEPSPEED && job->source.info.stage < 3)
        return uz_universal_list_lone(job, err);
    return UZ_OK;
}

/* ---- What they hold ---- */

/* A tensor as it will be saved. */
struct saved_tensor {
    enum uz_dtype dtype;
    unsigned ndim;
    uint64_t shape[UZ_MAX_NDIM];
    uint64_t numel;
    bool flat; /* and by itself, without a dictionary */
};

static int describe(const struct uz_universal_job *job, const struct uz_universal_file *file,
                    struct saved_tensor *saved, struct uz_error *err)
{
    const struct uz_tensor *tensor = &job->source.model.tensors[file->tensor];
    uint64_t rows = tensor->ndim ? tensor->shape[0] : 0;
    saved->dtype = tensor->dtype;
    saved->ndim = tensor->ndim;
    saved->numel = tensor->numel;
    if (file->kind == UZ_UNIVERSAL_LONE)
        saved->dtype = UZ_DTYPE_F32;
    else
        UZ_TRY(uz_universal_kept(job, file->tensor, &rows, &saved->numel, err));
    memcpy(saved->shape, tensor->shape, tensor->ndim * sizeof *saved->shape);
    if (tensor->ndim > 0)
        saved->shape[0] = rows;
    saved->flat = file->kind == UZ_UNIVERSAL_TENSOR && uz_universal_is_flat(job, file->tensor);
    bool is_scalar = tensor->ndim == 0 && file->kind == UZ_UNIVERSAL_TENSOR &&
                     (tensor->role == UZ_ROLE_PARAM || tensor->role == UZ_ROLE_STATE);
    if (saved->flat || is_scalar) { /* DeepSpeed's loader cuts along the first dimension */
        saved->shape[0] = saved->numel;
        saved->ndim = 1;
    }
    return UZ_OK;
}

/* The value of a file with one tensor, which has storage "0". */
static int make_value(const struct uz_universal_job *job, struct uz_maker *maker,
                      const struct uz_universal_file *file, const struct saved_tensor *saved,
                      const struct uz_node **value, struct uz_error *err)
{
    const struct uz_node *storage = uz_make_storage(maker, saved->dtype, 0, saved->numel);
    if (!storage)
        return uz_fail(err, UZ_UNSUPPORTED,
                       "PyTorch has no storage class for elements of type %s, which %s has",
                       uz_dtype_name(saved->dtype), job->source.model.tensors[file->tensor].name);
    *value = uz_make_tensor(maker, storage, 0, saved->ndim, saved->shape);
    if (saved->flat)
        return UZ_OK;
    if (file->kind == UZ_UNIVERSAL_TENSOR)
        return uz_universal_param_dict(job, maker, file->tensor, *value, value, err);
    struct uz_node *dict = uz_make_dict(maker);
    uz_make_set(maker, dict, "param", *value);
    *value = dict;
    return UZ_OK;
}

/* A file with a value that has one storage, or none. */
static int save_value(const struct uz_universal_job *job, const char *name,
                      const struct uz_node *value, const struct uz_saved_storage *storage,
                      struct uz_out *out, struct uz_error *err)
{
    const struct uz_node_write_options options = {.limits = &job->source.limits};
    struct uz_bytes pickle = {0};
    const struct uz_saved saved = {&pickle, storage, storage != NULL};
    int rc = uz_pickle_write_node(&pickle, value, &options, err);
    if (rc == UZ_OK)
        rc = uz_out_add_saved(out, name, &saved, err);
    uz_bytes_free(&pickle);
    return rc;
}

static int add_tensor(const struct uz_universal_job *job, const struct uz_universal_file *file,
                      struct uz_maker *maker, struct uz_out *out, struct uz_error *err)
{
    struct saved_tensor tensor;
    const struct uz_node *value;
    UZ_TRY(describe(job, file, &tensor, err));
    UZ_TRY(make_value(job, maker, file, &tensor, &value, err));
    UZ_TRY(uz_maker_check(maker, err));
    struct uz_saved_storage storage = {
        .key = "0",
        .target = {.tensor = file->tensor, .dtype = tensor.dtype, .n_elems = tensor.numel},
    };
    if (file->values) {
        storage.target.n_elems = 0;
        storage.bytes = file->values;
        storage.nbytes = (size_t)tensor.numel * sizeof(float);
    }
    return save_value(job, file->name, value, &storage, out, err);
}

static int add_step(const struct uz_universal_job *job, const struct uz_universal_file *file,
                    struct uz_maker *maker, struct uz_out *out, struct uz_error *err)
{
    const struct uz_scalar *step = uz_universal_step_of(&job->source, file->tensor);
    const struct uz_saved_storage storage = {
        .key = "0", .bytes = step->bytes, .nbytes = uz_dtype_size(step->dtype)};
    const bool is_tensor = step->kind == UZ_NODE_OBJECT;
    const struct uz_node *persid = is_tensor ? uz_make_storage(maker, step->dtype, 0, 1) : NULL;
    if (is_tensor && !persid)
        return uz_fail(err, UZ_UNSUPPORTED, "%s: PyTorch has no storage class for its type",
                       file->name);
    const struct uz_node *value = uz_scalar_make(maker, step, persid);
    UZ_TRY(uz_maker_check(maker, err));
    return save_value(job, file->name, value, is_tensor ? &storage : NULL, out, err);
}

int uz_universal_lay_out(const struct uz_universal_job *job, size_t first, size_t end,
                         struct uz_out *out, struct uz_error *err)
{
    int rc = UZ_OK;
    for (size_t i = first; i < end && rc == UZ_OK; i++) {
        const struct uz_universal_file *file = &job->files[i];
        struct uz_maker maker;
        UZ_TRY(uz_maker_init(&maker, &job->source.limits, err));
        rc = file->kind == UZ_UNIVERSAL_STEP ? add_step(job, file, &maker, out, err)
                                             : add_tensor(job, file, &maker, out, err);
        uz_maker_free(&maker);
    }
    return rc;
}
