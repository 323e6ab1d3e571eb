/* SPDX-License-Identifier: Apache-2.0 */
/* Goes through the candidates with all states of fill that are possible so far; mostly one. */
#include "zero/stage0_fit.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum {
    MAX_OPEN = 256,              /* states of fill at one time: beyond, values do not tell names */
    MAX_STEPS = 64 * 1024 * 1024 /* of all candidates together */
};

/* How a state of fill came about. */
struct step {
    uint32_t before; /* state of fill before this candidate, in its front */
    int32_t group;   /* that took the candidate, or UZ_FIT_LEFT_OUT */
};

/* All states of fill after a number of candidates; fills of state s are at s * n_groups. */
struct front {
    uint64_t *fills;
    uint64_t *left_out; /* weight of candidates that no group took */
    uint8_t *n_ways;    /* 1, or 2 for more */
    struct step *steps;
    size_t n, cap_fills, cap_left_out, cap_ways, cap_steps;
};

struct search {
    const struct uz_fit *fit;
    uint64_t budget; /* weight that must be left out in the end */
    struct front now, next;
    struct step *steps; /* of all fronts, one after another */
    size_t n_steps, cap_steps;
    size_t *first_step; /* of each front */
};

static int add_state(struct front *front, const uint64_t *fills, size_t n_groups, uint64_t left_out,
                     uint8_t n_ways, struct step step, struct uz_error *err)
{
    for (size_t s = 0; s < front->n; s++)
        if (!memcmp(front->fills + s * n_groups, fills, n_groups * sizeof *fills)) {
            front->n_ways[s] = 2;
            return UZ_OK;
        }
    size_t n = front->n + 1;
    UZ_TRY(uz_reserve(&front->fills, &front->cap_fills, n * n_groups, sizeof *fills, err));
    UZ_TRY(uz_reserve(&front->left_out, &front->cap_left_out, n, sizeof left_out, err));
    UZ_TRY(uz_reserve(&front->n_ways, &front->cap_ways, n, sizeof n_ways, err));
    UZ_TRY(uz_reserve(&front->steps, &front->cap_steps, n, sizeof step, err));
    memcpy(front->fills + front->n * n_groups, fills, n_groups * sizeof *fills);
    front->left_out[front->n] = left_out;
    front->n_ways[front->n] = n_ways;
    front->steps[front->n++] = step;
    return UZ_OK;
}

/* All that can be done with the candidate from state of fill number s. */
static int expand(struct search *search, size_t candidate, size_t s, struct uz_error *err)
{
    const struct uz_fit *fit = search->fit;
    const struct front *now = &search->now;
    uint64_t weight = fit->weights[candidate];
    uint64_t *fills = now->fills + s * fit->n_groups;
    for (size_t g = 0; g < fit->n_groups; g++) {
        bool matches = false;
        if (fit->totals[g] - fills[g] < weight)
            continue;
        UZ_TRY(fit->matches(fit->cookie, candidate, g, fills[g], &matches, err));
        if (!matches)
            continue;
        fills[g] += weight;
        int rc = add_state(&search->next, fills, fit->n_groups, now->left_out[s], now->n_ways[s],
                           (struct step){(uint32_t)s, (int32_t)g}, err);
        fills[g] -= weight;
        UZ_TRY(rc);
    }
    if (search->budget - now->left_out[s] < weight)
        return UZ_OK;
    return add_state(&search->next, fills, fit->n_groups, now->left_out[s] + weight, now->n_ways[s],
                     (struct step){(uint32_t)s, UZ_FIT_LEFT_OUT}, err);
}

/* Keeps how the states of the next front came about, and makes it the present one. */
static int advance(struct search *search, size_t candidate, struct uz_error *err)
{
    struct front spent = search->now;
    size_t n = search->next.n;
    UZ_TRY(uz_reserve(&search->steps, &search->cap_steps, (uint64_t)search->n_steps + n,
                      sizeof *search->steps, err));
    if (n > 0)
        memcpy(search->steps + search->n_steps, search->next.steps, n * sizeof *search->steps);
    search->first_step[candidate] = search->n_steps;
    search->n_steps += n;
    search->now = search->next;
    search->next = spent;
    search->next.n = 0;
    return UZ_OK;
}

/* Follows the steps back from the last state of fill. */
static void trace(const struct search *search, int32_t *group_of, uint64_t *place_of)
{
    const struct uz_fit *fit = search->fit;
    uint32_t s = 0;
    for (size_t c = fit->n_candidates; c-- > 0;) {
        const struct step *step = &search->steps[search->first_step[c] + s];
        group_of[c] = step->group;
        s = step->before;
    }
    uint64_t *fills = search->now.fills; /* counted anew from the front */
    memset(fills, 0, fit->n_groups * sizeof *fills);
    for (size_t c = 0; c < fit->n_candidates; c++) {
        place_of[c] = group_of[c] < 0 ? 0 : fills[group_of[c]];
        if (group_of[c] >= 0)
            fills[group_of[c]] += fit->weights[c];
    }
}

static int run(struct search *search, int32_t *group_of, uint64_t *place_of,
               enum uz_fit_result *result, struct uz_error *err)
{
    const struct uz_fit *fit = search->fit;
    uint64_t *zeros;
    UZ_TRY(uz_alloc(&zeros, fit->n_groups, sizeof *zeros, err));
    int rc = add_state(&search->now, zeros, fit->n_groups, 0, 1, (struct step){0, 0}, err);
    free(zeros);
    UZ_TRY(rc);
    UZ_TRY(uz_alloc(&search->first_step, fit->n_candidates, sizeof *search->first_step, err));
    for (size_t c = 0; c < fit->n_candidates && search->now.n > 0; c++) {
        for (size_t s = 0; s < search->now.n; s++)
            UZ_TRY(expand(search, c, s, err));
        if (search->next.n > MAX_OPEN || search->n_steps > MAX_STEPS) {
            *result = UZ_FIT_AMBIGUOUS;
            return UZ_OK;
        }
        UZ_TRY(advance(search, c, err));
    }
    /* what is left out in the end is the budget, so every group is full: there is one state */
    *result = search->now.n == 0          ? UZ_FIT_NONE
              : search->now.n_ways[0] > 1 ? UZ_FIT_AMBIGUOUS
                                          : UZ_FIT_UNIQUE;
    if (*result == UZ_FIT_UNIQUE)
        trace(search, group_of, place_of);
    return UZ_OK;
}

static void free_front(struct front *front)
{
    free(front->fills);
    free(front->left_out);
    free(front->n_ways);
    free(front->steps);
}

int uz_fit_assign(const struct uz_fit *fit, int32_t *group_of, uint64_t *place_of,
                  enum uz_fit_result *result, struct uz_error *err)
{
    struct search search = {.fit = fit};
    uint64_t all = 0, taken = 0;
    for (size_t c = 0; c < fit->n_candidates; c++)
        if (!uz_add_u64(all, fit->weights[c], &all))
            return uz_fail(err, UZ_CORRUPT, "the parameters have more than 2^64 elements");
    *result = UZ_FIT_NONE;
    for (size_t g = 0; g < fit->n_groups; g++)
        if (!uz_add_u64(taken, fit->totals[g], &taken) || taken > all)
            return UZ_OK; /* more masters than parameters */
    search.budget = all - taken;
    int rc = run(&search, group_of, place_of, result, err);
    free_front(&search.now);
    free_front(&search.next);
    free(search.steps);
    free(search.first_step);
    return rc;
}
