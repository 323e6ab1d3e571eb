/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of diff: element by element, and every fixture against its own consolidation. */
#include <math.h>
#include <stdlib.h>

#include <unzero/diff.h>

#include "check.h"
#include "check/compare.h"
#include "fixtures.h"
#include "safetensors_reader.h"
#include "scratch.h"

static char out[PATH_NBYTES];

/* ---- Elements ---- */

struct elem_case {
    enum uz_dtype a_dtype, b_dtype;
    uint64_t a, b;                   /* bits */
    bool equal, passes_zero, rounds; /* passes_zero: with atol = 0 and ulp = 0 */
    double abs;
    uint64_t ulp;
};

#define F32   UZ_DTYPE_F32
#define BF16  UZ_DTYPE_BF16
#define F16   UZ_DTYPE_F16
#define F64   UZ_DTYPE_F64
#define I64   UZ_DTYPE_I64
#define INF32 0x7f800000

static const struct elem_case elems[] = {
    {F32, F32, 0x3f800000, 0x3f800000, true, true, true, 0, 0},
    {F32, F32, 0x3f800000, 0x3f800001, false, false, false, 0x1p-23, 1},
    {F32, F32, 0x3f800000, 0x3f7fffff, false, false, false, 0x1p-24, 1},
    {F32, F32, 0, 0x80000000, false, true, false, 0, 0}, /* +0, -0 */
    {F32, F32, 1, 0x80000001, false, false, false, 0x1p-148, 2},
    {F32, F32, 0x7fc00000, 0x7fc00000, true, true, true, 0, 0},
    {F32, F32, 0x7fc00000, 0x7fc00001, false, true, true, 0, 0}, /* NaN of two payloads */
    {F32, F32, 0x7fc00000, 0x3f800000, false, false, false, 0, 0},
    {F32, F32, INF32, 0xff800000, false, false, false, INFINITY, 0xff000000},
    {F32, F32, INF32, 0x7f7fffff, false, false, false, INFINITY, 1},
    {F32, BF16, 0x3f800000, 0x3f80, true, true, true, 0, 0},
    {F32, BF16, 0x3f808000, 0x3f80, false, true, true, 0x1p-8, 0}, /* a tie, to even */
    {F32, BF16, 0x3f818000, 0x3f82, false, true, true, 0x1p-8, 0},
    {F32, BF16, 0x3f808001, 0x3f80, false, false, false, 0x1.0002p-8, 1},
    {BF16, F32, 0x3f80, 0x3f808001, false, false, false, 0x1.0002p-8, 1},
    {F32, BF16, 0x80000000, 0, false, true, false, 0, 0},
    {F32, BF16, 0x7fc12345, 0x7fc1, true, true, true, 0, 0},
    {F32, F16, 0x47800000, 0x7c00, false, true, true, INFINITY, 0}, /* 65536 rounds to infinity */
    {F32, F16, 0x477fe000, 0x7c00, false, false, false, INFINITY, 1},
    {BF16, F16, 0x3f80, 0x3c00, true, true, true, 0, 0},
    {BF16, F16, 0x3f80, 0x3c01, false, true, true, 0x1p-10, 0},
    {F64, F32, 0x3ff0000000000000, 0x3f800000, true, true, true, 0, 0},
    {F64, F32, 0x3ff0000000000001, 0x3f800000, false, true, true, 0x1p-52, 0},
    /* just above a tie of bf16: through fp32 it would round to the tie, and then down */
    {F64, BF16, 0x3ff0100000000001, 0x3f81, false, true, true, 0x1p-8 - 0x1p-52, 0},
    {F64, BF16, 0x3ff0100000000000, 0x3f80, false, true, true, 0x1p-8, 0},
    {I64, I64, 5, 7, false, false, false, 2, 0},
    {I64, UZ_DTYPE_I32, 5, 5, true, true, true, 0, 0},
    {I64, UZ_DTYPE_I8, UINT64_MAX, 0xff, true, true, true, 0, 0},
    {I64, UZ_DTYPE_U64, UINT64_MAX, UINT64_MAX, false, false, false, 0x1p64, 0},
    {I64, I64, 0x8000000000000000, 0x7fffffffffffffff, false, false, false, 0x1p64, 0},
    {UZ_DTYPE_F8_E4M3FN, UZ_DTYPE_F8_E4M3FN, 1, 1, true, true, true, 0, 0},
    {UZ_DTYPE_F8_E4M3FN, UZ_DTYPE_F8_E4M3FN, 1, 2, false, false, false, 0, 0},
};

static void test_elements(void)
{
    for (size_t i = 0; i < sizeof elems / sizeof elems[0]; i++) {
        const struct elem_case *c = &elems[i];
        for (int tolerant = 0; tolerant < 2; tolerant++) {
            struct uz_diff_options options;
            struct uz_comparer comparer;
            struct uz_difference d;
            uz_diff_options_default(&options);
            options.has_tolerance = options.has_ulp = tolerant;
            uz_comparer_init(&comparer, c->a_dtype, c->b_dtype, &options);
            uz_difference_init(&d);
            uz_compare(&comparer, &c->a, &c->b, 1, 40,
                       &d); /* tests run on little-endian machines */
            CHECK_F(d.n_differ == !c->equal, "case %zu: equal", i);
            CHECK_F(d.n_beyond == !(tolerant ? c->passes_zero : c->equal), "case %zu: passes", i);
            CHECK_F((d.n_unrounded == 0) == c->rounds, "case %zu: rounds", i);
            CHECK_F(d.max_ulp == c->ulp, "case %zu: %" PRIu64 " ulp", i, d.max_ulp);
            CHECK_F(!(d.max_abs < c->abs) && !(d.max_abs > c->abs), "case %zu: abs %a", i,
                    d.max_abs);
            CHECK_F(d.first == (c->equal ? UINT64_MAX : 40), "case %zu: first", i);
        }
    }
}

static void test_tolerances(void)
{
    static const float a[] = {1.0F, 1.25F, 100.0F, -1.0F}, b[] = {1.0F, 1.0F, 101.0F, 1.0F};
    struct uz_diff_options options;
    struct uz_comparer comparer;
    static const struct {
        double atol, rtol;
        uint64_t n_beyond;
    } cases[] = {{0, 0, 3}, {0.25, 0, 2}, {0.24, 0, 3}, {1, 0, 1},
                 {2, 0, 0}, {0, 0.01, 2}, {0, 0.25, 1}, {0.24, 0.01, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct uz_difference d, part;
        uz_diff_options_default(&options);
        options.has_tolerance = true;
        options.atol = cases[i].atol;
        options.rtol = cases[i].rtol;
        uz_comparer_init(&comparer, F32, F32, &options);
        uz_difference_init(&d);
        for (size_t k = 4; k-- > 0;) { /* in any order and parts */
            uz_difference_init(&part);
            uz_compare(&comparer, &a[k], &b[k], 1, k, &part);
            uz_difference_merge(&d, &part);
        }
        CHECK_F(d.n_beyond == cases[i].n_beyond, "case %zu: %" PRIu64, i, d.n_beyond);
        CHECK_EQ_U64(d.n_differ, 3);
        CHECK_EQ_U64(d.first, 1);
        CHECK(fabs(d.max_abs - 2) < 1e-12 && fabs(d.max_rel - 2) < 1e-12);
    }
}

/* ---- Fixtures ---- */

static bool consolidate(const char *path, enum uz_precision precision)
{
    struct uz_consolidate_options options;
    struct uz_consolidation *job = NULL;
    struct uz_error err;
    uz_consolidate_options_default(&options);
    options.precision = precision;
    options.durability = UZ_DURABLE_NONE;
    options.input.threads = 1;
    options.max_shard_bytes = 2000; /* some come to an index, some to one file */
    remove_tree(out);
    int rc = uz_consolidation_plan(&job, path, out, &options, &err);
    if (rc == UZ_OK)
        rc = uz_consolidation_run(job, NULL, NULL, &err);
    uz_consolidation_free(job);
    return CHECK_F(rc == UZ_OK, "%s: %s", path, err.message);
}

static struct uz_diff *diff(const char *a, const char *b, bool round)
{
    struct uz_diff_options options;
    struct uz_diff *made = NULL;
    struct uz_error err;
    uz_diff_options_default(&options);
    options.input.threads = 2;
    options.has_ulp = round;
    options.scratch_dir = scratch_dir;
    int rc = uz_diff_run(&made, a, b, &options, NULL, NULL, &err);
    CHECK_F(rc == UZ_OK, "%s %s: %s", a, b, err.message);
    return made;
}

static void check_fixture(const char *path)
{
    static const struct uz_diff_result none = {0};
    for (int swap = 0; swap < 2; swap++) {
        if (!consolidate(path, UZ_PRECISION_FP32))
            return;
        struct uz_diff *d = diff(swap ? out : path, swap ? path : out, false);
        const struct uz_diff_result *r = d ? uz_diff_result(d) : &none;
        CHECK_F(r->same && r->n_equal > 0 && r->n_equal == r->n_tensors, "%s: %s", path,
                d ? r->tensors[0].name : "-");
        uz_diff_free(d);
    }
    if (!consolidate(path, UZ_PRECISION_BF16))
        return;
    struct uz_diff *d = diff(path, out, true);
    const struct uz_diff_result *r = d ? uz_diff_result(d) : &none;
    CHECK_F(r->same && r->n_equal + r->n_rounded == r->n_tensors, "%s: %s", path,
            d ? r->tensors[0].name : "-");
    uz_diff_free(d);
}

static void test_fixtures(void)
{
    each_fixture("good-*", check_fixture);
}

/* Changes one element of every tensor in turn by one ulp: exactly that is reported. */
static void test_one_ulp(void)
{
    char checkpoint[PATH_NBYTES], file[PATH_NBYTES];
    struct st_file st;
    unsigned n_changed = 0, n_rounded = 0;
    path_of(checkpoint, "%s/good-z3-bf16-w2-frozen-tied", fixtures_dir);
    path_of(file, "%s/one.safetensors", scratch_dir);
    path_of(out, "%s", file);
    if (!consolidate(checkpoint, UZ_PRECISION_FP32) || !CHECK(st_read(&st, file)))
        return;
    for (size_t i = 0; i < st.n; i++) {
        const struct st_tensor *tensor = &st.tensors[i];
        if (strcmp(tensor->dtype, "F32") != 0 || tensor->numel == 0)
            continue;
        uint64_t at = (uint64_t)i * 37 % tensor->numel;
        char *byte = st.bytes + (tensor->data - (const unsigned char *)st.bytes) + 4 * at;
        *byte ^= 1;
        CHECK(write_file(file, st.bytes, st.nbytes));
        struct uz_diff *d = diff(checkpoint, file, false);
        *byte ^= 1;
        if (!d)
            continue;
        const struct uz_diff_result *r = uz_diff_result(d);
        CHECK(!r->same);
        /* of a frozen bf16 one, the changed value still rounds to what is stored */
        bool rounds = r->tensors[0].a.dtype == UZ_DTYPE_BF16;
        CHECK_EQ_U64(r->n_equal, r->n_tensors - 1);
        CHECK_EQ_STR(r->tensors[0].name, tensor->name);
        CHECK_EQ_U64(r->tensors[0].verdict, rounds ? UZ_DIFF_ROUNDED : UZ_DIFF_VALUES);
        CHECK_EQ_U64(r->tensors[0].n_differ, 1);
        CHECK_EQ_U64(r->tensors[0].first, at);
        CHECK_EQ_U64(r->tensors[0].max_ulp, rounds ? 0 : 1);
        n_rounded += rounds;
        uz_diff_free(d);
        n_changed++;
    }
    CHECK(n_rounded > 0 && n_changed - n_rounded > 5);
    st_free(&st);
    path_of(out, "%s/out", scratch_dir);
}

/* Two stages of one training hold different values under the same names. */
static void test_other_values(void)
{
    char a[PATH_NBYTES], b[PATH_NBYTES];
    path_of(a, "%s/good-z2-bf16-w2-2groups-tiny/global_step3", fixtures_dir);
    path_of(b, "%s/good-z2-bf16-w2-2groups-tiny/global_step4", fixtures_dir);
    struct uz_diff *d = diff(a, b, false);
    if (!d)
        return;
    const struct uz_diff_result *r = uz_diff_result(d);
    CHECK(!r->same && r->n_differ > 5 && r->n_only_a == 0 && r->n_only_b == 0);
    for (size_t i = 0; i + 1 < r->n_tensors; i++)
        CHECK(r->tensors[i].passes <= r->tensors[i + 1].passes);
    uz_diff_free(d);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"elements", test_elements},         {"tolerances", test_tolerances},
        {"fixtures", test_fixtures},         {"one ulp", test_one_ulp},
        {"other values", test_other_values}, CU_TEST_INFO_NULL,
    };
    fixtures_find();
    scratch_make();
    path_of(out, "%s/out", scratch_dir);
    return check_run("diff", tests);
}
