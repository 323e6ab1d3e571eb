/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of storages that are made of parts of a source's tensors, and of zeros. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "out/stored.h"

static struct uz_limits limits;

static void must(int rc)
{
    if (rc < 0)
        abort();
}

static uint32_t add_place(struct uz_model *model)
{
    uint32_t file, place;
    must(uz_model_add_file(model, "shard.pt", &file, NULL));
    const struct uz_place at = {.file = file, .nbytes = 1000};
    must(uz_model_add_place(model, &at, &place, NULL));
    return place;
}

static uint32_t add_tensor(struct uz_model *model, const char *name, uint64_t numel)
{
    uint32_t tensor;
    must(uz_model_add_tensor(model, name, strlen(name), UZ_ROLE_PARAM, UZ_DTYPE_F32, 1, &numel,
                             &tensor, NULL));
    return tensor;
}

static void add_piece(struct uz_model *model, uint32_t tensor, uint32_t place, uint64_t lo,
                      uint64_t n, uint64_t src, const struct uz_shard_map *map)
{
    const struct uz_piece piece = {tensor, place, lo, n, src, map};
    must(uz_model_add_piece(model, &piece, NULL));
}

/* w: 10 elements on two ranks, 6 and 4; v: 4 elements on the second, behind it. */
static void make_source(struct uz_model *model)
{
    must(uz_model_init(model, &limits, NULL));
    const uint32_t first = add_place(model), second = add_place(model);
    const uint32_t w = add_tensor(model, "w", 10), v = add_tensor(model, "v", 4);
    add_piece(model, w, first, 0, 6, 2, NULL);
    add_piece(model, w, second, 6, 4, 0, NULL);
    add_piece(model, v, second, 0, 4, 4, NULL);
    must(uz_model_finish(model, NULL));
}

static void check_piece(const struct uz_model *model, size_t at, uint32_t place, uint64_t lo,
                        uint64_t n, uint64_t src)
{
    const struct uz_piece *piece = &model->pieces[at];
    CHECK_F(piece->storage == place && piece->lo == lo && piece->n_elems == n && piece->src == src,
            "piece %zu: place %u, elements %u + %u, source %u", at, piece->storage,
            (unsigned)piece->lo, (unsigned)piece->n_elems, (unsigned)piece->src);
}

/* Parts of both tensors, with padding before, between and behind. */
static void test_parts(void)
{
    struct uz_model source;
    struct uz_stored stored;
    uint32_t tensor;
    make_source(&source);
    must(uz_stored_start(&stored, &source, &limits, NULL));
    must(uz_stored_open(&stored, "new", UZ_DTYPE_F32, 12, &tensor, NULL));
    CHECK_EQ_I64(uz_stored_put(&stored, 1, 0, 4, 4, NULL), UZ_OK);
    CHECK_EQ_I64(uz_stored_put(&stored, 8, 1, 1, 2, NULL), UZ_OK);
    CHECK_EQ_I64(uz_stored_close(&stored, NULL), UZ_OK);
    CHECK_EQ_U64(stored.n_zeros, 1 + 3 + 2);
    CHECK_EQ_I64(uz_model_finish(&stored.model, NULL), UZ_OK);
    if (CHECK_EQ_U64(stored.model.n_pieces, 6)) {
        check_piece(&stored.model, 0, stored.zeros, 0, 1, 0);
        check_piece(&stored.model, 1, 0, 1, 2, 6);
        check_piece(&stored.model, 2, 1, 3, 2, 0);
        check_piece(&stored.model, 3, stored.zeros, 5, 3, 0);
        check_piece(&stored.model, 4, 1, 8, 2, 5);
        check_piece(&stored.model, 5, stored.zeros, 10, 2, 0);
    }
    CHECK_EQ_U64(stored.model.places[stored.zeros].file, UZ_NONE);
    uz_stored_free(&stored);
    uz_model_free(&source);
}

/* Nothing of a tensor, nothing but padding, and a place as it is. */
static void test_edges(void)
{
    const struct uz_place place = {.file = 0, .offset = 64, .nbytes = 40};
    struct uz_model source;
    struct uz_stored stored;
    uint32_t tensor;
    make_source(&source);
    must(uz_stored_start(&stored, &source, &limits, NULL));
    must(uz_stored_open(&stored, "padding", UZ_DTYPE_F32, 3, &tensor, NULL));
    CHECK_EQ_I64(uz_stored_put(&stored, 0, 0, 5, 0, NULL), UZ_OK);
    CHECK_EQ_I64(uz_stored_close(&stored, NULL), UZ_OK);
    CHECK_EQ_U64(stored.n_zeros, 3);
    must(uz_stored_open(&stored, "next", UZ_DTYPE_F32, 10, &tensor, NULL));
    CHECK_EQ_I64(uz_stored_put(&stored, 0, 0, 0, 10, NULL), UZ_OK);
    CHECK_EQ_I64(uz_stored_close(&stored, NULL), UZ_OK);
    CHECK_EQ_U64(stored.n_zeros, 0);
    CHECK_EQ_I64(uz_stored_whole(&stored, "whole", UZ_DTYPE_F32, 10, &place, &tensor, NULL), UZ_OK);
    CHECK_EQ_U64(tensor, 2);
    CHECK_EQ_I64(uz_model_finish(&stored.model, NULL), UZ_OK);
    if (CHECK_EQ_U64(stored.model.n_pieces, 4))
        check_piece(&stored.model, 3, stored.zeros + 1, 0, 10, 0);
    uz_stored_free(&stored);
    uz_model_free(&source);
}

/* Columns 0 and 1 of a 3 x 3 tensor are in one place, column 2 in another. */
static void add_columns(struct uz_model *model, double divisor)
{
    static uint64_t shapes[2][2] = {{3, 2}, {3, 1}}, strides[2] = {3, 1};
    static uint64_t steps[2][2] = {{2, 1}, {1, 1}};
    static struct uz_shard_map maps[2];
    const uint32_t first = add_place(model), second = add_place(model);
    const uint32_t t = add_tensor(model, "columns", 9);
    for (unsigned i = 0; i < 2; i++)
        maps[i] = (struct uz_shard_map){.ndim = 2,
                                        .dst_first = 2 * (uint64_t)i,
                                        .shape = shapes[i],
                                        .dst_stride = strides,
                                        .src_stride = steps[i],
                                        .divisor = divisor};
    add_piece(model, t, first, 0, 6, 0, &maps[0]);
    add_piece(model, t, second, 0, 3, 0, &maps[1]);
}

/* What cannot be written from front to back is refused, and names the tensor. */
static void check_refusal(double divisor, const char *words)
{
    struct uz_model source;
    struct uz_stored stored;
    struct uz_error err;
    uint32_t tensor;
    must(uz_model_init(&source, &limits, NULL));
    add_columns(&source, divisor);
    must(uz_model_finish(&source, NULL));
    must(uz_stored_start(&stored, &source, &limits, NULL));
    must(uz_stored_open(&stored, "new", UZ_DTYPE_F32, 9, &tensor, NULL));
    CHECK_EQ_I64(uz_stored_put(&stored, 0, 0, 0, 9, &err), UZ_UNSUPPORTED);
    CHECK_F(strstr(err.message, "columns") && strstr(err.message, words), "says: %s", err.message);
    uz_stored_free(&stored);
    uz_model_free(&source);
}

static void test_refusals(void)
{
    check_refusal(0, "lie among one another");
    check_refusal(2, "scaled");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"parts and padding", test_parts},
        {"edges", test_edges},
        {"refusals", test_refusals},
        CU_TEST_INFO_NULL,
    };
    uz_limits_default(&limits);
    return check_run("stored", tests);
}
