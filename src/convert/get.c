/* SPDX-License-Identifier: Apache-2.0 */
/* Finds one tensor in a checkpoint and reads elements of it. */
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "check/replicas.h"
#include "convert/find_tensor.h"
#include "convert/got.h"

enum { FD_SLOTS = 8 };

void uz_get_options_default(struct uz_get_options *options)
{
    *options = (struct uz_get_options){.scratch_dir = "/tmp"};
    uz_input_options_default(&options->input);
}

int uz_get_slice_check(const char *slice, struct uz_error *err)
{
    return uz_slice_check(slice, err);
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
    got->info.source = uz_zero_source(&got->source.zero);
    got->info.warnings = (const char *const *)got->notes.items;
    got->info.n_warnings = got->notes.n;
    return UZ_OK;
}

static int open_got(struct uz_got *got, const char *checkpoint, const char *name,
                    const struct uz_get_options *options, struct uz_error *err)
{
    struct uz_input_options input = options->input;
    got->threads = input.threads ? input.threads : uz_usable_processors();
    input.threads = got->threads;
    got->notes.strict = input.strict;
    UZ_TRY(uz_input_open(checkpoint, &input, options->state, &got->model, &got->source, &got->notes,
                         err));
    UZ_TRY(uz_find_tensor(&got->model, name, options->state, &got->tensor, err));
    UZ_TRY(describe(got, name, options, err));
    UZ_TRY(uz_check_pieces(&got->model, err));
    UZ_TRY(uz_spool_open_tensor(&got->spool, &got->model, got->tensor, options->scratch_dir,
                                got->threads, &options->input.limits, err));
    UZ_TRY(uz_check_replicas_of(&got->model, got->tensor, got->threads, UZ_GOT_BLOCK_NBYTES, err));
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
    uz_input_info_free(&got->source);
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
