/* SPDX-License-Identifier: Apache-2.0 */
/* Finds one tensor in a checkpoint and reads elements of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "convert/got.h"

enum { N_NEAREST = 3, FD_SLOTS = 8 };

void uz_get_options_default(struct uz_get_options *options)
{
    *options = (struct uz_get_options){.scratch_dir = "/tmp"};
    uz_input_options_default(&options->input);
}

/* ---- Names ---- */

/* How alike two names are: letters that they share at both ends. */
static size_t likeness(const char *a, const char *b)
{
    size_t n_a = strlen(a), n_b = strlen(b), n = n_a < n_b ? n_a : n_b, head = 0, tail = 0;
    while (head < n && a[head] == b[head])
        head++;
    while (tail < n - head && a[n_a - 1 - tail] == b[n_b - 1 - tail])
        tail++;
    return head + tail;
}

struct nearest {
    const char *names[N_NEAREST];
    size_t scores[N_NEAREST];
};

static void consider(struct nearest *nearest, const char *wanted, const char *name)
{
    size_t score = likeness(wanted, name);
    for (unsigned i = 0; i < N_NEAREST; i++) {
        if (nearest->names[i] && nearest->scores[i] >= score)
            continue;
        memmove(&nearest->names[i + 1], &nearest->names[i],
                (N_NEAREST - 1 - i) * sizeof *nearest->names);
        memmove(&nearest->scores[i + 1], &nearest->scores[i],
                (N_NEAREST - 1 - i) * sizeof *nearest->scores);
        nearest->names[i] = name;
        nearest->scores[i] = score;
        return;
    }
}

static int fail_absent(const struct uz_model *model, const char *wanted, struct uz_error *err)
{
    struct nearest nearest = {{NULL}, {0}};
    char text[768] = "";
    size_t n_names = model->n_aliases;
    for (size_t i = 0; i < model->n_aliases; i++)
        consider(&nearest, wanted, model->aliases[i].name);
    for (size_t i = 0; i < model->n_tensors; i++) {
        if (model->tensors[i].role == UZ_ROLE_STATE)
            continue;
        consider(&nearest, wanted, model->tensors[i].name);
        n_names++;
    }
    for (unsigned i = 0; i < N_NEAREST && nearest.names[i]; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%.240s", i ? ", " : "",
                 nearest.names[i]);
    return uz_fail(err, UZ_ARG,
                   "there is no tensor '%s' among the %zu of the checkpoint; nearest: %s", wanted,
                   n_names, text);
}

static bool find_name(const struct uz_model *model, const char *name, uint32_t *tensor)
{
    if (uz_model_find(model, name, strlen(name), tensor))
        return true;
    for (size_t i = 0; i < model->n_aliases; i++)
        if (!strcmp(model->aliases[i].name, name)) {
            *tensor = model->aliases[i].tensor;
            return true;
        }
    return false;
}

/* The tensor that is the state of a parameter. */
static int find_state(const struct uz_model *model, const char *state, uint32_t *tensor,
                      struct uz_error *err)
{
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        const struct uz_tensor *t = &model->tensors[i];
        if (t->role == UZ_ROLE_STATE && t->param == *tensor &&
            !strcmp(model->states[t->state], state)) {
            *tensor = i;
            return UZ_OK;
        }
    }
    return uz_fail(
        err, UZ_ARG, "%s has no optimizer state %s%s", model->tensors[*tensor].name, state,
        model->tensors[*tensor].role == UZ_ROLE_PARAM ? ""
                                                      : ": it is not trained by the optimizer");
}

static int find(struct uz_got *got, const char *name, const char *state, struct uz_error *err)
{
    if (!find_name(&got->model, name, &got->tensor))
        return fail_absent(&got->model, name, err);
    return state ? find_state(&got->model, state, &got->tensor, err) : UZ_OK;
}

/* ---- What is given ---- */

static int describe(struct uz_got *got, const char *name, const struct uz_get_options *options,
                    struct uz_error *err)
{
    const struct uz_tensor *tensor = &got->model.tensors[got->tensor];
    enum uz_dtype dtype = options->dtype ? options->dtype : tensor->dtype;
    if (dtype != tensor->dtype &&
        !(uz_dtype_is_castable(dtype) && uz_dtype_is_castable(tensor->dtype)))
        return uz_fail(err, UZ_ARG, "%s is stored as %s, which is not converted to %s", name,
                       uz_dtype_name(tensor->dtype), uz_dtype_name(dtype));
    UZ_TRY(uz_slice_parse(&got->slice, options->slice, tensor->ndim, tensor->shape, err));
    UZ_TRY(uz_arena_strndup(got->model.arena, name, strlen(name), &got->info.name, err));
    got->info.stored_name = tensor->name;
    got->info.role = uz_role_name(tensor->role);
    got->info.state = tensor->role == UZ_ROLE_STATE ? got->model.states[tensor->state] : NULL;
    got->info.stored = tensor->dtype;
    got->info.dtype = dtype;
    got->info.ndim = got->slice.out_ndim;
    got->info.shape = got->slice.out_shape;
    got->info.numel = got->slice.numel;
    got->info.warnings = (const char *const *)got->notes.items;
    got->info.n_warnings = got->notes.n;
    return UZ_OK;
}

/* Storages of other tensors need not be unpacked. */
static void drop_other_places(struct uz_model *model, uint32_t tensor)
{
    const struct uz_tensor *t = &model->tensors[tensor];
    for (size_t i = 0; i < model->n_places; i++) {
        bool wanted = false;
        for (uint64_t k = 0; k < t->n_pieces && !wanted; k++)
            wanted = model->pieces[t->first_piece + k].storage == i;
        if (!wanted)
            model->places[i].packing = UZ_PACKED_STORED;
    }
}

static int open_got(struct uz_got *got, const char *checkpoint, const char *name,
                    const struct uz_get_options *options, struct uz_error *err)
{
    struct uz_zero_options zero = {.input = options->input, .state = options->state};
    got->threads = options->input.threads ? options->input.threads : uz_usable_processors();
    zero.input.threads = got->threads;
    got->notes.strict = options->input.strict;
    UZ_TRY(uz_zero_read(checkpoint, &zero, &got->model, &got->zero, &got->notes, err));
    UZ_TRY(find(got, name, options->state, err));
    UZ_TRY(describe(got, name, options, err));
    UZ_TRY(uz_check_pieces(&got->model, err));
    drop_other_places(&got->model, got->tensor);
    UZ_TRY(uz_spool_open(&got->spool, &got->model, options->scratch_dir, got->threads,
                         &options->input.limits, err));
    return uz_fetch_init(&got->fetch, &got->model, UZ_GOT_BLOCK_NBYTES, FD_SLOTS, err);
}

int uz_get(struct uz_got **out, const char *checkpoint, const char *name,
           const struct uz_get_options *options, struct uz_error *err)
{
    struct uz_got *got;
    uz_error_clear(err);
    UZ_TRY(uz_alloc(&got, 1, sizeof *got, err));
    int rc = open_got(got, checkpoint, name, options, err);
    if (rc < 0) {
        uz_got_free(got);
        return rc;
    }
    *out = got;
    return UZ_OK;
}

const struct uz_got_info *uz_got_info(const struct uz_got *got)
{
    return &got->info;
}

void uz_got_free(struct uz_got *got)
{
    if (!got)
        return;
    uz_fetch_free(&got->fetch);
    uz_spool_close(got->spool);
    uz_model_free(&got->model);
    uz_zero_info_free(&got->zero);
    uz_notes_free(&got->notes);
    free(got);
}

/* ---- Elements ---- */

/* Elements `step` apart: the bytes between are read, too, as far as a block holds them. */
static int read_steps(const struct uz_got *got, struct uz_fetch *fetch,
                      const struct uz_slice_run *run, unsigned char *out, unsigned char *block,
                      struct uz_error *err)
{
    size_t size = uz_dtype_size(got->info.dtype);
    uint64_t at_once = UZ_GOT_BLOCK_NBYTES / size / run->step;
    at_once = at_once ? at_once : 1;
    for (uint64_t done = 0, n; done < run->n_elems; done += n) {
        n = run->n_elems - done < at_once ? run->n_elems - done : at_once;
        UZ_TRY(uz_fetch_elems(fetch, got->tensor, run->first + done * run->step,
                              (n - 1) * run->step + 1, got->info.dtype, block, err));
        for (uint64_t i = 0; i < n; i++)
            memcpy(out + (done + i) * size, block + i * run->step * size, size);
    }
    return UZ_OK;
}

static int read_runs(const struct uz_got *got, struct uz_fetch *fetch, uint64_t first,
                     uint64_t n_elems, unsigned char *out, unsigned char *block,
                     struct uz_error *err)
{
    size_t size = uz_dtype_size(got->info.dtype);
    while (n_elems > 0) {
        struct uz_slice_run run = uz_slice_run_at(&got->slice, first);
        if (run.n_elems > n_elems)
            run.n_elems = n_elems;
        if (run.step == 1)
            UZ_TRY(uz_fetch_elems(fetch, got->tensor, run.first, run.n_elems, got->info.dtype, out,
                                  err));
        else
            UZ_TRY(read_steps(got, fetch, &run, out, block, err));
        out += run.n_elems * size;
        first += run.n_elems;
        n_elems -= run.n_elems;
    }
    return UZ_OK;
}

int uz_got_read_with(const struct uz_got *got, struct uz_fetch *fetch, uint64_t first,
                     uint64_t n_elems, void *out, struct uz_error *err)
{
    unsigned char *block = NULL;
    if (first > got->slice.numel || n_elems > got->slice.numel - first)
        return uz_fail(err, UZ_ARG, "elements %llu to %llu of %llu", (unsigned long long)first,
                       (unsigned long long)(first + n_elems), (unsigned long long)got->slice.numel);
    if (got->slice.run_step > 1)
        UZ_TRY(uz_alloc(&block, UZ_GOT_BLOCK_NBYTES, 1, err));
    int rc = read_runs(got, fetch, first, n_elems, out, block, err);
    free(block);
    return rc;
}

int uz_got_read(struct uz_got *got, uint64_t first, uint64_t n_elems, void *out,
                struct uz_error *err)
{
    return uz_got_read_with(got, &got->fetch, first, n_elems, out, err);
}
