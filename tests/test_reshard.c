/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every fixture goes from stage to stage and from world to world, and back: all weights and states
 * are the same at each station, padding is zero, and verify finds nothing.
 */
#include <fnmatch.h>

#include <unzero/consolidate.h>
#include <unzero/reshard.h>
#include <unzero/verify.h>

#include "check.h"
#include "engine/fetch.h"
#include "fixtures.h"
#include "scratch.h"
#include "zero/read.h"

enum { N_PADDING = 1 << 16 };

/* What cannot be resharded, and the words that say so. */
static const struct {
    const char *pattern, *words;
} refusals[] = {
    {"*-pp2*", "pipeline"},
    {"*-tp2*", "tensor or pipeline parallelism"},
    {"*-moe*", "experts"},
    {"*-autoep*", "experts"},
    {"good-z0-*", "stage 0"},
    {"good-stage0-*", "stage 0"},
    {"*-muon", "Muon"},
    {"*-elastic", "elastic"},
    {"good-states-*", "how it is to be cut is unknown"},
};

static size_t n_resharded;

static const char *words_of_refusal(const char *dir)
{
    const char *name = strrchr(dir, '/') + 1;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        if (fnmatch(refusals[i].pattern, name, 0) == 0)
            return refusals[i].words;
    return NULL;
}

static int reshard(const char *from, const char *to, int stage, uint64_t world,
                   struct uz_error *err)
{
    struct uz_reshard_options options;
    struct uz_resharding *job = NULL;
    uz_reshard_options_default(&options);
    options.world_size = world;
    options.stage = stage;
    options.durability = UZ_DURABLE_NONE;
    options.input.threads = 2;
    int rc = uz_resharding_plan(&job, from, to, &options, err);
    if (rc == UZ_OK)
        rc = uz_resharding_run(job, NULL, NULL, err);
    uz_resharding_free(job);
    return rc;
}

/* ---- What must hold at each station ---- */

static char *consolidated(const char *dir, size_t *nbytes)
{
    char out[PATH_NBYTES], text[2048];
    struct uz_consolidate_options options;
    struct uz_consolidation *job = NULL;
    struct uz_error err;
    uz_consolidate_options_default(&options);
    options.durability = UZ_DURABLE_NONE;
    options.state = "all";
    path_of(out, "%s/whole.safetensors", scratch_dir);
    int rc = uz_consolidation_plan(&job, dir, out, &options, &err);
    if (rc == UZ_OK)
        rc = uz_consolidation_run(job, NULL, NULL, &err);
    uz_consolidation_free(job);
    if (!CHECK_F(rc == UZ_OK, "%s: %s", dir, uz_error_format(&err, text, sizeof text)))
        return NULL;
    char *data = slurp(out, nbytes);
    remove(out);
    return data;
}

/* What is odd about values (UZV05x: NaN, infinities) comes along; nothing else may be found. */
static void check_sound(const char *dir)
{
    struct uz_verify_options options;
    struct uz_verification *run = NULL;
    struct uz_error err;
    uz_verify_options_default(&options);
    options.data = true;
    if (!CHECK(uz_verify(&run, dir, &options, NULL, NULL, &err) == UZ_OK))
        return;
    const struct uz_verify_report *report = uz_verification_report(run);
    for (size_t i = 0; i < report->n_findings; i++)
        CHECK_F(!strncmp(report->findings[i].code, "UZV05", 5), "%s: %s", dir,
                report->findings[i].message);
    CHECK(report->joined);
    uz_verification_free(run);
}

/* Clears the elements of a partition that belong to tensors. */
static void clear_pieces(const struct uz_model *model, const struct uz_partition *partition,
                         unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < model->n_pieces; i++) {
        const struct uz_piece *piece = &model->pieces[i];
        if (piece->storage == partition->place)
            memset(bytes + (piece->src - partition->first) * size, 0,
                   (size_t)piece->n_elems * size);
    }
}

static void check_partition(struct uz_fetch *fetch, const struct uz_model *model,
                            const struct uz_partition *partition)
{
    static unsigned char bytes[N_PADDING];
    struct uz_error err;
    size_t size = uz_dtype_size(partition->dtype), n_set = 0;
    if (!CHECK(partition->numel * size <= sizeof bytes) ||
        !CHECK(uz_fetch_stored(fetch, partition->place, partition->first, partition->numel,
                               partition->dtype, bytes, &err) == UZ_OK))
        return;
    clear_pieces(model, partition, bytes, size);
    for (size_t i = 0; i < partition->numel * size; i++)
        n_set += bytes[i] != 0;
    CHECK_F(n_set == 0, "rank %u, group %u: %zu bytes of padding are not zero", partition->rank,
            partition->group, n_set);
}

static void check_padding(const char *dir)
{
    struct uz_zero_options options = {.state = "all"};
    struct uz_zero_info info;
    struct uz_notes notes = {0};
    struct uz_model model;
    struct uz_fetch fetch = {0};
    struct uz_error err;
    uz_input_options_default(&options.input);
    if (!CHECK(uz_zero_read(dir, &options, &model, &info, &notes, &err) == UZ_OK))
        return;
    if (CHECK(uz_fetch_init(&fetch, &model, 1 << 16, 4, &err) == UZ_OK))
        for (size_t i = 0; i < model.n_partitions; i++)
            check_partition(&fetch, &model, &model.partitions[i]);
    uz_fetch_free(&fetch);
    uz_model_free(&model);
    uz_zero_info_free(&info);
    uz_notes_free(&notes);
}

/* ---- The way of a fixture ---- */

struct station {
    int stage;
    uint64_t world;
};

static bool go(const char *from, const char *to, const struct station *station, const char *truth,
               size_t n_truth)
{
    char text[2048];
    struct uz_error err;
    size_t n = 0;
    int rc = reshard(from, to, station->stage, station->world, &err);
    if (!CHECK_F(rc == UZ_OK, "to stage %d, %u ranks: %s", station->stage, (unsigned)station->world,
                 uz_error_format(&err, text, sizeof text)))
        return false;
    check_sound(to);
    check_padding(to);
    char *data = consolidated(to, &n);
    bool same = data && n == n_truth && !memcmp(data, truth, n);
    CHECK_F(same, "stage %d, %u ranks: other values", station->stage, (unsigned)station->world);
    free(data);
    n_resharded++;
    return same;
}

static void check_refused(const char *dir, const char *words)
{
    char to[PATH_NBYTES];
    struct uz_error err;
    path_of(to, "%s/refused", scratch_dir);
    CHECK_EQ_I64(reshard(dir, to, 2, 2, &err), UZ_UNSUPPORTED);
    CHECK_F(strstr(err.message, words) != NULL, "says: %s", err.message);
    CHECK(!path_exists(to));
}

static void check_way(const char *dir)
{
    static const struct station way[] = {{2, 3}, {3, 2}, {1, 5}, {3, 1}, {2, 1}};
    char from[PATH_NBYTES], to[PATH_NBYTES];
    const char *words = words_of_refusal(dir);
    size_t n_truth = 0;
    if (words) {
        check_refused(dir, words);
        return;
    }
    char *truth = consolidated(dir, &n_truth);
    path_of(from, "%s", dir);
    for (size_t i = 0; truth && i < sizeof way / sizeof way[0]; i++) {
        path_of(to, "%s/station-%zu", scratch_dir, i);
        if (!go(from, to, &way[i], truth, n_truth))
            break;
        if (i > 0)
            remove_tree(from);
        path_of(from, "%s", to);
    }
    remove_tree(from[0] && strcmp(from, dir) ? from : to);
    free(truth);
}

static void test_fixtures(void)
{
    each_fixture("good-*", check_way);
    each_fixture("uc-*", check_way);
    CHECK(n_resharded > 100);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"from world to world and stage to stage", test_fixtures},
        CU_TEST_INFO_NULL,
    };
    fixtures_find();
    scratch_make();
    int status = check_run("reshard", tests);
    printf("%zu checkpoints were made\n", n_resharded);
    return status;
}
