/* SPDX-License-Identifier: Apache-2.0 */
/* An inspection: every file by itself first, then as a whole. */
#include <unzero/inspect.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/parallel.h"
#include "check/inspection.h"

/* Files that are counted side by side. */
struct scan {
    struct uz_inspection *in;
    char **paths;
    enum uz_census_role *roles;
    struct uz_error *faults; /* of each file: UZ_OK if there is none */
    size_t n, cap_paths, cap_roles;
};

int uz_inspect_keep(struct uz_inspection *in, const char *text, const char **kept,
                    struct uz_error *err)
{
    return uz_arena_strndup(in->arena, text, strlen(text), kept, err);
}

int uz_inspect_fault(struct uz_inspection *in, const char *file, const struct uz_error *why,
                     struct uz_error *err)
{
    struct uz_file_fault *fault;
    UZ_TRY(UZ_APPEND(in->faults, in->n_faults, in->cap_faults, &fault, err));
    UZ_TRY(uz_inspect_keep(in, file, &fault->file, err));
    return uz_inspect_keep(in, why->message, &fault->message, err);
}

/* ---- Every file ---- */

static int scan_add(struct scan *scan, const char *path, enum uz_census_role role,
                    struct uz_error *err)
{
    UZ_TRY(uz_reserve(&scan->paths, &scan->cap_paths, (uint64_t)scan->n + 1, sizeof *scan->paths,
                      err));
    UZ_TRY(uz_reserve(&scan->roles, &scan->cap_roles, (uint64_t)scan->n + 1, sizeof *scan->roles,
                      err));
    scan->paths[scan->n] = strdup(path);
    if (!scan->paths[scan->n])
        return uz_fail_nomem(err, strlen(path));
    scan->roles[scan->n++] = role;
    return UZ_OK;
}

/* One that cannot be read is no failure of the scan. */
static int scan_file(void *cookie, uint64_t job, unsigned worker, struct uz_error *err)
{
    struct scan *scan = cookie;
    struct uz_torch_file *file;
    (void)worker;
    int rc = uz_torch_open(&file, scan->paths[job], &scan->in->options.limits, &scan->faults[job]);
    if (rc < 0)
        return rc == UZ_NOMEM ? uz_fail_nomem(err, 0) : UZ_OK;
    rc = uz_census_add(&scan->in->census, file, scan->roles[job], &scan->faults[job], err);
    uz_torch_close(file);
    return rc;
}

static int scan_run(struct scan *scan, struct uz_error *err)
{
    struct uz_inspection *in = scan->in;
    if (scan->n == 0)
        return UZ_OK;
    UZ_TRY(uz_alloc(&scan->faults, scan->n, sizeof *scan->faults, err));
    UZ_TRY(uz_parallel(in->options.threads, scan->n, scan_file, NULL, scan, err));
    for (size_t i = 0; i < scan->n; i++) {
        struct stat st;
        if (stat(scan->paths[i], &st) == 0)
            in->summary.file_nbytes += (uint64_t)st.st_size;
        if (scan->faults[i].status != UZ_OK)
            UZ_TRY(uz_inspect_fault(in, scan->paths[i], &scan->faults[i], err));
    }
    in->summary.n_files += scan->n;
    return UZ_OK;
}

static void scan_free(struct scan *scan)
{
    for (size_t i = 0; i < scan->n; i++)
        free(scan->paths[i]);
    free(scan->paths);
    free(scan->roles);
    free(scan->faults);
}

static int scan_shards(struct uz_inspection *in, struct uz_error *err)
{
    static const enum uz_census_role roles[UZ_SHARD_KINDS] = {
        [UZ_SHARD_MODEL] = UZ_CENSUS_MODEL, [UZ_SHARD_MODEL_Z3] = UZ_CENSUS_MODEL,
        [UZ_SHARD_OPTIM] = UZ_CENSUS_OPTIM, [UZ_SHARD_LAYER] = UZ_CENSUS_LP,
        [UZ_SHARD_EXPERT] = UZ_CENSUS_LP,   [UZ_SHARD_EXPERT_OPTIM] = UZ_CENSUS_OPTIM,
    };
    struct scan scan = {.in = in};
    int rc = UZ_OK;
    for (size_t i = 0; rc == UZ_OK && i < in->topology.n_shards; i++) {
        const struct uz_shard_file *shard = &in->topology.shards[i];
        char *path = uz_shard_path(&in->topology, shard);
        rc = path ? scan_add(&scan, path, roles[shard->kind], err) : uz_fail_nomem(err, 0);
        free(path);
    }
    if (rc == UZ_OK)
        rc = scan_run(&scan, err);
    scan_free(&scan);
    return rc;
}

/* ---- What files tell of the whole ---- */

typedef int (*use_file_fn)(struct uz_inspection *in, struct uz_torch_file *file,
                           struct uz_error *err);

/* Opens the first shard of a kind that can be, and uses it. */
static int with_first(struct uz_inspection *in, enum uz_shard_kind kind, use_file_fn use,
                      struct uz_error *err)
{
    size_t n;
    const struct uz_shard_file *shards = uz_topology_shards(&in->topology, kind, &n);
    for (size_t i = 0; i < n; i++) {
        struct uz_torch_file *file;
        char *path = uz_shard_path(&in->topology, &shards[i]);
        if (!path)
            return uz_fail_nomem(err, 0);
        int rc = uz_torch_open(&file, path, &in->options.limits, NULL);
        free(path);
        if (rc < 0)
            continue;
        rc = use(in, file, err);
        uz_torch_close(file);
        return rc;
    }
    return UZ_OK;
}

/* Degrees as far as names of files tell. */
static void count_ranks(struct uz_inspection *in)
{
    struct uz_inspect_summary *s = &in->summary;
    uint64_t dp = 0, mp = 0;
    for (size_t i = 0; i < in->topology.n_shards; i++) {
        const struct uz_shard_file *shard = &in->topology.shards[i];
        bool by_dp = shard->kind == UZ_SHARD_OPTIM || shard->kind == UZ_SHARD_MODEL_Z3;
        if (by_dp && shard->dp >= dp)
            dp = (uint64_t)shard->dp + 1;
        if ((by_dp || shard->kind == UZ_SHARD_MODEL) && shard->mp >= mp)
            mp = (uint64_t)shard->mp + 1;
    }
    s->dp = s->dp ? s->dp : dp;
    if (s->tp == 0 && s->pp > 0 && mp % s->pp == 0)
        s->tp = mp / s->pp;
    if (s->pp == 0 && s->tp > 0 && mp % s->tp == 0)
        s->pp = mp / s->tp;
    s->ep = s->ep ? s->ep : 1;
}

/* What cannot be joined is listed file by file: of ranks that hold the same, the first. */
static int list_shards(struct uz_inspection *in, struct uz_error *err)
{
    for (size_t i = 0; i < in->topology.n_shards; i++) {
        const struct uz_shard_file *shard = &in->topology.shards[i];
        struct uz_torch_file *file;
        if (shard->kind == UZ_SHARD_OPTIM || shard->kind == UZ_SHARD_EXPERT_OPTIM ||
            (shard->kind == UZ_SHARD_MODEL_Z3 && shard->dp > 0))
            continue;
        char *path = uz_shard_path(&in->topology, shard);
        if (!path)
            return uz_fail_nomem(err, 0);
        int rc = uz_torch_open(&file, path, &in->options.limits, NULL);
        free(path);
        if (rc < 0)
            continue; /* is among the faults */
        rc = uz_inspect_list_file(in, file, shard->name, err);
        uz_torch_close(file);
        UZ_TRY(rc);
    }
    return UZ_OK;
}

/* Padding: elements of masters and of the states that are cut as they are, beyond parameters. */
static void measure_padding(struct uz_inspection *in)
{
    uint64_t n_params = 0;
    for (size_t i = 0; i < in->model.n_tensors; i++)
        if (in->model.tensors[i].role == UZ_ROLE_PARAM)
            n_params += in->model.tensors[i].numel;
    const struct uz_stored *contents = in->census.contents;
    in->summary.has_padding = true;
    for (size_t i = 0; i < in->census.n_contents; i++) {
        bool cut = contents[i].kind == UZ_STORED_MASTERS || contents[i].kind == UZ_STORED_STATE;
        if (cut && contents[i].n_elems > n_params)
            in->summary.padding_nbytes +=
                (contents[i].n_elems - n_params) * uz_dtype_size(contents[i].dtype);
    }
}

/* Reads everything as the other commands would, and remembers what they would say. */
static int read_whole(struct uz_inspection *in, const char *path, struct uz_error *err)
{
    struct uz_error why;
    uz_error_clear(&why);
    int rc = uz_input_open(path, &in->options, NULL, &in->model, &in->info, &in->notes, &why);
    if (rc == UZ_NOMEM)
        return uz_fail_nomem(err, 0);
    in->has_model = rc == UZ_OK;
    in->summary.joined = in->has_model;
    if (in->has_model)
        return uz_inspect_list_model(in, err);
    char text[sizeof why.file + sizeof why.message + 64];
    in->summary.refusal_status = rc;
    return uz_inspect_keep(in, uz_error_format(&why, text, sizeof text), &in->summary.refusal, err);
}

static int inspect_zero(struct uz_inspection *in, const char *path, struct uz_error *err)
{
    struct uz_topology_request request = {
        .path = path,
        .tag = in->options.tag,
        .input_dirs = in->options.input_dirs,
        .n_input_dirs = in->options.n_input_dirs,
        .max_shards = in->options.limits.max_shards,
    };
    UZ_TRY(uz_topology_open(&in->topology, &request, err));
    in->summary.tag = in->topology.tag;
    UZ_TRY(scan_shards(in, err));
    UZ_TRY(with_first(in, UZ_SHARD_MODEL, uz_inspect_model_states, err));
    if (!in->summary.ds_version)
        UZ_TRY(with_first(in, UZ_SHARD_MODEL_Z3, uz_inspect_model_states, err));
    UZ_TRY(with_first(in, UZ_SHARD_OPTIM, uz_inspect_optimizer, err));
    UZ_TRY(read_whole(in, path, err));
    if (!in->has_model)
        UZ_TRY(list_shards(in, err));
    count_ranks(in);
    if (in->has_model && in->options.source == UZ_SOURCE_MASTERS)
        measure_padding(in);
    return UZ_OK;
}

/* ---- Other files ---- */

/* Safetensors files have no pickles: what they hold is what the model says. */
static int count_model(struct uz_inspection *in, struct uz_error *err)
{
    for (size_t i = 0; i < in->model.n_tensors; i++) {
        const struct uz_tensor *tensor = &in->model.tensors[i];
        struct uz_stored content = {
            .kind = UZ_STORED_WEIGHTS,
            .dtype = tensor->dtype,
            .n_tensors = 1,
            .n_elems = tensor->numel,
            .nbytes = tensor->numel * uz_dtype_size(tensor->dtype),
        };
        UZ_TRY(uz_census_add_content(&in->census, &content, err));
    }
    for (size_t i = 0; i < in->model.n_files; i++) {
        struct stat st;
        if (stat(in->model.files[i], &st) == 0)
            in->summary.file_nbytes += (uint64_t)st.st_size;
    }
    in->summary.n_files = in->model.n_files;
    return UZ_OK;
}

/* Nothing could be read: that is no result, but a failure. */
static int fail_as_refused(const struct uz_inspection *in, struct uz_error *err)
{
    uz_fill_error(err, in->summary.refusal_status, NULL, UZ_NO_OFFSET, "%s", in->summary.refusal);
    return in->summary.refusal_status;
}

/* Files of a folder are those its model was made of; a torch file may hold no weights at all. */
static int inspect_weights(struct uz_inspection *in, const char *path, struct uz_error *err)
{
    struct uz_located located;
    struct scan scan = {.in = in};
    UZ_TRY(read_whole(in, path, err));
    int rc = uz_input_locate(&located, path, in->options.tag, err);
    bool is_torch = located.kind == UZ_INPUT_TORCH || located.is_torch;
    if (rc == UZ_OK && !is_torch)
        rc = count_model(in, err);
    else if (rc == UZ_OK && located.kind == UZ_INPUT_TORCH)
        rc = scan_add(&scan, path, UZ_CENSUS_WEIGHTS, err);
    else
        for (size_t i = 0; rc == UZ_OK && i < in->model.n_files; i++)
            rc = scan_add(&scan, in->model.files[i], UZ_CENSUS_WEIGHTS, err);
    if (rc == UZ_OK)
        rc = scan_run(&scan, err);
    if (rc == UZ_OK && !in->has_model && in->n_faults == in->summary.n_files)
        rc = fail_as_refused(in, err);
    scan_free(&scan);
    uz_located_free(&located);
    return rc;
}

/* ---- The whole ---- */

static void summarize(struct uz_inspection *in)
{
    struct uz_inspect_summary *s = &in->summary;
    uz_census_sort(&in->census);
    s->groups = in->groups;
    s->n_groups = in->n_groups;
    s->contents = in->census.contents;
    s->n_contents = in->census.n_contents;
    s->dead_nbytes = in->census.dead_nbytes;
    s->client_keys = in->client_keys;
    s->n_client_keys = in->n_client_keys;
    s->classes = in->census.classes;
    s->n_classes = in->census.n_classes;
    s->tensors = in->tensors;
    s->n_tensors = in->n_tensors;
    s->faults = in->faults;
    s->n_faults = in->n_faults;
    s->warnings = (const char *const *)in->notes.items;
    s->n_warnings = in->notes.n;
}

static int inspect(struct uz_inspection *in, const char *path, struct uz_error *err)
{
    enum uz_input_kind kind;
    in->arena = uz_arena_new(UINT64_MAX);
    if (!in->arena)
        return uz_fail_nomem(err, 0);
    UZ_TRY(uz_census_init(&in->census, err));
    UZ_TRY(uz_input_kind(path, in->options.tag, &kind, err));
    in->summary.kind = kind;
    in->summary.zero_stage = -1;
    if (kind == UZ_INPUT_ZERO)
        UZ_TRY(inspect_zero(in, path, err));
    else if (kind == UZ_INPUT_UNIVERSAL)
        UZ_TRY(read_whole(in, path, err));
    else
        UZ_TRY(inspect_weights(in, path, err));
    summarize(in);
    return UZ_OK;
}

int uz_inspection_open(struct uz_inspection **out, const char *path,
                       const struct uz_input_options *options, struct uz_error *err)
{
    struct uz_inspection *in;
    uz_error_clear(err);
    UZ_TRY(uz_alloc(&in, 1, sizeof *in, err));
    in->options = *options;
    if (in->options.threads == 0)
        in->options.threads = uz_usable_processors();
    int rc = inspect(in, path, err);
    if (rc < 0) {
        uz_inspection_free(in);
        return rc;
    }
    *out = in;
    return UZ_OK;
}

const struct uz_inspect_summary *uz_inspection_summary(const struct uz_inspection *inspection)
{
    return &inspection->summary;
}

void uz_inspection_free(struct uz_inspection *in)
{
    if (!in)
        return;
    if (in->has_model)
        uz_model_free(&in->model);
    uz_input_info_free(&in->info);
    uz_notes_free(&in->notes);
    uz_topology_free(&in->topology);
    uz_census_free(&in->census);
    uz_arena_free(in->arena);
    free(in->groups);
    free(in->client_keys);
    free(in->tensors);
    free(in->faults);
    free(in);
}
