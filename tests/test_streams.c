/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of scatter order: sources that are gone through once, from front to back. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "engine_run.h"

static void test_storages(void)
{
    check_odd(30, RM_DEFLATED | RM_SWAPPED);
    check_odd(30, RM_ZSTD | RM_SWAPPED);
    check_odd(40, RM_STRIDED | RM_DEFLATED | RM_ZSTD | RM_SWAPPED);
}

/* ---- Sources that fail ---- */

/* A model whose tensors all lie in the file compressed whole. */
static void make_zstd_model(void)
{
    rm_start(&m);
    for (size_t k = 0; k < RM_MAX_TENSORS - 1; k++)
        rm_add(&m, UZ_ROLE_PARAM, UZ_DTYPE_F32, RP_PLAIN | RP_WHOLE, UZ_PACKED_ZSTD, false);
    rm_finish(&m);
}

/* A storage that a tensor needs: the tensor's first piece's. */
static const struct uz_place *wanted_place(void)
{
    for (size_t i = 0; i < m.model.n_pieces; i++)
        if (m.model.places[m.model.pieces[i].storage].packing)
            return &m.model.places[m.model.pieces[i].storage];
    return NULL;
}

static void check_bad_stream(enum fake_fault fault, bool shrunk, const char *message)
{
    struct output o;
    struct uz_engine_result result;
    struct uz_error err;
    make_zstd_model();
    const struct uz_place *place = wanted_place();
    output_make_odd(&o, &m.model, UZ_POLICY_BF16);
    if (place) { /* but for rare draws */
        fake.fault = fault;
        fake.chosen = place->entry;
        for (size_t i = 0; shrunk && i < m.n_packed; i++)
            if (m.packed[i].entry == place->entry)
                m.packed[i].nbytes = 0;
        int rc = output_run(&o, &m.model, 4096, 4096, 2, &result, &err);
        fake.fault = FAKE_GOOD;
        CHECK_EQ_I64(rc, UZ_CORRUPT);
        CHECK_EQ_STR(err.file, m.zstd_path);
        CHECK_F(strstr(err.message, message) != NULL, "%s", err.message);
    }
    output_free(&o);
    rm_free(&m);
}

static void test_bad_streams(void)
{
    for (unsigned i = 0; i < 5; i++) {
        check_bad_stream(FAKE_MISSING, false, "is not in the file");
        check_bad_stream(FAKE_TWICE, false, "is in the file twice");
        check_bad_stream(FAKE_BAD_END, false, "a bad end");
        check_bad_stream(FAKE_GOOD, true, "too short");
    }
}

/* ---- Cancelling ---- */

static atomic_bool ticked;

static void wait_for_tick(void)
{
    while (!atomic_load(&ticked))
        (void)usleep(1000);
}

static int stop_in_stream(void *cookie, uint64_t nbytes_done, uint64_t nbytes_total)
{
    (void)cookie;
    (void)nbytes_done;
    (void)nbytes_total;
    atomic_store(&ticked, true);
    return 1;
}

/* One storage of a million blocks: the job ends soon after it is told to. */
static void test_cancel_stream(void)
{
    const uint64_t numel = 16 << 20;
    struct output o;
    struct uz_plan plan;
    struct uz_engine_result result = {0};
    struct uz_error err;
    struct uz_engine_options options = {
        .threads = 2, .buffer_nbytes = 64, .progress = stop_in_stream};
    struct uz_place place = {.packing = UZ_PACKED_ZSTD, .nbytes = 4 * numel};
    struct uz_piece piece = {.n_elems = numel};
    rm_start(&m);
    place.file = m.zstd_file;
    place.entry = rm_pack(&m, UZ_PACKED_ZSTD, rm_alloc(place.nbytes), place.nbytes);
    memset(m.packed[0].bytes, 7, place.nbytes);
    rm_must(!uz_model_add_place(&m.model, &place, &piece.storage, NULL), "place");
    rm_must(!uz_model_add_tensor(&m.model, "long", 4, UZ_ROLE_PARAM, UZ_DTYPE_F32, 1, &numel,
                                 &piece.tensor, NULL),
            "tensor");
    rm_must(!uz_model_add_piece(&m.model, &piece, NULL), "piece");
    rm_finish(&m);
    output_make(&o, &m.model, UZ_POLICY_FP32, 0);
    rm_must(write_file(o.paths[0], "", 0), o.paths[0]);
    rm_must(!uz_plan_build(&plan, &m.model, &o.out, 64, NULL), "plan");
    uz_limits_default(&options.limits);
    fake.on_read = wait_for_tick;
    CHECK_EQ_I64(uz_engine_run(&plan, o.paths, &options, &result, &err), UZ_CANCELLED);
    fake.on_read = NULL;
    CHECK(atomic_load(&ticked));
    CHECK(result.nbytes_written < 4 * numel);
    uz_plan_free(&plan);
    output_free(&o);
    rm_free(&m);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"storages in any order", test_storages},
        {"streams that fail", test_bad_streams},
        {"cancelling a stream", test_cancel_stream},
        CU_TEST_INFO_NULL,
    };
    engine_run_init();
    return check_run("streams", tests);
}
