/* SPDX-License-Identifier: Apache-2.0 */
/* Tests that every cap on the input, and the bound on memory, is kept. */
#include <stdlib.h>

#include <unzero/consolidate.h>

#include "check.h"
#include "scratch.h"

static char checkpoint[PATH_NBYTES], out[PATH_NBYTES];

/* The status of planning with these options; the summary's estimate of memory in *memory_nbytes. */
static int plan(const struct uz_consolidate_options *options, struct uz_error *err,
                uint64_t *memory_nbytes, unsigned *threads)
{
    struct uz_consolidation *job = NULL;
    int rc = uz_consolidation_plan(&job, checkpoint, out, options, err);
    if (rc == UZ_OK) {
        *memory_nbytes = uz_consolidation_summary(job)->memory_nbytes;
        *threads = uz_consolidation_summary(job)->threads;
    }
    uz_consolidation_free(job);
    return rc;
}

/* Raises a cap from nothing on: UZ_LIMIT until it is high enough, and never again after that. */
static void check_cap(const char *name, struct uz_consolidate_options *options, uint64_t *cap)
{
    const uint64_t normal = *cap;
    uint64_t memory_nbytes;
    unsigned threads, n_refused = 0;
    bool enough = false;
    for (*cap = 0; *cap < normal; *cap = *cap + *cap / 4 + 1) {
        struct uz_error err;
        int rc = plan(options, &err, &memory_nbytes, &threads);
        enough |= rc == UZ_OK;
        n_refused += rc == UZ_LIMIT;
        if (!CHECK_F(rc == (enough ? UZ_OK : UZ_LIMIT), "%s %" PRIu64 ": %s: %s: %s", name, *cap,
                     uz_status_name(rc), err.file, err.message))
            break;
        if (enough && *cap > 1000000)
            break;
    }
    CHECK_F(n_refused > 0, "%s: 0 is enough", name);
    CHECK_F(enough, "%s: the default is only just enough", name);
    *cap = normal;
}

static void test_caps(void)
{
    struct uz_consolidate_options options;
    struct uz_limits *limits = &options.input.limits;
    uz_consolidate_options_default(&options);
    options.input.threads = 1;
    check_cap("max_pickle_bytes", &options, &limits->max_pickle_bytes);
    check_cap("max_pickle_nodes", &options, &limits->max_pickle_nodes);
    check_cap("max_pickle_arena", &options, &limits->max_pickle_arena);
    check_cap("max_pickle_stack", &options, &limits->max_pickle_stack);
    check_cap("max_pickle_memo", &options, &limits->max_pickle_memo);
    check_cap("max_zip_entries", &options, &limits->max_zip_entries);
    check_cap("max_name_bytes", &options, &limits->max_name_bytes);
    check_cap("max_tensors", &options, &limits->max_tensors);
    check_cap("max_shards", &options, &limits->max_shards);
    check_cap("max_header_bytes", &options, &limits->max_header_bytes);
    CHECK_F(!path_exists(out), "planning wrote something");
}

static void test_max_memory(void)
{
    struct uz_consolidate_options options;
    struct uz_error err;
    uint64_t free_nbytes = 0, memory_nbytes = 0, least = 0, n_refused = 0;
    unsigned threads = 0, least_threads = 0;
    uz_consolidate_options_default(&options);
    options.input.threads = 8;
    CHECK_EQ_I64(plan(&options, &err, &free_nbytes, &threads), UZ_OK);
    CHECK_EQ_U64(threads, 8);
    CHECK(free_nbytes > 0);
    for (options.max_memory = 100000; options.max_memory < 4 * free_nbytes;
         options.max_memory += options.max_memory / 64) {
        int rc = plan(&options, &err, &memory_nbytes, &threads);
        if (rc == UZ_LIMIT && least == 0) {
            n_refused++;
            CHECK(strstr(err.message, "--max-memory") != NULL);
            continue;
        }
        if (!CHECK_F(rc == UZ_OK, "%" PRIu64 ": %s", options.max_memory, err.message))
            return;
        CHECK_F(memory_nbytes <= options.max_memory, "%" PRIu64 " allowed, %" PRIu64 " taken",
                options.max_memory, memory_nbytes);
        if (least == 0) {
            least = options.max_memory;
            least_threads = threads;
        }
    }
    CHECK(n_refused > 0);
    CHECK_EQ_U64(least_threads, 1);           /* the least means one thread ... */
    CHECK_EQ_U64(threads, 8);                 /* ... and plenty means all, */
    CHECK_EQ_U64(memory_nbytes, free_nbytes); /* and no more than without a bound */
    CHECK(least > 0 && least < free_nbytes);
}

/* What is told to fit must run: the output of the tightest fit equals that of the loosest. */
static void test_least_memory_runs(void)
{
    char path[PATH_NBYTES];
    char *data[2] = {NULL, NULL};
    size_t nbytes[2] = {0, 0};
    for (unsigned i = 0; i < 2; i++) {
        struct uz_consolidate_options options;
        struct uz_consolidation *job = NULL;
        struct uz_error err;
        int rc = UZ_LIMIT;
        uz_consolidate_options_default(&options);
        options.durability = UZ_DURABLE_NONE;
        for (options.max_memory = i; rc == UZ_LIMIT; options.max_memory += 100000)
            rc = uz_consolidation_plan(&job, checkpoint, out, &options, &err);
        if (CHECK_F(rc == UZ_OK, "%s", err.message))
            CHECK_EQ_I64(uz_consolidation_run(job, NULL, NULL, &err), UZ_OK);
        data[i] = slurp(path_of(path, "%s/model.safetensors", out), &nbytes[i]);
        uz_consolidation_free(job);
        remove_tree(out);
    }
    if (CHECK(data[0] && data[1] && nbytes[0] == nbytes[1]))
        CHECK_EQ_MEM(data[1], data[0], nbytes[0]);
    free(data[0]);
    free(data[1]);
}

static void test_options_out_of_range(void)
{
    struct uz_consolidate_options options;
    struct uz_error err;
    uint64_t memory_nbytes;
    unsigned threads;
    uz_consolidate_options_default(&options);
    options.precision = (enum uz_precision)(UZ_PRECISION_AUTO + 1);
    CHECK_EQ_I64(plan(&options, &err, &memory_nbytes, &threads), UZ_ARG);
    options.precision = UZ_PRECISION_KEEP;
    options.durability = (enum uz_durability) - 1;
    CHECK_EQ_I64(plan(&options, &err, &memory_nbytes, &threads), UZ_ARG);
    CHECK_EQ_I64(plan(&options, NULL, &memory_nbytes, &threads), UZ_ARG);
    uz_consolidation_free(NULL);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"every cap is kept", test_caps},
        {"max_memory bounds the estimate", test_max_memory},
        {"the least memory is enough", test_least_memory_runs},
        {"options out of range", test_options_out_of_range},
        CU_TEST_INFO_NULL,
    };
    const char *srcdir = getenv("srcdir"), *fixtures = getenv("UNZERO_FIXTURES");
    const char *name = "good-z2-bf16-w2-2groups-tiny";
    scratch_make();
    path_of(out, "%s/out", scratch_dir);
    if (fixtures)
        path_of(checkpoint, "%s/%s", fixtures, name);
    else
        path_of(checkpoint, "%s/fixtures/%s", srcdir ? srcdir : ".", name);
    return check_run("limits", tests);
}
