/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the proof that low-precision copies are the rounded masters. */
#include <stdlib.h>
#include <string.h>

#include "cast_oracle.h"
#include "check.h"
#include "check/rounding.h"
#include "rng.h"
#include "scratch.h"

enum { N = 9000, N_WRONG = 7 }; /* elements, more than two blocks; and those spoilt */

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

/* Adds a parameter of N elements, the first n_wrong of them spoilt, whose master has two pieces. */
static void add_param(struct uz_model *model, const char *name, const struct stored *stored,
                      unsigned n_wrong)
{
    static unsigned char bytes[16 + N * 6];
    char path[PATH_NBYTES];
    const uint64_t shape = N;
    uint32_t file, tensor, hp, lp;
    for (uint32_t i = 0; i < N; i++) {
        uint32_t bits = (uint32_t)rng_u64() & (i < n_wrong ? 0xbfffffff : 0xffffffff); /* no NaN */
        bool overflow;
        uint32_t rounded = oracle(FORMAT_F32, FORMAT_BF16, bits, &overflow) ^ (i < n_wrong);
        put(bytes + 16 + (size_t)4 * i, bits, 4, stored->hp_big_endian);
        put(bytes + 16 + N * 4 + (size_t)2 * i, rounded, 2, stored->lp_big_endian);
    }
    path_of(path, "%s/%s", scratch_dir, name);
    must(write_file(path, bytes, sizeof bytes), path);
    must(!uz_model_add_file(model, path, &file, NULL), "file");
    const struct uz_place places[] = {
        {.file = file,
         .packing = stored->hp,
         .big_endian = stored->hp_big_endian,
         .offset = 8,
         .nbytes = 8 + N * 4},
        {.file = file,
         .packing = stored->lp,
         .big_endian = stored->lp_big_endian,
         .offset = 16 + N * 4,
         .nbytes = N * 2},
    };
    must(!uz_model_add_place(model, &places[0], &hp, NULL), "place");
    must(!uz_model_add_place(model, &places[1], &lp, NULL), "place");
    must(!uz_model_add_tensor(model, name, strlen(name), UZ_ROLE_PARAM, UZ_DTYPE_F32, 1, &shape,
                              &tensor, NULL),
         "tensor");
    const struct uz_piece pieces[] = {
        {.tensor = tensor, .storage = hp, .lo = 0, .n_elems = N - 50, .src = 2},
        {.tensor = tensor, .storage = hp, .lo = N - 50, .n_elems = 50, .src = N - 48},
    };
    const struct uz_piece copy = {.tensor = tensor, .storage = lp, .n_elems = N};
    must(!uz_model_add_piece(model, &pieces[0], NULL), "piece");
    must(!uz_model_add_piece(model, &pieces[1], NULL), "piece");
    must(!uz_model_set_lp(model, tensor, UZ_DTYPE_BF16, &copy, NULL), "lp");
}

/* Two parameters that are stored alike, the second with elements spoilt. */
static struct uz_rounding compare(const struct stored *stored, uint64_t max_elems)
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
    int rc = uz_check_rounding(&model, max_elems, &rounding, &err);
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
        struct uz_rounding all = compare(&stored, UINT64_MAX), some = compare(&stored, 100);
        CHECK_EQ_U64(all.n_compared, 2 * N);
        CHECK_EQ_U64(all.n_differ, N_WRONG);
        CHECK_EQ_U64(all.n_packed, 0);
        CHECK_EQ_U64(some.n_compared, 2 * (100 + 50));
        CHECK_EQ_U64(some.n_differ, N_WRONG);
    }
}

static void test_packed(void)
{
    static const struct stored cases[] = {
        {.hp = UZ_PACKED_DEFLATE},
        {.lp = UZ_PACKED_DEFLATE},
        {.hp = UZ_PACKED_ZSTD, .lp = UZ_PACKED_ZSTD},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct uz_rounding rounding = compare(&cases[i], UINT64_MAX);
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
        CU_TEST_INFO_NULL,
    };
    rng_init();
    make_midpoints();
    scratch_make();
    return check_run("rounding", tests);
}
