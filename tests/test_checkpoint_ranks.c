/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints of several tensor ranks and pipeline stages, opened rank by rank: a rank's partitions
 * link to its shards, and each element of each shard is where it must be in the joined tensor, by
 * plain loops over indices.
 */
#include <unzero/checkpoint.h>

#include "check.h"
#include "fixtures.h"
#include "safetensors_reader.h"

static const char *message(const struct uz_error *err)
{
    static char text[3072];
    return uz_error_format(err, text, sizeof text);
}

struct grid {
    const char *fixture;
    unsigned n_ranks, n_tp;
    const char *halves; /* part of the names whose shards are two halves, cut each */
    size_t n_shards;    /* of weights with elements, on all ranks together */
};

static struct uz_checkpoint *open_rank(const char *fixture, int64_t rank)
{
    struct uz_checkpoint *checkpoint = NULL;
    struct uz_checkpoint_options options;
    struct uz_error err;
    char path[PATH_NBYTES];
    uz_checkpoint_options_default(&options);
    options.spool_dir = scratch_dir;
    options.model_parallel_rank = rank;
    int rc = uz_checkpoint_open(&checkpoint, path_of(path, "%s/%s", fixtures_dir, fixture),
                                &options, &err);
    CHECK_F(rc == UZ_OK, "%s rank %d: %s", fixture, (int)rank, message(&err));
    return checkpoint;
}

/* Element i of tensor rank tp's shard as an element of the whole tensor; of two ranks at most. */
static uint64_t whole_index(const struct grid *grid, const struct uz_tensor_info *shard,
                            const struct st_tensor *whole, unsigned tp, uint64_t i)
{
    uint64_t n_columns = shard->ndim > 1 ? shard->shape[1] : 1;
    uint64_t row = i / n_columns, column = i % n_columns, n_rows = shard->shape[0];
    if (shard->ndim > 1 && whole->shape[1] > n_columns)
        return row * whole->shape[1] + (tp ? whole->shape[1] - n_columns : 0) + column;
    if (whole->shape[0] <= n_rows)
        return i; /* the same on all ranks; rows beyond are padding of the vocabulary */
    if (!grid->halves || !strstr(shard->name, grid->halves))
        return ((tp ? whole->shape[0] - n_rows : 0) + row) * n_columns + column;
    uint64_t half = n_rows / 2;
    uint64_t to = row < half ? tp * half + row : 2 * half + tp * half + row - half;
    return to * n_columns + column;
}

static void compare_shard(const struct grid *grid, const struct uz_tensor_info *shard,
                          const float *values, const struct st_tensor *whole, unsigned tp,
                          bool *seen)
{
    for (uint64_t i = 0; i < shard->numel; i++) {
        uint64_t at = whole_index(grid, shard, whole, tp, i);
        float want;
        if (at >= whole->numel)
            continue;
        memcpy(&want, whole->data + 4 * at, 4);
        if (!CHECK_F(!memcmp(&want, &values[i], 4), "%s, tensor rank %u, element %llu", shard->name,
                     tp, (unsigned long long)i))
            return;
        seen[at] = true;
    }
}

/* The whole shard from all data-parallel ranks' fragments, weights or a state. */
static void check_shard(const struct grid *grid, struct uz_checkpoint *checkpoint, size_t index,
                        const char *key, const struct st_tensor *whole, unsigned tp, bool *seen)
{
    struct uz_tensor_info shard = uz_checkpoint_tensor(checkpoint, index);
    struct uz_linked_param *linked = NULL;
    struct uz_error err;
    float *values = calloc((size_t)shard.numel + 1, sizeof *values);
    if (!values)
        abort();
    int rc = uz_checkpoint_link(checkpoint, index, &linked, &err);
    if (CHECK_F(rc == UZ_OK, "%s: %s", shard.name, message(&err))) {
        CHECK_EQ_U64(linked->n_ranks, 2);
        for (size_t rank = 0; rank < linked->n_ranks; rank++) {
            rc = uz_get_full_hp_param(&linked->ranks[rank], key, values, shard.numel, &err);
            if (CHECK_F(rc == UZ_OK, "%s: %s", shard.name, message(&err)))
                compare_shard(grid, &shard, values, whole, tp, seen);
        }
    }
    uz_linked_param_free(linked);
    free(values);
}

/* One joined tensor against the shards of all ranks that have some of it. */
static size_t check_tensor(const struct grid *grid, struct uz_checkpoint *const *ranks,
                           const struct st_tensor *whole)
{
    const char *name = strchr(whole->name, '/') + 1;
    char kind[64];
    size_t n_shards = 0, index;
    snprintf(kind, sizeof kind, "%.*s", (int)(name - whole->name - 1), whole->name);
    const char *key = strcmp(kind, "fp32") ? kind : NULL;
    if (!strcmp(kind, "buffer") || !strcmp(kind, "frozen"))
        return 0;
    bool *seen = calloc((size_t)whole->numel + 1, sizeof *seen);
    if (!seen)
        abort();
    for (unsigned mp = 0; mp < grid->n_ranks; mp++) {
        if (!ranks[mp] || uz_checkpoint_find(ranks[mp], name, &index, NULL) < 0)
            continue; /* on another stage */
        check_shard(grid, ranks[mp], index, key, whole, mp % grid->n_tp, seen);
        n_shards += key == NULL;
    }
    for (uint64_t i = 0; i < whole->numel; i++)
        if (!CHECK_F(seen[i], "%s: no rank has element %llu", whole->name, (unsigned long long)i))
            break;
    free(seen);
    return n_shards;
}

static void check_grid(const struct grid *grid)
{
    struct uz_checkpoint *ranks[8] = {0};
    struct st_file truth;
    char path[PATH_NBYTES];
    size_t n_shards = 0;
    path_of(path, "%s/%s/expected.safetensors", fixtures_dir, grid->fixture);
    if (!CHECK_F(st_read(&truth, path), "%s", truth.error))
        return;
    for (unsigned mp = 0; mp < grid->n_ranks; mp++)
        ranks[mp] = open_rank(grid->fixture, mp);
    for (size_t i = 0; i < truth.n; i++)
        n_shards += check_tensor(grid, ranks, &truth.tensors[i]);
    CHECK_EQ_U64(n_shards, grid->n_shards);
    for (unsigned mp = 0; mp < grid->n_ranks; mp++)
        uz_checkpoint_close(ranks[mp]);
    st_free(&truth);
}

static void test_ranks(void)
{
    static const struct grid grids[] = {
        {"good-z1-fp32-pp2-tp2-dp2", 4, 2, ".up.", 34},
        {"good-z2-bf16-tp2-dp2", 2, 2, NULL, 24},
        {"good-z3-bf16-tp2-dp2", 2, 2, NULL, 24},
        {"good-z1-bf16-pp2-dp2-tied", 2, 1, NULL, 12},
        {"good-z0-bf16-pp2-dp2-tied", 2, 1, NULL, 12},
    };
    for (size_t i = 0; i < sizeof grids / sizeof grids[0]; i++)
        check_grid(&grids[i]);
}

/* Joined, what is cut by tensor ranks has no partitions of its own, and says so; the rest has. */
static void test_joined(void)
{
    struct uz_checkpoint *checkpoint = open_rank("good-z1-fp32-pp2-tp2-dp2", -1);
    size_t n_linked = 0, n_cut = 0;
    if (!checkpoint)
        return;
    for (size_t i = 0; i < uz_checkpoint_info(checkpoint)->n_tensors; i++) {
        struct uz_linked_param *linked;
        struct uz_error err;
        int rc = uz_checkpoint_link(checkpoint, i, &linked, &err);
        if (rc == UZ_OK) {
            n_linked++;
            uz_linked_param_free(linked);
        } else {
            CHECK_EQ_I64(rc, UZ_UNSUPPORTED);
            CHECK(strstr(err.message, "model_parallel_rank") != NULL);
            n_cut++;
        }
    }
    CHECK_EQ_U64(n_linked, 7); /* the embedding and the layer norms */
    CHECK_EQ_U64(n_cut, 9);
    uz_checkpoint_close(checkpoint);
}

/* ---- Which files a rank of another grid is made of ---- */

/* Of 2 x 2 x 2 ranks, number dp * 4 + mp; facts of DeepSpeed's test_reshape_checkpoint.py. */
static const struct {
    unsigned pp, tp; /* of the other grid */
    unsigned stage, rank;
    unsigned files[8];
    size_t n;
} reshapes[] = {
    {1, 1, 0, 0, {0, 4, 1, 5, 2, 6, 3, 7}, 8}, /* 222 to 111 */
    {1, 2, 0, 0, {0, 4, 2, 6}, 4},             /* 222 to 121; to 122: half of it each */
    {1, 2, 0, 1, {1, 5, 3, 7}, 4},
    {2, 1, 0, 0, {0, 4, 1, 5}, 4}, /* 222 to 211 */
    {2, 1, 1, 0, {2, 6, 3, 7}, 4},
};

/* Bits of the data-parallel ranks that the tensors of some layers are spread over. */
static unsigned ranks_of_layers(struct uz_checkpoint *checkpoint, unsigned first, unsigned last)
{
    unsigned bits = 0;
    for (size_t i = 0; i < uz_checkpoint_info(checkpoint)->n_tensors; i++) {
        unsigned layer = (unsigned)strtoul(uz_checkpoint_tensor(checkpoint, i).name, NULL, 10);
        struct uz_linked_param *linked = NULL;
        if (layer < first || layer > last ||
            !CHECK_EQ_I64(uz_checkpoint_link(checkpoint, i, &linked, NULL), UZ_OK))
            continue;
        for (unsigned dp = 0; dp < linked->n_ranks; dp++)
            bits |= linked->ranks[dp].hp_mapping ? 1u << dp : 0;
        uz_linked_param_free(linked);
    }
    return bits;
}

/* Layers are 0 (tied, without a number in its name), 1, 2 on stage 0, and 3, 4 (tied) on stage 1.
 */
static void test_reshapes(void)
{
    struct uz_checkpoint *ranks[4];
    for (unsigned mp = 0; mp < 4; mp++)
        ranks[mp] = open_rank("good-z1-fp32-pp2-tp2-dp2", mp);
    for (size_t i = 0; i < sizeof reshapes / sizeof reshapes[0]; i++) {
        unsigned want = 0, got = 0;
        unsigned first = reshapes[i].pp == 2 && reshapes[i].stage == 1 ? 3 : 1;
        unsigned last = reshapes[i].pp == 2 && reshapes[i].stage == 0 ? 2 : 4;
        for (size_t k = 0; k < reshapes[i].n; k++)
            want |= 1u << reshapes[i].files[k];
        for (unsigned mp = 0; mp < 4; mp++) {
            if (!ranks[mp] || (reshapes[i].tp == 2 && mp % 2 != reshapes[i].rank))
                continue;
            unsigned bits = ranks_of_layers(ranks[mp], first, last);
            for (unsigned dp = 0; dp < 2; dp++)
                got |= (bits >> dp & 1) << (dp * 4 + mp);
        }
        CHECK_F(got == want, "to %u x %u, rank %u, %u: files %#x, not %#x", reshapes[i].pp,
                reshapes[i].tp, reshapes[i].stage, reshapes[i].rank, got, want);
    }
    for (unsigned mp = 0; mp < 4; mp++)
        uz_checkpoint_close(ranks[mp]);
}

static void check_no_rank(const char *fixture, int64_t rank, int want)
{
    struct uz_checkpoint *checkpoint = NULL;
    struct uz_checkpoint_options options;
    struct uz_error err;
    char path[PATH_NBYTES];
    uz_checkpoint_options_default(&options);
    options.model_parallel_rank = rank;
    CHECK_EQ_I64(uz_checkpoint_open(&checkpoint, path_of(path, "%s/%s", fixtures_dir, fixture),
                                    &options, &err),
                 want);
    uz_checkpoint_close(checkpoint);
}

static void test_no_such_rank(void)
{
    check_no_rank("good-z2-bf16-tp2-dp2", 2, UZ_ARG);
    check_no_rank("good-z2-bf16-tp2-dp2", 1ll << 32, UZ_ARG);
    check_no_rank("good-z2-bf16-w1", 0, UZ_OK);
    check_no_rank("good-z2-bf16-w1", 1, UZ_ARG);
    check_no_rank("uc-z2-bf16-w2-2groups-tiny", 0, UZ_ARG);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"shards of all ranks", test_ranks},
        {"joined tensors", test_joined},
        {"ranks of other grids", test_reshapes},
        {"ranks that are not there", test_no_such_rank},
        CU_TEST_INFO_NULL,
    };
    fixtures_find();
    scratch_make();
    return check_run("checkpoint ranks", tests);
}
