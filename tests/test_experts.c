/* SPDX-License-Identifier: Apache-2.0 */
/* Which ranks hold which expert, against lists made by the rule as DeepSpeed writes it down. */
#include "layout/split.h"
#include "tests/check.h"

enum { MAX_WORLD = 16 };

/* The ranks that share the experts of one expert-parallel rank, in the order of their parts. */
struct replicas {
    uint64_t ranks[MAX_WORLD];
    uint64_t n;
};

/*
 * utils/groups.py, _create_expert_and_data_parallel: range(i, world, ep), or with data before
 * experts range(i * world / ep, (i + 1) * world / ep).
 */
static void list_replicas(uint64_t world, uint64_t ep, bool data_first, struct replicas *of)
{
    for (uint64_t e = 0; e < ep; e++) {
        of[e].n = 0;
        uint64_t step = data_first ? 1 : ep;
        uint64_t first = data_first ? e * (world / ep) : e;
        uint64_t end = data_first ? (e + 1) * (world / ep) : world;
        for (uint64_t rank = first; rank < end; rank += step)
            of[e].ranks[of[e].n++] = rank;
    }
}

static void check_split(uint64_t world, uint64_t ep, bool data_first)
{
    struct uz_expert_ranks split = {world, ep, data_first};
    struct replicas of[MAX_WORLD];
    unsigned n_held[MAX_WORLD] = {0};
    list_replicas(world, ep, data_first, of);
    for (uint64_t e = 0; e < ep; e++) {
        CHECK_EQ_U64(of[e].n, world / ep);
        for (uint64_t part = 0; part < of[e].n; part++) {
            uint64_t rank = of[e].ranks[part], ep_rank = UINT64_MAX, found = UINT64_MAX;
            uz_expert_place(&split, rank, &ep_rank, &found);
            CHECK_EQ_U64(ep_rank, e);
            CHECK_EQ_U64(found, part);
            n_held[rank]++;
        }
    }
    for (uint64_t rank = 0; rank < world; rank++)
        CHECK_EQ_U64(n_held[rank], 1);
}

static void test_ranks(void)
{
    for (uint64_t world = 1; world <= MAX_WORLD; world++)
        for (uint64_t ep = 1; ep <= world; ep++)
            if (world % ep == 0) {
                check_split(world, ep, false);
                check_split(world, ep, true);
            }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"every rank holds the part that DeepSpeed's groups give it", test_ranks},
        CU_TEST_INFO_NULL,
    };
    return check_run("experts", tests);
}
