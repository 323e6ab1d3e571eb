/* SPDX-License-Identifier: Apache-2.0 */
/* Stage 0's masters without names: the fit against all ways that there are. */
#include "zero/stage0_fit.h"

#include "check.h"
#include "rng.h"

enum { MAX_CANDIDATES = 8, MAX_GROUPS = 3, MAX_PLACES = 24 };

/* Values: candidate c is `weights[c]` places of its value; a group holds values place by place. */
struct puzzle {
    struct uz_fit fit;
    uint64_t weights[MAX_CANDIDATES], totals[MAX_GROUPS];
    int values[MAX_CANDIDATES];
    int groups[MAX_GROUPS][MAX_PLACES];
};

static bool stands_at(const struct puzzle *p, size_t c, size_t group, uint64_t place)
{
    for (uint64_t i = 0; i < p->weights[c]; i++)
        if (p->groups[group][place + i] != p->values[c])
            return false;
    return true;
}

static int matches(void *cookie, size_t candidate, size_t group, uint64_t place, bool *matches,
                   struct uz_error *err)
{
    const struct puzzle *p = cookie;
    (void)err;
    CHECK(place + p->weights[candidate] <= p->totals[group]);
    *matches = stands_at(p, candidate, group, place);
    return UZ_OK;
}

/* Tries every choice of a group for every candidate. */
static unsigned count_ways(const struct puzzle *p, int *last_way)
{
    unsigned n_ways = 0, n_choices = 1;
    size_t n = p->fit.n_candidates, n_groups = p->fit.n_groups;
    for (size_t c = 0; c < n; c++)
        n_choices *= (unsigned)n_groups + 1;
    for (unsigned choice = 0; choice < n_choices; choice++) {
        uint64_t fills[MAX_GROUPS] = {0};
        int way[MAX_CANDIDATES];
        bool fits = true;
        unsigned rest = choice;
        for (size_t c = 0; c < n && fits; c++, rest /= (unsigned)n_groups + 1) {
            size_t g = rest % (n_groups + 1);
            way[c] = g == n_groups ? UZ_FIT_LEFT_OUT : (int)g;
            if (g == n_groups)
                continue;
            fits = fills[g] + p->weights[c] <= p->totals[g] && stands_at(p, c, g, fills[g]);
            fills[g] += p->weights[c];
        }
        for (size_t g = 0; g < n_groups; g++)
            fits = fits && fills[g] == p->totals[g];
        if (!fits)
            continue;
        n_ways++;
        memcpy(last_way, way, n * sizeof *way);
    }
    return n_ways;
}

static void make_puzzle(struct puzzle *p)
{
    *p = (struct puzzle){.fit = {.n_candidates = (size_t)rng_below(MAX_CANDIDATES + 1),
                                 .n_groups = (size_t)rng_range(1, MAX_GROUPS)}};
    bool flat = rng_one_in(2);
    int n_values = (int)rng_range(1, 6); /* few values make it ambiguous */
    for (size_t c = 0; c < p->fit.n_candidates; c++) {
        size_t g = (size_t)rng_below(p->fit.n_groups + 1);
        p->weights[c] = flat ? rng_range(1, 3) : 1;
        p->values[c] = (int)rng_below((uint64_t)n_values);
        for (uint64_t i = 0; g < p->fit.n_groups && i < p->weights[c]; i++)
            p->groups[g][p->totals[g]++] = p->values[c];
    }
    for (size_t g = 0; g < p->fit.n_groups; g++) /* sometimes there is no way */
        if (p->totals[g] > 0 && rng_one_in(16))
            p->groups[g][rng_below(p->totals[g])] = 99;
    p->fit.weights = p->weights;
    p->fit.totals = p->totals;
    p->fit.matches = matches;
    p->fit.cookie = p;
}

static void test_against_all_ways(void)
{
    unsigned seen[3] = {0};
    for (int round = 0; round < 2000; round++) {
        struct puzzle p;
        int want[MAX_CANDIDATES];
        int32_t group_of[MAX_CANDIDATES];
        uint64_t place_of[MAX_CANDIDATES], fills[MAX_GROUPS] = {0};
        enum uz_fit_result result;
        make_puzzle(&p);
        unsigned n_ways = count_ways(&p, want);
        CHECK_EQ_I64(uz_fit_assign(&p.fit, group_of, place_of, &result, NULL), UZ_OK);
        enum uz_fit_result right = n_ways == 0   ? UZ_FIT_NONE
                                   : n_ways == 1 ? UZ_FIT_UNIQUE
                                                 : UZ_FIT_AMBIGUOUS;
        CHECK_EQ_I64(result, right);
        seen[right]++;
        for (size_t c = 0; right == UZ_FIT_UNIQUE && c < p.fit.n_candidates; c++) {
            CHECK_EQ_I64(group_of[c], want[c]);
            if (want[c] < 0)
                continue;
            CHECK_EQ_U64(place_of[c], fills[want[c]]);
            fills[want[c]] += p.weights[c];
        }
    }
    CHECK(seen[UZ_FIT_UNIQUE] > 100);
    CHECK(seen[UZ_FIT_NONE] > 10);
    CHECK(seen[UZ_FIT_AMBIGUOUS] > 100);
}

static int always(void *cookie, size_t candidate, size_t group, uint64_t place, bool *matches,
                  struct uz_error *err)
{
    (void)cookie;
    (void)candidate;
    (void)group;
    (void)place;
    (void)err;
    *matches = true;
    return UZ_OK;
}

/* Many equal parameters: hopeless, which must be said soon. */
static void test_many_ways(void)
{
    enum { N = 20000 };
    static uint64_t weights[N], place_of[N];
    static int32_t group_of[N];
    const uint64_t totals[] = {N / 2, N / 4};
    enum uz_fit_result result;
    for (size_t c = 0; c < N; c++)
        weights[c] = 1;
    struct uz_fit fit = {
        .n_candidates = N, .n_groups = 2, .weights = weights, .totals = totals, .matches = always};
    CHECK_EQ_I64(uz_fit_assign(&fit, group_of, place_of, &result, NULL), UZ_OK);
    CHECK_EQ_I64(result, UZ_FIT_AMBIGUOUS);
    const uint64_t all[] = {N};
    fit.n_groups = 1; /* but if all are taken there is one way */
    fit.totals = all;
    CHECK_EQ_I64(uz_fit_assign(&fit, group_of, place_of, &result, NULL), UZ_OK);
    CHECK_EQ_I64(result, UZ_FIT_UNIQUE);
    CHECK_EQ_U64(place_of[N - 1], N - 1);
    const uint64_t too_many[] = {N + 1};
    fit.totals = too_many;
    CHECK_EQ_I64(uz_fit_assign(&fit, group_of, place_of, &result, NULL), UZ_OK);
    CHECK_EQ_I64(result, UZ_FIT_NONE);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"against all ways", test_against_all_ways},
        {"many ways", test_many_ways},
        CU_TEST_INFO_NULL,
    };
    rng_init();
    return check_run("stage 0", tests);
}
