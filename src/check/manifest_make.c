/* SPDX-License-Identifier: Apache-2.0 */
/* Goes through files and tensors. */
#include "check/manifest_make.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/parallel.h"
#include "engine/convert.h"
#include "engine/fetch.h"
#include "kernels/bswap.h"

enum { CHUNK_ELEMS = 256 << 10, MAX_ELEM = 8, FETCH_NBYTES = 1 << 20 };

static const enum uz_dtype castable[] = {UZ_DTYPE_F32, UZ_DTYPE_BF16, UZ_DTYPE_F16};

/* What one thread needs. */
struct worker {
    struct uz_fetch fetch;
    struct uz_digest *digests[UZ_MANIFEST_DTYPES];
    unsigned char *elems, *cast;
};

/* A file (index of the manifest's files) or a tensor; the largest come first. */
struct job {
    bool is_file;
    size_t index;
    uint32_t tensor; /* of the model */
    uint64_t nbytes;
};

struct maker {
    struct uz_manifest *m;
    struct uz_verify_run *run;
    const struct uz_model *model;
    const char **paths; /* of the manifest's files */
    size_t cap_paths;
    const struct uz_cast_ops *ops;
    struct worker *workers;
    struct job *jobs;
    size_t n_jobs, cap_jobs;
    uint64_t n_done, nbytes; /* bytes */
};

/* ---- The lists ---- */

static int add_job(struct maker *k, struct job job, struct uz_error *err)
{
    UZ_TRY(uz_reserve(&k->jobs, &k->cap_jobs, (uint64_t)k->n_jobs + 1, sizeof *k->jobs, err));
    k->jobs[k->n_jobs++] = job;
    k->nbytes += job.nbytes;
    return UZ_OK;
}

/* Files are called by their path from the folder; those of further folders by their names. */
static int add_file(struct maker *k, const char *path, uint64_t nbytes, struct uz_error *err)
{
    struct uz_manifest_file *file;
    size_t n = strlen(k->run->dir);
    bool inside = !strncmp(path, k->run->dir, n) && path[n] == '/';
    const char *name = inside ? path + n + 1 : uz_path_name(path);
    UZ_TRY(
        uz_reserve(&k->paths, &k->cap_paths, (uint64_t)k->m->n_files + 1, sizeof *k->paths, err));
    k->paths[k->m->n_files] = path;
    UZ_TRY(UZ_APPEND(k->m->files, k->m->n_files, k->m->cap_files, &file, err));
    file->nbytes = nbytes;
    UZ_TRY(uz_arena_strndup(k->m->arena, name, strlen(name), &file->name, err));
    return add_job(k, (struct job){true, k->m->n_files - 1, 0, nbytes}, err);
}

static int add_files(struct maker *k, struct uz_error *err)
{
    for (size_t i = 0; i < k->run->n_records; i++)
        UZ_TRY(add_file(k, k->run->records[i].path, k->run->records[i].nbytes, err));
    if (k->run->index_path)
        UZ_TRY(add_file(k, k->run->index_path, 0, err));
    return UZ_OK;
}

/* In which dtypes a tensor's elements are to be digested, its own first. */
static void choose_dtypes(struct uz_manifest_tensor *tensor, const struct uz_manifest *want)
{
    const struct uz_manifest_tensor *other = want ? uz_manifest_find(want, tensor->name) : NULL;
    tensor->n_digests = 1;
    tensor->digests[0].dtype = tensor->dtype;
    if (!uz_dtype_is_castable(tensor->dtype) || (other && other->dtype == tensor->dtype))
        return;
    for (size_t i = 0; i < sizeof castable / sizeof castable[0]; i++)
        if (castable[i] != tensor->dtype)
            tensor->digests[tensor->n_digests++].dtype = castable[i];
}

static int add_tensor(struct maker *k, uint32_t index, const struct uz_manifest *want,
                      struct uz_error *err)
{
    const struct uz_tensor *tensor = &k->model->tensors[index];
    bool is_state = tensor->role == UZ_ROLE_STATE;
    const char *state = k->model->states[tensor->state];
    size_t n = strlen(state) + strlen(tensor->name) + 2;
    char *name;
    UZ_TRY(uz_alloc(&name, n, 1, err));
    (void)snprintf(name, n, "%s%s%s", is_state ? state : "", is_state ? "/" : "", tensor->name);
    int rc = uz_manifest_add_tensor(k->m, name, tensor->dtype, tensor->ndim, tensor->shape, err);
    free(name);
    UZ_TRY(rc);
    struct uz_manifest_tensor *added = &k->m->tensors[k->m->n_tensors - 1];
    added->is_state = is_state;
    k->m->has_states |= is_state;
    choose_dtypes(added, want);
    uint64_t nbytes = tensor->numel * uz_dtype_size(tensor->dtype);
    return add_job(k, (struct job){false, k->m->n_tensors - 1, index, nbytes}, err);
}

static int add_aliases(struct maker *k, struct uz_error *err)
{
    for (size_t i = 0; i < k->model->n_aliases; i++) {
        const struct uz_alias *alias = &k->model->aliases[i];
        const char *of = k->model->tensors[alias->tensor].name;
        struct uz_manifest_alias *slot;
        UZ_TRY(UZ_APPEND(k->m->aliases, k->m->n_aliases, k->m->cap_aliases, &slot, err));
        UZ_TRY(uz_arena_strndup(k->m->arena, alias->name, strlen(alias->name), &slot->name, err));
        UZ_TRY(uz_arena_strndup(k->m->arena, of, strlen(of), &slot->of, err));
    }
    return UZ_OK;
}

static int by_size(const void *a, const void *b)
{
    const struct job *x = a, *y = b;
    if (x->nbytes != y->nbytes)
        return x->nbytes > y->nbytes ? -1 : 1;
    if (x->is_file != y->is_file)
        return x->is_file ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

/* ---- Digests ---- */

static void note_done(struct maker *k, uint64_t nbytes)
{
    __atomic_fetch_add(&k->n_done, nbytes, __ATOMIC_RELAXED);
}

static int digest_file(struct maker *k, struct worker *w, size_t index, struct uz_error *err)
{
    struct uz_manifest_file *file = &k->m->files[index];
    enum { BLOCK = CHUNK_ELEMS * MAX_ELEM };
    int fd;
    UZ_TRY(uz_open_read(k->paths[index], &fd, &file->nbytes, err));
    int rc = UZ_OK;
    uz_digest_begin(w->digests[0]);
    for (uint64_t at = 0, n; rc == UZ_OK && at < file->nbytes; at += n) {
        n = file->nbytes - at < BLOCK ? file->nbytes - at : BLOCK;
        rc = uz_pread_all(fd, w->elems, (size_t)n, at, k->paths[index], err);
        if (rc == UZ_OK)
            uz_digest_add(w->digests[0], w->elems, (size_t)n);
        note_done(k, n);
    }
    close(fd);
    if (rc == UZ_OK)
        uz_digest_text(w->digests[0], file->text);
    return rc;
}

/* Adds elements in the host's byte order as little-endian ones; `other` is scratch memory. */
static void add_elems(struct uz_digest *digest, const unsigned char *elems, unsigned char *other,
                      size_t size, size_t n)
{
    if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ && size > 1) {
        uz_bswap_copy(other, elems, size, n);
        elems = other;
    }
    uz_digest_add(digest, elems, n * size);
}

static void add_chunk(struct maker *k, struct worker *w, const struct uz_manifest_tensor *tensor,
                      size_t n)
{
    unsigned char *other = w->cast + CHUNK_ELEMS * MAX_ELEM;
    add_elems(w->digests[0], w->elems, other, uz_dtype_size(tensor->dtype), n);
    for (unsigned i = 1; i < tensor->n_digests; i++) {
        enum uz_dtype to = tensor->digests[i].dtype;
        struct uz_conversion cast = {.from = tensor->dtype, .to = to};
        (void)uz_convert_elems(k->ops, cast, w->cast, w->elems, n);
        add_elems(w->digests[i], w->cast, other, uz_dtype_size(to), n);
    }
}

static int digest_tensor(struct maker *k, struct worker *w, const struct job *job,
                         struct uz_error *err)
{
    struct uz_manifest_tensor *tensor = &k->m->tensors[job->index];
    uint64_t numel = k->model->tensors[job->tensor].numel;
    for (unsigned i = 0; i < tensor->n_digests; i++)
        uz_digest_begin(w->digests[i]);
    for (uint64_t lo = 0, n; lo < numel; lo += n) {
        n = numel - lo < CHUNK_ELEMS ? numel - lo : CHUNK_ELEMS;
        UZ_TRY(uz_fetch_elems(&w->fetch, job->tensor, lo, n, tensor->dtype, w->elems, err));
        add_chunk(k, w, tensor, (size_t)n);
        note_done(k, n * uz_dtype_size(tensor->dtype));
    }
    for (unsigned i = 0; i < tensor->n_digests; i++)
        uz_digest_text(w->digests[i], tensor->digests[i].text);
    return UZ_OK;
}

static int run_job(void *cookie, uint64_t number, unsigned worker, struct uz_error *err)
{
    struct maker *k = cookie;
    const struct job *job = &k->jobs[number];
    struct worker *w = &k->workers[worker];
    struct uz_error why = {0};
    struct uz_where where = UZ_NOWHERE;
    int rc = job->is_file ? digest_file(k, w, job->index, &why) : digest_tensor(k, w, job, &why);
    if (rc == UZ_OK)
        return UZ_OK;
    if (job->is_file)
        where.file = k->paths[job->index];
    else {
        where.tensor = k->m->tensors[job->index].name;
        k->m->tensors[job->index].n_digests = 0;
    }
    return uz_find_failure(&k->run->findings, UZ_FIND_DAMAGED_FILE, &where, &why, err);
}

static int tick(void *cookie)
{
    const struct maker *k = cookie;
    if (!k->run->progress)
        return 0;
    return k->run->progress(k->run->cookie, __atomic_load_n(&k->n_done, __ATOMIC_RELAXED),
                            k->nbytes);
}

/* ---- The order of the steps ---- */

static int make_worker(const struct maker *k, struct worker *w, struct uz_error *err)
{
    UZ_TRY(uz_alloc(&w->elems, CHUNK_ELEMS, MAX_ELEM, err));
    UZ_TRY(uz_alloc(&w->cast, CHUNK_ELEMS, 2 * MAX_ELEM, err));
    for (unsigned i = 0; i < UZ_MANIFEST_DTYPES; i++) {
        w->digests[i] = uz_digest_new();
        if (!w->digests[i])
            return uz_fail_nomem(err, 0);
    }
    return uz_fetch_init(&w->fetch, k->model, FETCH_NBYTES, uz_fd_slots_for(k->run->threads), err);
}

static int make(struct maker *k, const struct uz_manifest *want, struct uz_error *err)
{
    UZ_TRY(add_files(k, err));
    for (uint32_t i = 0; i < k->model->n_tensors; i++)
        UZ_TRY(add_tensor(k, i, want, err));
    UZ_TRY(add_aliases(k, err));
    if (k->n_jobs > 1)
        qsort(k->jobs, k->n_jobs, sizeof *k->jobs, by_size);
    UZ_TRY(uz_alloc(&k->workers, k->run->threads, sizeof *k->workers, err));
    for (unsigned i = 0; i < k->run->threads; i++)
        UZ_TRY(make_worker(k, &k->workers[i], err));
    return uz_parallel(k->run->threads, k->n_jobs, run_job, tick, k, err);
}

int uz_manifest_make(struct uz_manifest *manifest, struct uz_verify_run *run,
                     const struct uz_model *model, const struct uz_manifest *want,
                     struct uz_error *err)
{
    struct maker k = {.m = manifest, .run = run, .model = model, .ops = uz_cast_ops_for(UINT_MAX)};
    manifest->kind = uz_input_kind_name(run->kind);
    int rc = make(&k, want, err);
    for (unsigned i = 0; k.workers && i < run->threads; i++) {
        uz_fetch_free(&k.workers[i].fetch);
        for (unsigned d = 0; d < UZ_MANIFEST_DTYPES; d++)
            uz_digest_free(k.workers[i].digests[d]);
        free(k.workers[i].elems);
        free(k.workers[i].cast);
    }
    free(k.workers);
    free(k.jobs);
    free(k.paths);
    return rc;
}
