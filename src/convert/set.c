/* SPDX-License-Identifier: Apache-2.0 */
/* Plans and makes a checkpoint that differs from another in one tensor. */
#include <unzero/set.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/parallel.h"
#include "convert/find_tensor.h"
#include "convert/new_tree.h"
#include "convert/new_values.h"
#include "convert/patch.h"
#include "zero/read.h"

struct uz_setting {
    struct uz_set_options options;
    char *checkpoint, *out, *name;
    struct uz_model model; /* of the old checkpoint */
    struct uz_zero_info zero;
    bool *changed; /* of each of its files */
    struct uz_notes notes;
    struct uz_values values;
    uint32_t tensor;
    struct uz_set_summary summary;
};

void uz_set_options_default(struct uz_set_options *options)
{
    *options = (struct uz_set_options){0};
    uz_input_options_default(&options->input);
}

/* ---- The tensor ---- */

static int refuse(const struct uz_setting *job, const char *what, struct uz_error *err)
{
    return uz_fail(err, UZ_UNSUPPORTED, "%s cannot be set: %s", job->name, what);
}

/* What is kept in more places than the model knows of would contradict itself afterwards. */
static int check_tensor(const struct uz_setting *job, struct uz_error *err)
{
    const struct uz_tensor *tensor = &job->model.tensors[job->tensor];
    bool in_module = tensor->role == UZ_ROLE_BUFFER || tensor->role == UZ_ROLE_FROZEN;
    if (in_module && job->zero.buffers_hide_copies)
        return refuse(job,
                      "every rank keeps a copy of what is not trained, and copies of ZeRO-3 with "
                      "tensor parallelism, or in a universal checkpoint of several ranks, are not "
                      "looked for",
                      err);
    const char *obstacle = uz_patch_obstacle(&job->model, job->tensor);
    return obstacle ? refuse(job, obstacle, err) : UZ_OK;
}

static int mark_changed(struct uz_setting *job, struct uz_error *err)
{
    struct uz_patch_set set;
    UZ_TRY(uz_alloc(&job->changed, job->model.n_files, sizeof *job->changed, err));
    for (uint32_t k = 0; uz_patch_set_of(&job->model, job->tensor, k, &set); k++)
        for (uint64_t i = 0; i < set.n; i++) {
            const struct uz_place *place = &job->model.places[set.pieces[i].storage];
            if (place->packing == UZ_PACKED_DEFLATE)
                return uz_fail_at(err, UZ_UNSUPPORTED, job->model.files[place->file], UZ_NO_OFFSET,
                                  "has compressed zip entries, which cannot be changed in place");
            job->changed[place->file] = true;
            job->summary.n_fragments++;
        }
    for (size_t f = 0; f < job->model.n_files; f++)
        job->summary.n_files_changed += job->changed[f];
    return UZ_OK;
}

/* ---- Planning ---- */

static int copy_texts(struct uz_setting *job, const char *checkpoint, const char *name,
                      const char *out, struct uz_error *err)
{
    job->checkpoint = strdup(checkpoint);
    job->name = strdup(name);
    job->out = strdup(out);
    return job->checkpoint && job->name && job->out ? UZ_OK : uz_fail_nomem(err, strlen(out));
}

static int read_checkpoint(struct uz_setting *job, const char *path,
                           const struct uz_input_options *input, struct uz_model *model,
                           struct uz_zero_info *info, struct uz_error *err)
{
    struct uz_zero_options zero = {
        .input = *input, .state = job->options.state, .all_copies = true};
    if (!zero.input.threads)
        zero.input.threads = uz_usable_processors();
    return uz_zero_read(path, &zero, model, info, &job->notes, err);
}

/* True if folder `place` (without links) is the one that a file lies in, or inside it. */
static bool is_beside_or_below(const char *place, const char *path)
{
    char *file = realpath(path, NULL);
    size_t n = file ? (size_t)(uz_path_name(file) - file) : 0; /* the file's folder and its slash */
    bool below = n > 1 && !strncmp(file, place, n - 1) && (place[n - 1] == '/' || !place[n - 1]);
    free(file);
    return below;
}

/* A new checkpoint inside the old one's tag folder would have to hold itself. */
static int refuse_inside(const struct uz_setting *job, struct uz_error *err)
{
    char *parent = uz_tree_parent(job->out);
    char *place = parent ? realpath(parent, NULL) : NULL;
    bool inside = false;
    for (size_t i = 0; place && !inside && i < job->model.n_files; i++)
        inside = is_beside_or_below(place, job->model.files[i]);
    free(parent);
    free(place);
    if (inside)
        return uz_fail_at(err, UZ_ARG, job->out, UZ_NO_OFFSET,
                          "lies inside the tag folder of the old checkpoint; give another place");
    return UZ_OK;
}

static int plan(struct uz_setting *job, const char *values, struct uz_error *err)
{
    job->notes.strict = job->options.input.strict;
    UZ_TRY(uz_tree_check(job->out, err));
    UZ_TRY(
        read_checkpoint(job, job->checkpoint, &job->options.input, &job->model, &job->zero, err));
    UZ_TRY(refuse_inside(job, err));
    UZ_TRY(uz_find_tensor(&job->model, job->name, job->options.state, &job->tensor, err));
    UZ_TRY(check_tensor(job, err));
    const struct uz_tensor *tensor = &job->model.tensors[job->tensor];
    UZ_TRY(uz_values_open(&job->values, values, job->name, &job->options.input.limits, &job->notes,
                          err));
    UZ_TRY(uz_values_check(&job->values, values, job->name, tensor, &job->notes, err));
    UZ_TRY(mark_changed(job, err));
    job->summary.source = uz_zero_source(&job->zero);
    job->summary.stored_name = tensor->name;
    job->summary.n_elems = tensor->numel;
    job->summary.lp_updated = uz_patch_has_lp(&job->model, job->tensor);
    job->summary.warnings = (const char *const *)job->notes.items;
    job->summary.n_warnings = job->notes.n;
    return UZ_OK;
}

int uz_setting_plan(struct uz_setting **out_job, const char *checkpoint, const char *name,
                    const char *values, const char *out, const struct uz_set_options *options,
                    struct uz_error *err)
{
    struct uz_setting *job;
    uz_error_clear(err);
    UZ_TRY(uz_alloc(&job, 1, sizeof *job, err));
    job->options = *options;
    int rc = copy_texts(job, checkpoint, name, out, err);
    if (rc == UZ_OK)
        rc = plan(job, values, err);
    if (rc < 0) {
        uz_setting_free(job);
        return rc;
    }
    *out_job = job;
    return UZ_OK;
}

const struct uz_set_summary *uz_setting_summary(const struct uz_setting *job)
{
    return &job->summary;
}

/* ---- Running ---- */

static bool is_changed(const void *cookie, const char *path)
{
    const struct uz_setting *job = cookie;
    for (size_t i = 0; i < job->model.n_files; i++)
        if (job->changed[i] && !strcmp(job->model.files[i], path))
            return true;
    return false;
}

/* True if an earlier file of the model is in the same folder. */
static bool is_known_dir(const struct uz_model *model, size_t file, size_t n_dir)
{
    for (size_t i = 0; i < file; i++)
        if ((size_t)(uz_path_name(model->files[i]) - model->files[i]) == n_dir + 1 &&
            !strncmp(model->files[i], model->files[file], n_dir + 1))
            return true;
    return false;
}

/*
 * All folders that shards were read from, in the order of the model's files. A universal checkpoint
 * is one folder, that of the model states, which come first.
 */
static int add_dirs(const struct uz_setting *job, struct uz_new_tree *tree, struct uz_error *err)
{
    size_t n_files = job->zero.is_universal ? 1 : job->model.n_files;
    for (size_t i = 0; i < n_files; i++) {
        const char *path = job->model.files[i];
        size_t n_dir = (size_t)(uz_path_name(path) - path);
        if (n_dir == 0 || is_known_dir(&job->model, i, n_dir - 1))
            continue;
        char *dir = strndup(path, n_dir - 1);
        int rc = dir ? uz_new_tree_add(tree, dir, is_changed, job, err) : uz_fail_nomem(err, n_dir);
        free(dir);
        UZ_TRY(rc);
    }
    return UZ_OK;
}

/* The files beside the tag folder, if the root was given. */
static int add_root(const struct uz_setting *job, struct uz_new_tree *tree, struct uz_error *err)
{
    char *tagged = uz_path_join(job->checkpoint, job->zero.tag);
    if (!tagged)
        return uz_fail_nomem(err, strlen(job->checkpoint));
    bool is_root = access(tagged, F_OK) == 0;
    free(tagged);
    return is_root ? uz_new_tree_add_root(tree, job->checkpoint, err) : UZ_OK;
}

/* Changes the new checkpoint in place, as the reader sees it, and looks whether it is what it was
 * to be. */
static int change(struct uz_setting *job, const struct uz_new_tree *tree, struct uz_error *err)
{
    struct uz_input_options input = job->options.input;
    struct uz_model model;
    struct uz_zero_info info;
    uint32_t tensor;
    input.tag = NULL;
    input.input_dirs = NULL;
    input.n_input_dirs = 0;
    struct uz_notes told = job->notes; /* all warnings were given when the job was planned */
    job->notes = (struct uz_notes){0};
    int rc = read_checkpoint(job, tree->tree.staging, &input, &model, &info, err);
    uz_notes_free(&job->notes);
    job->notes = told;
    UZ_TRY(rc);
    rc = uz_find_tensor(&model, job->name, job->options.state, &tensor, err);
    if (rc == UZ_OK)
        rc = uz_patch_tensor(&model, tensor, &job->values, &job->summary.n_overflows, err);
    uz_model_free(&model);
    uz_zero_info_free(&info);
    return rc;
}

/* How far it is, in bytes of the files that change. */
struct listener {
    uz_progress_fn progress;
    void *cookie;
    uint64_t done, total;
};

static int on_copied(void *cookie, uint64_t nbytes)
{
    struct listener *listener = cookie;
    listener->done += nbytes;
    if (listener->total < listener->done)
        listener->total = listener->done; /* others had to be copied, too */
    return listener->progress(listener->cookie, listener->done, listener->total);
}

/* Bytes of the shards, or (changed) of those that change. */
static uint64_t shards_nbytes(const struct uz_setting *job, bool changed)
{
    uint64_t sum = 0;
    struct stat st;
    for (size_t i = 0; i < job->model.n_files; i++)
        if ((!changed || job->changed[i]) && stat(job->model.files[i], &st) == 0)
            sum += (uint64_t)st.st_size;
    return sum;
}

/* Values that a stored dtype cannot hold are a change the user must hear of. */
static int warn_of_overflows(struct uz_setting *job, struct uz_error *err)
{
    if (job->summary.n_overflows == 0)
        return UZ_OK;
    int rc = uz_warn_of_data(
        &job->notes, err,
        "%llu values are too large for a dtype they are stored in and became infinite",
        (unsigned long long)job->summary.n_overflows);
    job->summary.warnings = (const char *const *)job->notes.items;
    job->summary.n_warnings = job->notes.n;
    return rc;
}

int uz_setting_run(struct uz_setting *job, uz_progress_fn progress, void *cookie,
                   struct uz_error *err)
{
    struct uz_new_tree tree;
    struct listener listener = {progress, cookie, 0, shards_nbytes(job, true)};
    uz_error_clear(err);
    int rc = uz_new_tree_open(&tree, job->out, job->zero.tag, job->zero.is_universal, err);
    tree.tick = progress ? on_copied : NULL;
    tree.tick_cookie = &listener;
    tree.changed_nbytes = listener.total;
    tree.all_nbytes = shards_nbytes(job, false);
    if (rc == UZ_OK)
        rc = add_dirs(job, &tree, err);
    if (rc == UZ_OK)
        rc = add_root(job, &tree, err);
    if (rc == UZ_OK)
        rc = change(job, &tree, err);
    if (rc == UZ_OK)
        rc = warn_of_overflows(job, err);
    if (rc == UZ_OK && progress && progress(cookie, listener.total, listener.total))
        rc = uz_fail(err, UZ_CANCELLED, "cancelled");
    if (rc == UZ_OK)
        rc = uz_new_tree_commit(&tree, err);
    job->summary.n_files_shared = tree.n_reflinked + tree.n_linked;
    job->summary.n_files_linked = tree.n_linked;
    job->summary.n_files_copied = tree.n_copied;
    uz_new_tree_close(&tree);
    return rc;
}

void uz_setting_free(struct uz_setting *job)
{
    if (!job)
        return;
    uz_values_free(&job->values);
    uz_model_free(&job->model);
    uz_zero_info_free(&job->zero);
    uz_notes_free(&job->notes);
    free(job->changed);
    free(job->checkpoint);
    free(job->name);
    free(job->out);
    free(job);
}
