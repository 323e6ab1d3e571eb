/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of reading elements of tensors into memory, from compressed storages too. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "engine/fetch.h"
#include "engine/spool.h"
#include "engine_run.h"

/* Random ranges of a tensor, each with its last byte guarded by a mark behind. */
static void check_ranges(struct uz_fetch *fetch, uint32_t index, const unsigned char *truth)
{
    const struct uz_tensor *tensor = &m.model.tensors[index];
    size_t size = uz_dtype_size(tensor->dtype);
    for (unsigned k = 0; k < 6 && tensor->numel > 0; k++) {
        uint64_t lo = k == 0 ? 0 : rng_u64() % tensor->numel;
        uint64_t n = k == 0 ? tensor->numel : 1 + rng_u64() % (tensor->numel - lo);
        unsigned char *got = rm_alloc((size_t)n * size + 1);
        struct uz_error err;
        got[n * size] = 0xa5;
        int rc = uz_fetch_elems(fetch, index, lo, n, tensor->dtype, got, &err);
        if (CHECK_F(rc == UZ_OK, "%s: %s", err.file, err.message))
            CHECK_EQ_MEM(got, truth + lo * size, (size_t)n * size);
        CHECK(got[n * size] == 0xa5);
        free(got);
    }
}

static void check_model(unsigned flags, uint64_t buffer_nbytes)
{
    struct uz_fetch fetch;
    struct uz_spool *spool;
    struct uz_limits limits;
    struct uz_error err;
    uz_limits_default(&limits);
    rm_make(&m, flags);
    int rc = uz_spool_open(&spool, &m.model, scratch_dir, 2, &limits, &err);
    if (CHECK_F(rc == UZ_OK, "%s: %s", err.file, err.message)) {
        CHECK((flags & (RM_DEFLATED | RM_ZSTD)) || spool == NULL);
        CHECK_EQ_I64(uz_fetch_check(&m.model, NULL), UZ_OK);
        rm_must(!uz_fetch_init(&fetch, &m.model, buffer_nbytes, 2, NULL), "fetch");
        for (size_t i = 0; i < m.n; i++)
            check_ranges(&fetch, (uint32_t)i, m.truth[i]); /* the order of adding is kept */
        uz_fetch_free(&fetch);
    }
    uz_spool_close(spool);
    rm_free(&m);
}

static void test_ranges(void)
{
    for (unsigned i = 0; i < 20; i++) {
        uint64_t buffer_nbytes = i % 2 ? 64 : 1 << 20;
        check_model(RM_SWAPPED, buffer_nbytes);
        check_model(RM_STRIDED | RM_SWAPPED, buffer_nbytes);
        check_model(RM_STRIDED | RM_DEFLATED | RM_ZSTD | RM_SWAPPED, buffer_nbytes);
    }
}

/* As another dtype: what the cast of the whole tensor gives. */
static void test_cast(void)
{
    const float values[] = {1.0f, -0.0f, 3.14159265f, 65504.0f, 1e-40f};
    const uint16_t want[] = {0x3f80, 0x8000, 0x4049, 0x4780, 0x0001};
    const uint64_t numel = 5;
    struct uz_fetch fetch;
    struct uz_piece piece = {.n_elems = numel};
    struct uz_place place = {.nbytes = sizeof values};
    uint16_t got[4] = {0};
    char path[PATH_NBYTES];
    rm_start(&m);
    path_of(path, "%s/values", scratch_dir);
    rm_must(write_file(path, values, sizeof values), path);
    rm_must(!uz_model_add_file(&m.model, path, &place.file, NULL), "file");
    rm_must(!uz_model_add_place(&m.model, &place, &piece.storage, NULL), "place");
    rm_must(!uz_model_add_tensor(&m.model, "t", 1, UZ_ROLE_PARAM, UZ_DTYPE_F32, 1, &numel,
                                 &piece.tensor, NULL),
            "tensor");
    rm_must(!uz_model_add_piece(&m.model, &piece, NULL), "piece");
    rm_must(!uz_model_set_lp(&m.model, piece.tensor, UZ_DTYPE_F32, &piece, NULL), "lp");
    rm_finish(&m);
    rm_must(!uz_fetch_init(&fetch, &m.model, 64, 1, NULL), "fetch");
    CHECK_EQ_I64(uz_fetch_elems(&fetch, 0, 1, 4, UZ_DTYPE_BF16, got, NULL), UZ_OK);
    CHECK_EQ_MEM(got, want + 1, sizeof got);
    memset(got, 0, sizeof got);
    CHECK_EQ_I64(uz_fetch_lp(&fetch, 0, 0, 4, UZ_DTYPE_BF16, got, NULL), UZ_OK);
    CHECK_EQ_MEM(got, want, sizeof got);
    uz_fetch_free(&fetch);
    rm_free(&m);
}

/* ---- Rows that the system puts to their places ---- */

enum { N_ROWS = 300, MAX_WIDTH = 3000 };

static float columns[2][N_ROWS * MAX_WIDTH], joined[N_ROWS * 2 * MAX_WIDTH];

/* Two ranks' columns, each in a file of its own behind `before` other bytes. */
static void add_columns(uint32_t width, uint32_t before)
{
    static struct uz_shard_map maps[2];
    static uint64_t shape[2], dst_stride[2], src_stride[2];
    const uint64_t whole[2] = {N_ROWS, 2 * (uint64_t)width};
    uint32_t tensor;
    static unsigned char data[sizeof columns[0] + PATH_NBYTES];
    shape[0] = N_ROWS;
    shape[1] = src_stride[0] = width;
    dst_stride[0] = whole[1];
    dst_stride[1] = src_stride[1] = 1;
    rm_must(!uz_model_add_tensor(&m.model, "w", 1, UZ_ROLE_PARAM, UZ_DTYPE_F32, 2, whole, &tensor,
                                 NULL),
            "tensor");
    for (uint32_t rank = 0; rank < 2; rank++) {
        char path[PATH_NBYTES];
        uint64_t n_elems = N_ROWS * (uint64_t)width;
        struct uz_place place = {.offset = before, .nbytes = n_elems * 4};
        struct uz_piece piece = {.tensor = tensor, .n_elems = n_elems, .map = &maps[rank]};
        maps[rank] = (struct uz_shard_map){.ndim = 2,
                                           .dst_first = rank * (uint64_t)width,
                                           .shape = shape,
                                           .dst_stride = dst_stride,
                                           .src_stride = src_stride};
        for (uint64_t i = 0; i < n_elems; i++)
            columns[rank][i] = (float)(i * 2 + rank);
        memcpy(data + before, columns[rank], (size_t)place.nbytes);
        path_of(path, "%s/columns%u", scratch_dir, rank);
        rm_must(write_file(path, data, before + (size_t)place.nbytes), path);
        rm_must(!uz_model_add_file(&m.model, path, &place.file, NULL), "file");
        rm_must(!uz_model_add_place(&m.model, &place, &piece.storage, NULL), "place");
        rm_must(!uz_model_add_piece(&m.model, &piece, NULL), "piece");
    }
}

/* True if elements [lo, lo + n) of the joined matrix are the columns side by side. */
static bool are_joined(const float *got, uint32_t width, uint64_t lo, uint64_t n)
{
    for (uint64_t i = lo; i < lo + n; i++) {
        uint64_t row = i / (2 * width), column = i % (2 * width);
        const float *want = &columns[column / width][row * width + column % width];
        if (memcmp(&got[i - lo], want, sizeof *want) != 0)
            return false;
    }
    return true;
}

static void check_columns(uint32_t width, uint32_t before)
{
    const uint64_t numel = N_ROWS * 2 * (uint64_t)width;
    struct uz_fetch fetch;
    struct uz_error err = {0};
    rm_start(&m);
    add_columns(width, before);
    rm_finish(&m);
    rm_must(!uz_fetch_init(&fetch, &m.model, 4 << 20, 2, NULL), "fetch");
    if (CHECK_F(uz_fetch_elems(&fetch, 0, 0, numel, UZ_DTYPE_F32, joined, &err) == UZ_OK, "%s",
                err.message))
        CHECK_F(are_joined(joined, width, 0, numel), "%u columns, %u bytes before", width, before);
    uint64_t lo = rng_u64() % numel, n = 1 + rng_u64() % (numel - lo);
    if (CHECK(uz_fetch_elems(&fetch, 0, lo, n, UZ_DTYPE_F32, joined, &err) == UZ_OK))
        CHECK_F(are_joined(joined, width, lo, n), "%u columns, %u bytes before, from %llu", width,
                before, (unsigned long long)lo);
    rm_must(truncate(m.model.files[m.model.n_files - 1],
                     (off_t)(before + N_ROWS * width * 4 - 5000)) == 0,
            "cut");
    CHECK_EQ_I64(uz_fetch_elems(&fetch, 0, 0, numel, UZ_DTYPE_F32, joined, &err), UZ_CORRUPT);
    CHECK_F(strstr(err.message, "ends too early") != NULL, "%s", err.message);
    uz_fetch_free(&fetch);
    rm_free(&m);
}

static void test_columns(void)
{
    static const uint32_t widths[] = {500, 2048, MAX_WIDTH}, before[] = {0, 3, 64, 4088};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        for (size_t k = 0; k < sizeof before / sizeof *before; k++)
            check_columns(widths[i], before[k]);
}

/* What cannot be fetched is refused before anything is read. */
static void test_refusals(void)
{
    struct uz_error err;
    do {
        rm_make(&m, RM_ZSTD);
        bool packed = false;
        for (size_t i = 0; i < m.model.n_places; i++)
            packed |= m.model.places[i].packing != UZ_PACKED_STORED;
        if (packed)
            break;
        rm_free(&m);
    } while (true);
    CHECK_EQ_I64(uz_fetch_check(&m.model, &err), UZ_ARG);
    CHECK_F(strstr(err.message, "spooled") != NULL, "%s", err.message);
    rm_free(&m);
    rm_start(&m);
    do
        rm_add(&m, UZ_ROLE_PARAM, UZ_DTYPE_F32, RP_PLAIN | RP_WHOLE, UZ_PACKED_STORED, false);
    while (m.model.n_pieces == 0 && m.n < RM_MAX_TENSORS);
    rm_finish(&m);
    rm_must(m.model.n_pieces > 0, "a tensor with elements");
    for (size_t i = 0; i < m.model.n_places; i++)
        m.model.places[i].nbytes = 0;
    CHECK_EQ_I64(uz_fetch_check(&m.model, &err), UZ_CORRUPT);
    rm_free(&m);
}

static void test_bad_streams(void)
{
    struct uz_limits limits;
    uz_limits_default(&limits);
    for (int fault = FAKE_MISSING; fault <= FAKE_BAD_END; fault++) {
        struct uz_spool *spool = NULL;
        struct uz_error err;
        rm_start(&m);
        for (size_t k = 0; k < RM_MAX_TENSORS - 1; k++)
            rm_add(&m, UZ_ROLE_PARAM, UZ_DTYPE_F32, RP_PLAIN | RP_WHOLE, UZ_PACKED_ZSTD, false);
        rm_finish(&m);
        fake.chosen = m.model.places[m.model.pieces[0].storage].entry;
        if (m.model.places[m.model.pieces[0].storage].packing) { /* but for rare draws */
            fake.fault = (enum fake_fault)fault;
            CHECK_EQ_I64(uz_spool_open(&spool, &m.model, scratch_dir, 2, &limits, &err),
                         UZ_CORRUPT);
            CHECK(spool == NULL);
            CHECK_EQ_STR(err.file, m.zstd_path);
        }
        fake.fault = FAKE_GOOD;
        rm_free(&m);
    }
}

static void test_no_room(void)
{
    struct uz_limits limits;
    struct uz_spool *spool;
    struct uz_error err;
    uz_limits_default(&limits);
    rm_start(&m);
    rm_add(&m, UZ_ROLE_PARAM, UZ_DTYPE_F32, RP_PLAIN | RP_WHOLE, UZ_PACKED_DEFLATE, false);
    rm_finish(&m);
    if (m.n_deflated > 0)
        CHECK_EQ_I64(uz_spool_open(&spool, &m.model, "/nowhere", 2, &limits, &err), UZ_IO);
    rm_free(&m);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"ranges of tensors", test_ranges},
        {"another dtype", test_cast},
        {"columns of two ranks", test_columns},
        {"what cannot be fetched", test_refusals},
        {"compressed sources that fail", test_bad_streams},
        {"no room for a spool", test_no_room},
        CU_TEST_INFO_NULL,
    };
    engine_run_init();
    return check_run("fetch", tests);
}
