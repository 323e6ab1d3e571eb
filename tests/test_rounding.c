/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the proof that low-precision copies are the rounded masters. */
#include <stdlib.h>
#include <string.h>

#include "cast_oracle.h"
#include "check.h"
#include "check/rounding.h"
#include "rng.h"
#include "scratch.h"

enum { N_WRONG = 7 }; /* elements that are spoilt */

static uint32_t n_elems = 9000; /* of a parameter */

/* How the two copies of a parameter are stored. */
struct stored {
    bool hp_big_endian, lp_big_endian;
    enum uz_packing hp, lp;
};

static void must(bool good, const char *what)
{
    if (!good) {
        perror(what);
        abort();
    }
}

/* Appends elements to the file's bytes, in this byte order. */
static void put(unsigned char *to, uint32_t bits, size_t size, bool big_endian)
{
    for (size_t b = 0; b < size; b++)
        to[big_endian ? size - 1 - b : b] = (unsigned char)(bits >> 8 * b);
}

/* Adds a parameter, the first and last n_wrong elements spoilt, whose master has two pieces. */
static void add_param(struct uz_model *model, const char *name, const struct stored *stored,
                      unsigned n_wrong)
{
    const uint32_t n = n_elems;
    size_t nbytes = 16 + (size_t)n * 6;
    unsigned char *bytes = calloc(nbytes, 1);
    char path[PATH_NBYTES];
    const uint64_t shape = n;
    uint32_t file, tensor, hp, lp;
    must(bytes, "memory");
    for (uint32_t i = 0; i < n; i++) {
        bool spoilt = i < n_wrong || i >= n - n_wrong;
        uint32_t bits = (uint32_t)rng_u64() & (spoilt ? 0xbfffffff : 0xffffffff); /* no NaN */
        bool overflow;
        uint32_t rounded = oracle(FORMAT_F32, FORMAT_BF16, bits, &overflow) ^ spoilt;
        put(bytes + 16 + (size_t)4 * i, bits, 4, stored->hp_big_endian);
        put(bytes + 16 + (size_t)n * 4 + (size_t)2 * i, rounded, 2, stored->lp_big_endian);
    }
    path_of(path, "%s/%s", scratch_dir, name);
    must(write_file(path, bytes, nbytes), path);
    free(bytes);
    must(!uz_model_add_file(model, path, &file, NULL), "file");
    const struct uz_place places[] = {
        {.file = file,
         .packing = stored->hp,
         .big_endian = stored->hp_big_endian,
         .offset = 8,
         .nbytes = 8 + (uint64_t)n * 4},
        {.file = file,
         .packing = stored->lp,
         .big_endian = stored->lp_big_endian,
         .offset = 16 + (uint64_t)n * 4,
         .nbytes = (uint64_t)n * 2},
    };
    must(!uz_model_add_place(model, &places[0], &hp, NULL), "place");
    must(!uz_model_add_place(model, &places[1], &lp, NULL), "place");
    must(!uz_model_add_tensor(model, name, strlen(name), UZ_ROLE_PARAM, UZ_DTYPE_F32, 1, &shape,
                              &tensor, NULL),
         "tensor");
    const struct uz_piece pieces[] = {
        {.tensor = tensor, .storage = hp, .lo = 0, .n_elems = n - 50, .src = 2},
        {.tensor = tensor, .storage = hp, .lo = n - 50, .n_elems = 50, .src = n - 48},
    };
    const struct uz_piece copy = {.tensor = tensor, .storage = lp, .n_elems = n};
    must(!uz_model_add_piece(model, &pieces[0], NULL), "piece");
    must(!uz_model_add_piece(model, &pieces[1], NULL), "piece");
    must(!uz_model_set_lp(model, tensor, UZ_DTYPE_BF16, &copy, NULL), "lp");
}

/* Two parameters that are stored alike, the second with elements spoilt. */
static struct uz_rounding compare(const struct stored *stored, uint64_t max_elems, unsigned threads)
{
    struct uz_limits limits;
    struct uz_model model;
    struct uz_rounding rounding = {0};
    struct uz_error err;
    uz_limits_default(&limits);
    must(!uz_model_init(&model, &limits, NULL), "model");
    add_param(&model, "good", stored, 0);
    add_param(&model, "spoilt", stored, N_WRONG);
    must(!uz_model_finish(&model, NULL), "finish");
    int rc = uz_check_rounding(&model, max_elems, threads, &rounding, &err);
    CHECK_F(rc == UZ_OK, "%s", err.message);
    if (rounding.n_differ > 0)
        CHECK_EQ_STR(model.tensors[rounding.worst_tensor].name, "spoilt");
    uz_model_free(&model);
    return rounding;
}

static void test_byte_orders(void)
{
    for (unsigned i = 0; i < 4; i++) {
        const struct stored stored = {.hp_big_endian = i & 1, .lp_big_endian = i & 2};
        struct uz_rounding all = compare(&stored, UINT64_MAX, 2), some = compare(&stored, 100, 1);
        CHECK_EQ_U64(all.n_compared, 2 * n_elems);
        CHECK_EQ_U64(all.n_differ, 2 * N_WRONG);
        CHECK_EQ_U64(all.n_packed, 0);
        CHECK_EQ_U64(some.n_compared, 2 * (100 + 50));
        CHECK_EQ_U64(some.n_differ, 2 * N_WRONG);
    }
}

/* More than what one thread compares at once. */
static void test_large(void)
{
    const struct stored stored = {.hp_big_endian = false};
    uint32_t before = n_elems;
    n_elems = (1 << 20) + 70000;
    struct uz_rounding found = compare(&stored, UINT64_MAX, 3);
    CHECK_EQ_U64(found.n_compared, 2 * n_elems);
    CHECK_EQ_U64(found.n_differ, 2 * N_WRONG);
    n_elems = before;
}

/* Two columns, each a piece of its own: their spans lie in one another, no element counts twice. */
static void test_interleaved(void)
{
    enum { ROWS = 3000 };
    static float masters[2 * ROWS]; /* column after column */
    static uint16_t copy[2 * ROWS]; /* row after row */
    const uint64_t shape[] = {ROWS, 2}, whole[] = {ROWS, 1}, dst[] = {2, 1}, src[] = {1, 1};
    struct uz_limits limits;
    struct uz_model model;
    struct uz_rounding rounding;
    uint32_t files[2], hp, lp, tensor;
    char path[PATH_NBYTES];
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < 2; j++) {
            uint32_t bits = (uint32_t)(i << 17 | j << 16); /* of bf16's upper half alone */
            memcpy(&masters[j * ROWS + i], &bits, sizeof bits);
            copy[2 * i + j] = (uint16_t)(bits >> 16);
        }
    copy[1] ^= 1;
    copy[2 * ROWS - 1] ^= 1;
    uz_limits_default(&limits);
    must(!uz_model_init(&model, &limits, NULL), "model");
    path_of(path, "%s/masters", scratch_dir);
    must(write_file(path, masters, sizeof masters), path);
    must(!uz_model_add_file(&model, path, &files[0], NULL), "file");
    path_of(path, "%s/copy", scratch_dir);
    must(write_file(path, copy, sizeof copy), path);
    must(!uz_model_add_file(&model, path, &files[1], NULL), "file");
    const struct uz_place places[] = {{.file = files[0], .nbytes = sizeof masters},
                                      {.file = files[1], .nbytes = sizeof copy}};
    must(!uz_model_add_place(&model, &places[0], &hp, NULL), "place");
    must(!uz_model_add_place(&model, &places[1], &lp, NULL), "place");
    must(!uz_model_add_tensor(&model, "w", 1, UZ_ROLE_PARAM, UZ_DTYPE_F32, 2, shape, &tensor, NULL),
         "tensor");
    struct uz_shard_map maps[2];
    for (uint64_t j = 0; j < 2; j++) {
        maps[j] = (struct uz_shard_map){
            .ndim = 2, .dst_first = j, .shape = whole, .dst_stride = dst, .src_stride = src};
        struct uz_piece piece = {
            .tensor = tensor, .storage = hp, .n_elems = ROWS, .src = j * ROWS, .map = &maps[j]};
        must(!uz_model_add_piece(&model, &piece, NULL), "piece");
    }
    const struct uz_piece piece = {.tensor = tensor, .storage = lp, .n_elems = 2 * ROWS};
    must(!uz_model_set_lp(&model, tensor, UZ_DTYPE_BF16, &piece, NULL), "lp");
    must(!uz_model_finish(&model, NULL), "finish");
    CHECK_EQ_I64(uz_check_rounding(&model, UINT64_MAX, 2, &rounding, NULL), UZ_OK);
    CHECK_EQ_U64(rounding.n_compared, 2 * ROWS);
    CHECK_EQ_U64(rounding.n_differ, 2);
    CHECK_EQ_I64(uz_check_rounding(&model, 10, 2, &rounding, NULL), UZ_OK);
    CHECK_EQ_U64(rounding.n_compared, 11); /* elements 0 to 9, and 10 of the second column */
    CHECK_EQ_U64(rounding.n_differ, 1);
    uz_model_free(&model);
}

static void test_packed(void)
{
    static const struct stored cases[] = {
        {.hp = UZ_PACKED_DEFLATE},
        {.lp = UZ_PACKED_DEFLATE},
        {.hp = UZ_PACKED_ZSTD, .lp = UZ_PACKED_ZSTD},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct uz_rounding rounding = compare(&cases[i], UINT64_MAX, 1);
        CHECK_EQ_U64(rounding.n_compared, 0);
        CHECK_EQ_U64(rounding.n_differ, 0);
        CHECK_EQ_U64(rounding.n_packed, 2);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"both byte orders", test_byte_orders},
        {"compressed copies are passed over", test_packed},
        {"many elements", test_large},
        {"pieces that lie in one another", test_interleaved},
        CU_TEST_INFO_NULL,
    };
    rng_init();
    make_midpoints();
    scratch_make();
    return check_run("rounding", tests);
}
