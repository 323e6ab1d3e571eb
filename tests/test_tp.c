/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of joining tensor ranks and pipeline stages, against splits made by plain loops. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "check/replicas.h"
#include "engine/fetch.h"
#include "random_tp.h"
#include "zero/grid_join.h"

static struct random_tp r;

static int join(struct uz_model *model, struct uz_notes *notes, struct uz_error *err)
{
    static struct uz_limits limits;
    struct uz_tp_rules *none[RT_MAX_PP] = {0};
    uz_limits_default(&limits);
    const struct uz_grid_sources sources = {
        .grid = {.pp = r.pp, .tp = r.tp},
        .slices = r.models,
        .rules = none,
        .tp_map = r.map_path,
        .limits = &limits,
    };
    rt_must(!uz_model_init(model, &limits, NULL), "model");
    int rc = uz_grid_join(model, &sources, notes, err);
    if (rc == UZ_OK)
        rc = uz_model_finish(model, err);
    return rc;
}

/* ---- Random splits ---- */

static void check_tensor(struct uz_fetch *fetch, const struct uz_model *model,
                         const struct rt_tensor *t)
{
    static float got[RT_MAX_NUMEL];
    struct uz_error err;
    uint32_t index;
    if (!CHECK_F(uz_model_find(model, t->name, strlen(t->name), &index), "%s is there", t->name))
        return;
    const struct uz_tensor *tensor = &model->tensors[index];
    uint64_t numel = t->numel / t->shape[0] * t->kept_rows;
    CHECK_EQ_U64(tensor->ndim, t->ndim);
    CHECK_EQ_U64(tensor->shape[0], t->kept_rows);
    if (!CHECK_EQ_U64(tensor->numel, numel))
        return;
    for (unsigned k = 0; k < 3; k++) {
        uint64_t lo = k ? rng_below(numel) : 0, n = k ? 1 + rng_below(numel - lo) : numel;
        int rc = uz_fetch_elems(fetch, index, lo, n, UZ_DTYPE_F32, got, &err);
        if (CHECK_F(rc == UZ_OK, "%s: %s", t->name, err.message))
            CHECK_F(!memcmp(got, t->values + lo, n * 4), "%s, %u x %u ranks, elements %u + %u",
                    t->name, r.pp, r.tp, (unsigned)lo, (unsigned)n);
    }
}

static void check_joined(struct uz_model *model)
{
    struct uz_fetch fetch;
    struct uz_error err = {0};
    int rc = uz_check_replicas(model, 2, 1 << 12, &err);
    CHECK_F(rc == UZ_OK, "%s", err.message);
    rc = uz_fetch_check(model, &err);
    CHECK_F(rc == UZ_OK, "%s", err.message);
    rt_must(!uz_fetch_init(&fetch, model, rng_one_in(2) ? 1 << 20 : 256, 2, NULL), "fetch");
    for (size_t i = 0; i < r.n; i++)
        check_tensor(&fetch, model, &r.tensors[i]);
    uz_fetch_free(&fetch);
}

/* A byte of a copy that differs must be found. */
static void check_fault(struct uz_model *model)
{
    struct uz_error err = {0};
    if (!r.has_copy)
        return;
    r.bytes[r.copy_at] ^= (unsigned char)rng_range(1, 255);
    rt_must(write_file(r.path, r.bytes, r.used), "file");
    CHECK_EQ_I64(uz_check_replicas(model, 2, 1 << 12, &err), UZ_MISMATCH);
    CHECK_F(strstr(err.message, r.copy_name) && strstr(err.message, "the first of the elements"),
            "%s: %s", r.copy_name, err.message);
}

static void test_random(void)
{
    for (unsigned i = 0; i < 400; i++) {
        struct uz_notes notes = {0};
        struct uz_error err = {0};
        struct uz_model model;
        rt_make(&r);
        int rc = join(&model, &notes, &err);
        if (CHECK_F(rc == UZ_OK, "%s: %s", err.file, err.message)) {
            check_joined(&model);
            check_fault(&model);
        }
        uz_model_free(&model);
        uz_notes_free(&notes);
        rt_free(&r);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"random splits are joined", test_random},
        CU_TEST_INFO_NULL,
    };
    rng_init();
    scratch_make();
    return check_run("tp", tests);
}
