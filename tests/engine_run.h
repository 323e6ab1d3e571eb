/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of the engine on random models, and outputs that are compared byte by byte. */
#ifndef UZ_TESTS_ENGINE_RUN_H
#define UZ_TESTS_ENGINE_RUN_H

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "engine/engine.h"
#include "fake_stream.h"
#include "out/safetensors.h"
#include "random_model.h"
#include "random_out.h"

static struct random_model m;

/* ---- An output and its files ---- */

struct output {
    struct uz_items items;
    struct uz_out out;
    char **paths;
};

static inline void output_paths(struct output *o)
{
    o->paths = rm_alloc(o->out.n_files * sizeof *o->paths);
    for (size_t i = 0; i < o->out.n_files; i++)
        o->paths[i] = uz_path_join(scratch_dir, o->out.files[i].name);
}

static inline void output_make(struct output *o, const struct uz_model *model,
                               enum uz_dtype_policy policy, uint64_t max_shard_bytes)
{
    const struct uz_files_options options = {.max_shard_bytes = max_shard_bytes,
                                             .max_header_bytes = 1000000};
    rm_must(!uz_items_select(&o->items, model, &(const struct uz_items_options){.policy = policy},
                             NULL, NULL),
            "items");
    rm_must(!uz_safetensors_layout(&o->out, &o->items, model, &options, NULL), "layout");
    output_paths(o);
}

/* An output with gaps, blobs and checksums. */
static inline void output_make_odd(struct output *o, const struct uz_model *model,
                                   enum uz_dtype_policy policy)
{
    rm_must(!uz_items_select(&o->items, model, &(const struct uz_items_options){.policy = policy},
                             NULL, NULL),
            "items");
    ro_make(&o->out, &o->items, model);
    output_paths(o);
}

static inline void output_free(struct output *o)
{
    for (size_t i = 0; i < o->out.n_files; i++) {
        (void)unlink(o->paths[i]);
        free(o->paths[i]);
    }
    free(o->paths);
    uz_out_free(&o->out);
    uz_items_free(&o->items);
}

/* Makes the files afresh and fills them. */
static inline int output_run(const struct output *o, const struct uz_model *model,
                             uint64_t chunk_nbytes, uint64_t buffer_nbytes, unsigned threads,
                             struct uz_engine_result *result, struct uz_error *err)
{
    struct uz_engine_options options = {
        .threads = threads, .buffer_nbytes = buffer_nbytes, .cpu_mask = UINT_MAX};
    struct uz_plan plan;
    uz_limits_default(&options.limits);
    uz_error_clear(err);
    for (size_t i = 0; i < o->out.n_files; i++) {
        rm_must(write_file(o->paths[i], "", 0), o->paths[i]);
        rm_must(!truncate(o->paths[i], (off_t)o->out.files[i].nbytes), o->paths[i]);
    }
    int rc = uz_plan_build(&plan, model, &o->out, chunk_nbytes, err);
    if (rc == UZ_OK)
        rc = uz_engine_run(&plan, o->paths, &options, result, err);
    uz_plan_free(&plan);
    return rc;
}

/* First in main(). */
static inline void engine_run_init(void)
{
    rng_init();
    make_midpoints();
    scratch_make();
    fake.model = &m;
}

/* ---- Ways to run ---- */

struct way {
    uint64_t chunk, buffer;
    unsigned threads;
};

static const struct way ways[] = {{1 << 20, 1 << 20, 1}, {64, 64, 1},   {64, 4096, 2},
                                  {4096, 4096, 4},       {192, 192, 3}, {1024, 1 << 20, 2},
                                  {1 << 20, 1 << 20, 4}};

enum { N_WAYS = sizeof ways / sizeof ways[0] };

/* Runs; what every run must keep to. */
static inline bool run_one_way(const struct output *o, const struct way *way,
                               struct uz_engine_result *result)
{
    struct uz_error err;
    fake.n_opened = fake.n_ends = 0;
    fake.largest_read = 0;
    int rc = output_run(o, &m.model, way->chunk, way->buffer, way->threads, result, &err);
    if (!CHECK_F(rc == UZ_OK, "%s: %s", err.file, err.message))
        return false;
    CHECK_EQ_U64(result->nbytes_written, o->out.data_nbytes);
    CHECK(fake.n_opened <= 1 && fake.n_ends == fake.n_opened); /* one pass, to the end */
    CHECK(fake.largest_read <= way->buffer);
    return true;
}

/* Layouts with gaps: every byte of every file, blobs and checksums too. */
static inline void check_odd(unsigned n, unsigned flags)
{
    unsigned n_slots = 0;
    for (unsigned i = 0; i < n; i++) {
        struct output o;
        unsigned char *want[RO_MAX_FILES];
        uint64_t n_overflows = 0;
        rm_make(&m, flags);
        output_make_odd(&o, &m.model, (enum uz_dtype_policy)(i % 4));
        for (size_t f = 0; f < o.out.n_files; f++)
            want[f] = ro_expected(&m, &o.out, f, &n_overflows);
        for (size_t k = 0; k < N_WAYS; k++) {
            struct uz_engine_result result;
            if (!run_one_way(&o, &ways[k], &result))
                continue;
            CHECK_EQ_U64(result.n_overflows, n_overflows);
            for (size_t f = 0; f < o.out.n_files; f++) {
                struct uz_out_file *file = &o.out.files[f];
                size_t nbytes = 0;
                char *got = slurp(o.paths[f], &nbytes);
                rm_must(got != NULL, o.paths[f]);
                if (CHECK_EQ_U64(nbytes, file->nbytes))
                    CHECK_EQ_MEM(got, want[f], nbytes);
                free(got);
                for (size_t s = 0; s < file->n_crcs; s++)
                    memset(file->crcs[s].at, (int)k, 4); /* to be filled in anew */
                n_slots += (unsigned)file->n_crcs;
            }
        }
        for (size_t f = 0; f < o.out.n_files; f++)
            free(want[f]);
        output_free(&o);
        rm_free(&m);
    }
    CHECK(n_slots > n);
}

#endif
