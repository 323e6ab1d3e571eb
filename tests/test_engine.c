/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of runs: files hold what plain loops say, whatever the threads, chunks and buffers. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "engine_run.h"
#include "safetensors_reader.h"

/* ---- The truth ---- */

static bool right_values(const struct st_tensor *got, uint32_t tensor, enum uz_dtype to,
                         uint64_t *n_overflows)
{
    enum uz_dtype from = m.model.tensors[tensor].dtype;
    size_t size = uz_dtype_size(from);
    uint64_t numel = m.tensors[tensor].numel;
    if (got->numel != numel || strcmp(got->dtype, uz_dtype_safetensors_name(to)) != 0)
        return false;
    if (from == to)
        return numel == 0 || !memcmp(got->data, m.truth[tensor], numel * size);
    for (uint64_t e = 0; e < numel; e++) {
        uint32_t bits = 0, code = 0;
        bool overflow;
        memcpy(&bits, m.truth[tensor] + e * size, size);
        memcpy(&code, got->data + e * got->elem_size, got->elem_size);
        if (code != oracle(ro_format(from), ro_format(to), bits, &overflow))
            return false;
        *n_overflows += overflow;
    }
    return true;
}

/* Reads all files and compares every tensor. */
static void check_values(const struct output *o, uint64_t n_overflows_told)
{
    uint64_t n_overflows = 0;
    size_t n_seen = 0;
    for (size_t i = 0; i < o->out.n_files; i++) {
        struct st_file file;
        if (o->out.files[i].n_tensors == 0)
            continue; /* the index */
        if (!CHECK_F(st_read(&file, o->paths[i]), "%s", file.error))
            break;
        for (size_t k = 0; k < o->items.n; k++) {
            const struct uz_item *item = &o->items.items[k];
            const struct st_tensor *got = st_find(&file, item->name);
            if (!got)
                continue;
            n_seen++;
            CHECK_F(right_values(got, item->tensor, item->dtype, &n_overflows), "%s is wrong",
                    item->name);
        }
        st_free(&file);
    }
    CHECK_EQ_U64(n_seen, o->items.n);
    CHECK_EQ_U64(n_overflows_told, n_overflows);
}

/* All files, one after another, to be freed. */
static char *all_bytes(const struct output *o, size_t *nbytes)
{
    char *all = rm_alloc(1);
    *nbytes = 0;
    for (size_t i = 0; i < o->out.n_files; i++) {
        size_t n = 0;
        char *data = slurp(o->paths[i], &n);
        rm_must(data != NULL, o->paths[i]);
        all = realloc(all, *nbytes + n + 1);
        rm_must(all != NULL, "realloc");
        memcpy(all + *nbytes, data, n);
        *nbytes += n;
        free(data);
    }
    return all;
}

static void check_random(unsigned n, unsigned flags)
{
    for (unsigned i = 0; i < n; i++) {
        struct output o;
        size_t nbytes = 0, nbytes_before = 0;
        char *before = NULL;
        rm_make(&m, flags);
        output_make(&o, &m.model, (enum uz_dtype_policy)(i % 4),
                    rng_one_in(2) ? 0 : rng_range(1, 10000));
        for (size_t k = 0; k < N_WAYS; k++) {
            struct uz_engine_result result;
            if (!run_one_way(&o, &ways[k], &result))
                continue;
            if (k == 0)
                check_values(&o, result.n_overflows);
            char *bytes = all_bytes(&o, &nbytes);
            CHECK_F(!before || (nbytes == nbytes_before && !memcmp(bytes, before, nbytes)),
                    "way %zu gives other bytes", k);
            free(before);
            before = bytes;
            nbytes_before = nbytes;
        }
        free(before);
        output_free(&o);
        rm_free(&m);
    }
}

static void test_plain(void)
{
    check_random(20, 0);
}

static void test_strided(void)
{
    check_random(30, RM_STRIDED);
}

static void test_deflated(void)
{
    check_random(20, RM_STRIDED | RM_DEFLATED);
}

static void test_gaps(void)
{
    check_odd(30, RM_STRIDED);
}

static void test_swapped(void)
{
    check_odd(30, RM_STRIDED | RM_SWAPPED);
}

/* A tensor so large that it would be read straight to its place if its bytes need not be swapped.
 */
static void test_large_swapped(void)
{
    const uint64_t numel = 10000;
    struct output o;
    struct uz_piece piece = {.n_elems = numel};
    uint64_t n_overflows = 0;
    size_t base;
    rm_start(&m);
    unsigned char *bytes = rm_junk(8 * numel);
    m.truth[m.n++] = rm_alloc(8 * numel);
    memcpy(m.truth[0], bytes, 8 * numel);
    rm_swap(bytes, 8 * numel, 8);
    piece.storage = rm_place(&m, bytes, 8 * numel, UZ_PACKED_STORED, true, &base);
    rm_must(!uz_model_add_tensor(&m.model, "large", 5, UZ_ROLE_BUFFER, UZ_DTYPE_I64, 1, &numel,
                                 &piece.tensor, NULL),
            "tensor");
    rm_must(!uz_model_add_piece(&m.model, &piece, NULL), "piece");
    rm_finish(&m);
    output_make(&o, &m.model, UZ_POLICY_FP32, 0);
    for (size_t k = 0; k < N_WAYS; k++) {
        struct uz_engine_result result;
        unsigned char *want = ro_expected(&m, &o.out, 0, &n_overflows);
        if (run_one_way(&o, &ways[k], &result)) {
            char *got = slurp(o.paths[0], NULL);
            rm_must(got != NULL, o.paths[0]);
            CHECK_EQ_MEM(got, want, o.out.files[0].nbytes);
            free(got);
        }
        free(want);
    }
    output_free(&o);
    rm_free(&m);
}

/* ---- Strides far beyond any buffer ---- */

/* A tensor of fp32 that lies with these strides in a sparse file; each element is its index. */
static void check_far(const uint64_t shape[2], const uint64_t stride[2], uint64_t buffer_nbytes)
{
    struct uz_limits limits;
    struct uz_model model;
    struct output o;
    struct st_file file;
    struct uz_engine_result result;
    struct uz_error err;
    char path[PATH_NBYTES];
    uint32_t index, tensor;
    struct uz_piece piece = {.n_elems = shape[0] * shape[1], .src = 3};
    struct uz_place place = {.offset = 5};
    int fd = open(path_of(path, "%s/sparse", scratch_dir), O_RDWR | O_CREAT | O_TRUNC, 0600);
    rm_must(fd >= 0, path);
    for (uint32_t e = 0; e < piece.n_elems; e++) {
        uint64_t src = 3 + e / shape[1] * stride[0] + e % shape[1] * stride[1];
        rm_must(pwrite(fd, &e, 4, (off_t)(5 + 4 * src)) == 4, path);
        if (4 * (src + 1) > place.nbytes)
            place.nbytes = 4 * (src + 1);
    }
    close(fd);
    uz_limits_default(&limits);
    rm_must(!uz_model_init(&model, &limits, NULL), "model");
    rm_must(!uz_model_add_file(&model, path, &index, NULL), "file");
    rm_must(!uz_model_add_place(&model, &place, &piece.storage, NULL), "place");
    rm_must(!uz_model_add_tensor(&model, "far", 3, UZ_ROLE_BUFFER, UZ_DTYPE_I32, 2, shape, &tensor,
                                 NULL),
            "tensor");
    rm_must(!uz_model_strided_map(&model, 2, shape, stride, &piece.map, NULL), "map");
    rm_must(!uz_model_add_piece(&model, &piece, NULL), "piece");
    rm_must(!uz_model_finish(&model, NULL), "finish");
    output_make(&o, &model, UZ_POLICY_FP32, 0);
    int rc = output_run(&o, &model, 64, buffer_nbytes, 2, &result, &err);
    if (CHECK_F(rc == UZ_OK, "%s", err.message) &&
        CHECK_F(st_read(&file, o.paths[0]), "%s", file.error)) {
        uint64_t n_wrong = 0;
        for (uint32_t e = 0; e < piece.n_elems; e++)
            n_wrong += memcmp(file.tensors[0].data + 4 * (size_t)e, &e, 4) != 0;
        CHECK_EQ_U64(n_wrong, 0);
        st_free(&file);
    }
    output_free(&o);
    uz_model_free(&model);
    (void)unlink(path);
}

static void test_far_strides(void)
{
    static const struct {
        uint64_t shape[2], stride[2];
    } cases[] = {
        {{5, 7}, {1 << 22, 1 << 19}},     /* every element far from the next */
        {{4, 1000}, {1 << 20, 1}},        /* long rows */
        {{1000, 4}, {1, 1 << 20}},        /* a transpose */
        {{300, 3}, {40, 1}},              /* rows that a buffer holds several of */
        {{2, 3}, {(uint64_t)1 << 34, 2}}, /* 64 GiB apart */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_far(cases[i].shape, cases[i].stride, 64);
        check_far(cases[i].shape, cases[i].stride, 1 << 20);
    }
}

/* ---- More files than descriptors are kept ---- */

static void test_many_files(void)
{
    enum { N = 90 };
    struct uz_limits limits;
    struct uz_model model;
    struct output o;
    struct uz_engine_result result;
    struct uz_error err;
    uint64_t n_wrong = 0;
    const uint64_t numel = 2;
    uz_limits_default(&limits);
    rm_must(!uz_model_init(&model, &limits, NULL), "model");
    for (uint32_t i = 0; i < N; i++) {
        char path[PATH_NBYTES], name[16];
        const struct uz_place place = {.file = i, .nbytes = 8};
        const uint32_t values[] = {i, ~i};
        struct uz_piece piece = {.n_elems = 2};
        uint32_t file;
        (void)snprintf(name, sizeof name, "t%02u", i);
        rm_must(write_file(path_of(path, "%s/many-%u", scratch_dir, i), values, 8), path);
        rm_must(!uz_model_add_file(&model, path, &file, NULL), "file");
        rm_must(!uz_model_add_place(&model, &place, &piece.storage, NULL), "place");
        rm_must(!uz_model_add_tensor(&model, name, strlen(name), UZ_ROLE_BUFFER, UZ_DTYPE_I32, 1,
                                     &numel, &piece.tensor, NULL),
                "tensor");
        rm_must(!uz_model_add_piece(&model, &piece, NULL), "piece");
    }
    rm_must(!uz_model_finish(&model, NULL), "finish");
    output_make(&o, &model, UZ_POLICY_FP32, 8);
    CHECK_EQ_U64(o.out.n_files, N + 1);
    CHECK_EQ_I64(output_run(&o, &model, 64, 64, 2, &result, &err), UZ_OK);
    for (uint32_t i = 0; i < N; i++) {
        struct st_file file;
        const uint32_t want[] = {i, ~i};
        n_wrong += !st_read(&file, o.paths[i]) || memcmp(file.tensors[0].data, want, 8) != 0;
        st_free(&file);
    }
    CHECK_EQ_U64(n_wrong, 0);
    output_free(&o);
    uz_model_free(&model);
}

/* ---- Sources that fail ---- */

/* A source that has gone or shrunk since it was planned: an error that names it. */
static void check_damaged(bool deflated, bool gone, unsigned threads)
{
    struct output o;
    struct uz_engine_result result;
    struct uz_error err;
    rm_start(&m);
    while (m.n < RM_MAX_TENSORS)
        rm_add(&m, UZ_ROLE_PARAM, UZ_DTYPE_F32, RP_PLAIN | RP_WHOLE,
               deflated ? UZ_PACKED_DEFLATE : UZ_PACKED_STORED, false);
    rm_finish(&m);
    output_make(&o, &m.model, UZ_POLICY_BF16, 0);
    const char *path = deflated ? m.zip_path : m.paths[0];
    if (deflated ? m.n_deflated > 0 : m.used[0] > 0) { /* true but for rare draws */
        rm_must(gone ? !unlink(path) : !truncate(path, 0), path);
        int rc = output_run(&o, &m.model, 4096, 4096, threads, &result, &err);
        CHECK_F(rc < 0, "nothing was noticed");
        CHECK_EQ_STR(err.file, path);
        if (!deflated)
            CHECK_EQ_I64(rc, gone ? UZ_IO : UZ_CORRUPT);
    }
    output_free(&o);
    rm_free(&m);
}

static void test_damaged_sources(void)
{
    for (unsigned threads = 1; threads <= 4; threads += 3)
        for (unsigned i = 0; i < 4; i++)
            check_damaged(i & 1, i & 2, threads);
}

/* ---- Progress ---- */

static int stop_at_once(void *cookie, uint64_t nbytes_done, uint64_t nbytes_total)
{
    uint64_t *total = cookie;
    *total = nbytes_total;
    return nbytes_done <= nbytes_total;
}

static void test_cancel(void)
{
    struct output o;
    struct uz_plan plan;
    struct uz_engine_result result;
    struct uz_error err;
    uint64_t total = 77;
    const struct uz_engine_options options = {
        .threads = 2, .buffer_nbytes = 64, .progress = stop_at_once, .cookie = &total};
    rm_make(&m, 0);
    output_make(&o, &m.model, UZ_POLICY_FP32, 0);
    rm_must(write_file(o.paths[0], "", 0), o.paths[0]);
    rm_must(!uz_plan_build(&plan, &m.model, &o.out, 64, NULL), "plan");
    CHECK_EQ_I64(uz_engine_run(&plan, o.paths, &options, &result, &err), UZ_CANCELLED);
    CHECK_EQ_I64(err.status, UZ_CANCELLED);
    CHECK_EQ_U64(total, o.out.data_nbytes);
    CHECK(uz_engine_memory(&options) >= 2 * 2 * 64);
    uz_plan_free(&plan);
    output_free(&o);
    rm_free(&m);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"plain pieces", test_plain},
        {"strided pieces", test_strided},
        {"compressed storages", test_deflated},
        {"gaps, blobs and checksums", test_gaps},
        {"big-endian storages", test_swapped},
        {"a large big-endian storage", test_large_swapped},
        {"strides far beyond the buffer", test_far_strides},
        {"many files", test_many_files},
        {"sources that fail", test_damaged_sources},
        {"cancelling", test_cancel},
        CU_TEST_INFO_NULL,
    };
    engine_run_init();
    return check_run("engine", tests);
}
