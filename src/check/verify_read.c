/* SPDX-License-Identifier: Apache-2.0 */
/* Opens every file by itself and keeps a record of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/parallel.h"
#include "check/verify_run.h"
#include "check/verify_universal.h"
#include "check/verify_weights.h"
#include "torch/stream.h"
#include "torch/walk.h"
#include "zero/archive_root.h"

/* Findings about tensors of one file that are told one by one. */
enum { MAX_BAD_TENSORS = 8 };

/* One file while it is open. */
struct opened {
    struct uz_verify_run *run;
    struct uz_record *record;
    struct uz_torch_file *file;
    unsigned n_bad, n_unknown; /* tensors; n_unknown of them are of kinds that are not known */
};

/* ---- Opening ---- */

/* A file that cannot be opened: why, as exactly as can be told. */
static int tell_unopened(struct uz_verify_run *run, const struct uz_record *record,
                         const struct uz_error *why, struct uz_error *err)
{
    struct uz_where where = uz_record_where(record);
    struct stat st;
    if (stat(record->path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0)
        return uz_find(&run->findings, UZ_FIND_EMPTY_FILE, &where, err, "the file is empty");
    if (stat(record->path, &st) < 0 || !S_ISREG(st.st_mode))
        return uz_find(&run->findings, UZ_FIND_UNREADABLE_FILE, &where, err, "%s", why->message);
    if (why->status == UZ_FORMAT) /* a name promises a PyTorch file */
        return uz_find(&run->findings, UZ_FIND_DAMAGED_FILE, &where, err, "%s", why->message);
    return uz_find_failure(&run->findings, UZ_FIND_DAMAGED_FILE, &where, why, err);
}

/* ---- Tensors ---- */

/* Every tensor of a file must lie in its storage, and the storage in the file. */
static int check_tensor(void *cookie, const struct uz_node *tensor, const char *key,
                        struct uz_error *err)
{
    struct opened *o = cookie;
    struct uz_error why = {0};
    struct uz_view view;
    o->record->n_tensors++;
    int rc = uz_torch_tensor(o->file, tensor, key, &view, &why);
    if (rc == UZ_OK) {
        o->record->is_big_endian |= view.storage.big_endian;
        return UZ_OK;
    }
    o->n_unknown += rc == UZ_UNSUPPORTED;
    if (++o->n_bad > MAX_BAD_TENSORS)
        return UZ_OK;
    struct uz_where where = uz_record_where(o->record);
    where.tensor = key;
    return uz_find_failure(&o->run->findings, UZ_FIND_BAD_TENSOR, &where, &why, err);
}

/* ---- The name it was saved under ---- */

static int check_root(struct opened *o, struct uz_error *err)
{
    struct uz_notes notes = {0};
    struct uz_error why = {0};
    const char *root = uz_torch_archive_root(o->file);
    char shown[256];
    struct uz_where where = uz_record_where(o->record);
    if (!root)
        return UZ_OK;
    uz_printable(shown, sizeof shown, root, strlen(root));
    int rc = uz_archive_root_check(shown, o->record->path, &notes, &why);
    if (rc == UZ_MISMATCH)
        rc = uz_find(&o->run->findings, UZ_FIND_SWAPPED_SHARD, &where, err, "%s", why.message);
    else if (rc == UZ_OK && notes.n > 0)
        rc = uz_find(&o->run->findings, UZ_FIND_OTHER_NAME, &where, err,
                     "was saved under the name %s", shown);
    else if (rc < 0 && err)
        *err = why;
    uz_notes_free(&notes);
    return rc;
}

/* ---- What it holds ---- */

/* Whether the elements fill a run of the storage, in any order: enough for counting them. */
static bool is_dense(const struct uz_view *view)
{
    uint64_t last = 0;
    for (unsigned i = 0; i < view->ndim; i++)
        last += (view->shape[i] - 1) * view->stride[i]; /* proven to lie in the storage */
    return last + 1 == view->numel;
}

/* Keeps a tensor for the pass over the data; what is wrong with it is told by check_tensor. */
static int keep_whole(struct opened *o, const struct uz_node *node, enum uz_whole_kind kind,
                      const char *prefix, const char *name, size_t name_nbytes, uint64_t numel,
                      struct uz_error *err)
{
    struct uz_view view;
    struct uz_whole *whole;
    if (!uz_torch_is_tensor(node) || uz_torch_tensor(o->file, node, "a tensor", &view, NULL) < 0 ||
        view.numel == 0 || !(view.contiguous || (kind >= UZ_WHOLE_MASTER && is_dense(&view))))
        return UZ_OK;
    UZ_TRY(UZ_APPEND(o->record->wholes, o->record->n_wholes, o->record->cap_wholes, &whole, err));
    whole->kind = kind;
    whole->view = uz_flat_view_of(&view);
    whole->numel = numel > view.numel ? numel : view.numel;
    size_t n = strlen(prefix);
    UZ_TRY(uz_alloc(&whole->name, (uint64_t)n + name_nbytes + 1, 1, err));
    memcpy(whole->name, prefix, n);
    memcpy(whole->name + n, name, name_nbytes);
    return UZ_OK;
}

/* The tensors of a dictionary. */
static int keep_wholes(struct opened *o, const struct uz_node *node, const char *prefix,
                       struct uz_error *err)
{
    const struct uz_dict *dict = uz_node_dict(node);
    for (size_t i = 0; o->run->options->data && dict && i < dict->n; i++) {
        const struct uz_pair *pair = &dict->pairs[i];
        const struct uz_text *key = &pair->key->u.text;
        if (pair->key->kind == UZ_NODE_STR)
            UZ_TRY(keep_whole(o, pair->value, UZ_WHOLE_WEIGHT, prefix, key->data, key->nbytes, 0,
                              err));
    }
    return UZ_OK;
}

/* Frozen parameters stand beside the module once more; under ZeRO 3 in slices, each with padding.
 */
static int keep_frozen(struct opened *o, struct uz_error *err)
{
    const struct uz_node *root = uz_torch_root(o->file);
    const struct uz_dict *fragments = uz_node_dict(uz_node_get(root, "frozen_param_fragments"));
    const struct uz_dict *shapes = uz_node_dict(uz_node_get(root, "frozen_param_shapes"));
    bool sliced = o->record->shard.kind == UZ_SHARD_MODEL_Z3;
    for (size_t i = 0; o->run->options->data && fragments && i < fragments->n; i++) {
        const struct uz_pair *pair = &fragments->pairs[i];
        const struct uz_text *key = &pair->key->u.text;
        uint64_t shape[UZ_MAX_NDIM], numel = 0;
        unsigned ndim;
        if (pair->key->kind != UZ_NODE_STR)
            continue;
        if (sliced &&
            (!shapes || i >= shapes->n ||
             uz_torch_shape(o->file, shapes->pairs[i].value, "a shape", &ndim, shape, NULL) < 0 ||
             uz_shape_numel(ndim, shape, &numel, NULL) < 0))
            continue; /* the join tells */
        UZ_TRY(keep_whole(o, pair->value, UZ_WHOLE_FROZEN, "", key->data, key->nbytes, numel, err));
    }
    return UZ_OK;
}

static int keep_master(void *cookie, const struct uz_node *tensor, const char *key,
                       struct uz_error *err)
{
    return keep_whole(cookie, tensor, UZ_WHOLE_MASTER, "optimizer.", key, strlen(key), 0, err);
}

/* Stage 0 keeps masters and states in the model states. */
static int keep_masters(struct opened *o, struct uz_error *err)
{
    const struct uz_node *optimizer = uz_node_get(uz_torch_root(o->file), "optimizer");
    if (!o->run->options->data || !optimizer)
        return UZ_OK;
    return uz_torch_each_tensor_in(optimizer, keep_master, o, err);
}

static int read_model_states(struct opened *o, struct uz_error *err)
{
    struct uz_error why = {0};
    struct uz_where where = uz_record_where(o->record);
    if (uz_metadata_read(&o->record->metadata, o->file, &why) < 0)
        return uz_find_failure(&o->run->findings, UZ_FIND_DAMAGED_FILE, &where, &why, err);
    o->record->has_metadata = true;
    UZ_TRY(keep_wholes(o, uz_node_get(uz_torch_root(o->file), "module"), "", err));
    UZ_TRY(keep_frozen(o, err));
    return keep_masters(o, err);
}

/* The file of a pipeline layer holds local names. */
static int read_layer(struct opened *o, struct uz_error *err)
{
    char prefix[24];
    snprintf(prefix, sizeof prefix, "%u.", o->record->shard.layer);
    return keep_wholes(o, uz_torch_root(o->file), prefix, err);
}

static int read_optim(struct opened *o, struct uz_error *err)
{
    struct uz_record *record = o->record;
    const struct uz_mp_rank *mp = &o->run->mp_ranks[record->shard.mp];
    struct uz_where where = uz_record_where(record);
    struct uz_error why = {0};
    struct uz_optim_request request = {
        .params = &mp->params,
        .model = &mp->model,
        .state = "all",
        .limits = &o->run->options->input.limits,
    };
    if (!mp->is_known) /* why, the model states or the joins tell */
        return uz_node_get(uz_torch_root(o->file), "optimizer_state_dict")
                   ? UZ_OK
                   : uz_find(&o->run->findings, UZ_FIND_WRONG_CONTENT, &where, err,
                             "holds no 'optimizer_state_dict'; not a ZeRO optimizer shard");
    int rc = uz_optim_shard_read_open(&record->optim, o->file, record->shard.dp, &request, &why);
    if (rc == UZ_UNSUPPORTED && request.state) { /* states that are codes: the weights alone */
        uz_optim_shard_free(&record->optim);
        request.state = NULL;
        rc = uz_optim_shard_read_open(&record->optim, o->file, record->shard.dp, &request, &why);
    }
    record->has_optim = rc == UZ_OK;
    if (rc == UZ_UNSUPPORTED && o->n_unknown) /* a partition must be a tensor */
        return uz_find(&o->run->findings, UZ_FIND_BAD_TENSOR, &where, err, "%s", why.message);
    if (rc == UZ_UNSUPPORTED) { /* what that means, the other files tell */
        snprintf(record->refusal, sizeof record->refusal, "%.255s", why.message);
        return UZ_OK;
    }
    return rc == UZ_OK ? UZ_OK
                       : uz_find_failure(&o->run->findings, UZ_FIND_LINKAGE, &where, &why, err);
}

/* ---- Files of no rank ---- */

static int keep_any(void *cookie, const struct uz_node *tensor, const char *key,
                    struct uz_error *err)
{
    struct opened *o = cookie;
    const char *name = o->record->param ? o->record->param : key;
    return keep_whole(o, tensor, UZ_WHOLE_LOOSE, "", name, strlen(name), 0, err);
}

static int read_loose(struct opened *o, struct uz_error *err)
{
    struct uz_verify_run *run = o->run;
    struct uz_error why = {0};
    struct uz_where where = uz_record_where(o->record);
    int rc = UZ_OK;
    if (run->options->data)
        UZ_TRY(uz_torch_each_tensor(o->file, keep_any, o, err));
    if (o->n_bad > 0)
        return UZ_OK; /* was told */
    if (o->record->param)
        rc = uz_verify_read_state(o->record, o->file, &why);
    else if (run->kind != UZ_INPUT_UNIVERSAL)
        rc = uz_verify_read_weights(run, o->record, &why);
    if (rc == UZ_OK || (rc == UZ_FORMAT && run->kind == UZ_INPUT_TORCH)) /* may be of other use */
        return UZ_OK;
    return uz_find_failure(&run->findings, UZ_FIND_WRONG_CONTENT, &where, &why, err);
}

/* The elements of a safetensors file, for the pass over the data. */
static int keep_tensors(struct uz_record *record, struct uz_error *err)
{
    const struct uz_model *model = record->weights;
    for (size_t i = 0; i < model->n_pieces; i++) {
        const struct uz_tensor *tensor = &model->tensors[model->pieces[i].tensor];
        const struct uz_place *place = &model->places[model->pieces[i].storage];
        struct uz_whole *whole;
        UZ_TRY(UZ_APPEND(record->wholes, record->n_wholes, record->cap_wholes, &whole, err));
        whole->kind = UZ_WHOLE_LOOSE;
        whole->numel = tensor->numel;
        whole->view = (struct uz_flat_view){
            .storage = {.offset = place->offset, .nbytes = place->nbytes},
            .numel = tensor->numel,
            .dtype = tensor->dtype,
        };
        whole->name = strdup(tensor->name);
        if (!whole->name)
            return uz_fail_nomem(err, strlen(tensor->name));
    }
    return UZ_OK;
}

static int read_safetensors(struct uz_verify_run *run, struct uz_record *record,
                            struct uz_error *err)
{
    struct uz_error why = {0};
    if (uz_verify_read_weights(run, record, &why) < 0)
        return tell_unopened(run, record, &why, err);
    record->was_opened = true;
    record->n_tensors = record->weights->n_tensors;
    return run->options->data ? keep_tensors(record, err) : UZ_OK;
}

static int read_opened(struct opened *o, struct uz_error *err)
{
    o->record->was_opened = true;
    UZ_TRY(uz_torch_each_tensor(o->file, check_tensor, o, err));
    if (o->n_bad > MAX_BAD_TENSORS) {
        struct uz_where where = uz_record_where(o->record);
        UZ_TRY(uz_find(&o->run->findings, UZ_FIND_BAD_TENSOR, &where, err,
                       "%u more tensors are bad", o->n_bad - MAX_BAD_TENSORS));
    }
    if (o->record->is_loose)
        return read_loose(o, err);
    UZ_TRY(check_root(o, err));
    switch (o->record->shard.kind) {
    case UZ_SHARD_MODEL:
    case UZ_SHARD_MODEL_Z3:
        return read_model_states(o, err);
    case UZ_SHARD_OPTIM:
        return o->n_bad == o->n_unknown ? read_optim(o, err) : UZ_OK;
    case UZ_SHARD_LAYER:
        return read_layer(o, err);
    case UZ_SHARD_EXPERT:
        return keep_wholes(o, uz_torch_root(o->file), "", err);
    default:
        return UZ_OK;
    }
}

/*
 * A file that is compressed whole was read only as far as its value: goes through it, which proves
 * that it is all there. With --data its bytes are read later.
 */
static int prove_stream(const struct opened *o, struct uz_error *why)
{
    struct uz_stream *stream;
    bool found = uz_torch_is_packed(o->file) && !o->run->options->data;
    if (!found)
        return UZ_OK;
    UZ_TRY(uz_stream_open(&stream, o->record->path, UZ_PACKED_ZSTD, 0,
                          &o->run->options->input.limits, why));
    int rc = UZ_OK;
    while (rc == UZ_OK && found) {
        uint64_t entry, nbytes;
        rc = uz_stream_next(stream, &entry, &nbytes, &found, why);
    }
    uz_stream_close(stream);
    return rc;
}

static int read_job(void *cookie, uint64_t job, unsigned worker, struct uz_error *err)
{
    struct opened o = {.run = cookie, .file = NULL};
    struct uz_error why = {0};
    o.record = &o.run->records[job];
    (void)worker;
    if (o.run->is_safetensors)
        return read_safetensors(o.run, o.record, err);
    int rc = uz_torch_open(&o.file, o.record->path, &o.run->options->input.limits, &why);
    if (rc == UZ_OK)
        rc = prove_stream(&o, &why);
    if (rc < 0) {
        uz_torch_close(o.file);
        return tell_unopened(o.run, o.record, &why, err);
    }
    rc = read_opened(&o, err);
    uz_torch_close(o.file);
    return rc;
}

/* ---- What model-parallel ranks have in common ---- */

static bool has_experts(const struct uz_torch_file *file)
{
    const struct uz_node *root = uz_torch_root(file);
    return uz_node_list(uz_node_get(root, "ds_autoep_layers")) || uz_node_get(root, "num_experts");
}

/* False if the expert files are not what they should be, which the reader tells (uz_zero_read). */
static bool read_experts(const struct uz_verify_run *run, struct uz_mp_rank *mp, uint32_t number,
                         const struct uz_torch_file *file)
{
    const struct uz_limits *limits = &run->options->input.limits;
    struct uz_topology topology;
    struct uz_topology_request where = {.path = run->dir, .max_shards = limits->max_shards};
    struct uz_experts_request request = {
        .topology = &topology,
        .mp = number,
        .file = file,
        .model = &mp->model,
        .limits = limits,
        .partitioned = run->is_stage3,
        .flat_groups = !run->is_stage3,
    };
    bool read = uz_topology_open(&topology, &where, NULL) == UZ_OK &&
                uz_experts_read(&mp->experts, &request, NULL) == UZ_OK;
    uz_topology_free(&topology);
    return read;
}

static int read_params(const struct uz_verify_run *run, struct uz_mp_rank *mp, uint32_t number,
                       const struct uz_torch_file *file, struct uz_error *why)
{
    struct uz_params_source source = {
        .file = file,
        .param_shapes = uz_node_get(uz_torch_root(file), "param_shapes"),
        .experts = &mp->experts,
    };
    if (!source.param_shapes || uz_node_is_none(source.param_shapes))
        return UZ_OK; /* stage 0 */
    uz_node_u64(uz_node_get(uz_torch_root(file), "dp_world_size"), &source.world);
    if (has_experts(file) && !read_experts(run, mp, number, file))
        return UZ_OK;
    UZ_TRY(uz_params_read(&mp->params, &mp->model, &source, why));
    mp->is_known = true;
    return UZ_OK;
}

/*
 * The parameters that a model-states file lists; the file's other faults are told when all files
 * are read.
 */
static int read_mp_rank(struct uz_verify_run *run, const struct uz_record *record,
                        struct uz_error *err)
{
    struct uz_mp_rank *mp = &run->mp_ranks[record->shard.mp];
    struct uz_torch_file *file;
    struct uz_error why = {0};
    struct uz_where where = uz_record_where(record);
    if (uz_torch_open(&file, record->path, &run->options->input.limits, NULL) < 0)
        return UZ_OK;
    uz_params_free(&mp->params);
    uz_experts_free(&mp->experts);
    uz_model_free(&mp->model);
    int rc = uz_model_init(&mp->model, &run->options->input.limits, err);
    if (rc == UZ_OK && read_params(run, mp, record->shard.mp, file, &why) < 0)
        rc = uz_find_failure(&run->findings, UZ_FIND_LINKAGE, &where, &why, err);
    uz_torch_close(file);
    return rc;
}

static bool lists_params(const struct uz_record *record)
{
    return !record->is_loose &&
           (record->shard.kind == UZ_SHARD_MODEL || record->shard.kind == UZ_SHARD_MODEL_Z3);
}

static int read_mp_ranks(struct uz_verify_run *run, struct uz_error *err)
{
    for (size_t i = 0; i < run->n_records; i++) {
        run->is_stage3 |= run->records[i].shard.kind == UZ_SHARD_MODEL_Z3;
        if (run->records[i].shard.mp >= run->n_mp)
            run->n_mp = run->records[i].shard.mp + 1;
    }
    if (run->n_mp > run->options->input.limits.max_shards)
        return uz_fail_at(err, UZ_LIMIT, run->dir, UZ_NO_OFFSET, "a file is of rank %u",
                          run->n_mp - 1);
    UZ_TRY(uz_alloc(&run->mp_ranks, run->n_mp, sizeof *run->mp_ranks, err));
    for (size_t i = 0; i < run->n_records; i++) {
        const struct uz_record *record = &run->records[i];
        if (lists_params(record) && !run->mp_ranks[record->shard.mp].is_known)
            UZ_TRY(read_mp_rank(run, record, err));
    }
    return UZ_OK;
}

int uz_verify_read(struct uz_verify_run *run, struct uz_error *err)
{
    UZ_TRY(read_mp_ranks(run, err));
    return uz_parallel(run->threads, run->n_records, read_job, NULL, run, err);
}
