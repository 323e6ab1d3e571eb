/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which candidate has which place in a source. DeepSpeed's optimizers list parameters in the order
 * of the module; but what AutoEP puts into a module whose parameters were listed before comes at a
 * group's end (DeepSpeed: runtime/engine.py, _remap_param_groups_after_module_replacement).
 */
#include <stdlib.h>
#include <string.h>

#include "zero/stage0.h"

/* An order of the candidates, and what the fit makes of it. */
struct order {
    const struct uz_stage0_source *source;
    size_t *candidates; /* their numbers; NULL: as they are */
    uint64_t *weights;
    int32_t *group_of;
    uint64_t *place_of;
};

static int matches(void *cookie, size_t number, size_t group, uint64_t place, bool *matches,
                   struct uz_error *err)
{
    const struct order *order = cookie;
    size_t candidate = order->candidates ? order->candidates[number] : number;
    return uz_masters_match(&order->source->masters, &order->source->candidates[candidate], group,
                            place, matches, err);
}

static int fit(struct order *order, enum uz_fit_result *result, struct uz_error *err)
{
    const struct uz_fit fit = {
        .n_candidates = order->source->n,
        .n_groups = order->source->masters.n_groups,
        .weights = order->weights,
        .totals = order->source->masters.totals,
        .matches = matches,
        .cookie = order,
    };
    return uz_fit_assign(&fit, order->group_of, order->place_of, result, err);
}

/* Both orders may have a way, if it is the same. */
static void merge(struct uz_stage0_source *source, const struct order *late,
                  enum uz_fit_result late_result, enum uz_fit_result *result)
{
    if (late_result == UZ_FIT_AMBIGUOUS)
        *result = UZ_FIT_AMBIGUOUS;
    for (size_t i = 0; late_result == UZ_FIT_UNIQUE && i < source->n; i++) {
        size_t c = late->candidates[i];
        if (*result == UZ_FIT_UNIQUE &&
            (source->group_of[c] != late->group_of[i] || source->place_of[c] != late->place_of[i]))
            *result = UZ_FIT_AMBIGUOUS;
        source->group_of[c] = late->group_of[i];
        source->place_of[c] = late->place_of[i];
    }
    if (late_result == UZ_FIT_UNIQUE && *result == UZ_FIT_NONE)
        *result = UZ_FIT_UNIQUE;
}

/* The late ones behind the others. */
static void set_late_order(const struct uz_stage0_source *source, struct order *late)
{
    size_t n = 0;
    for (int is_late = 0; is_late < 2; is_late++)
        for (size_t c = 0; c < source->n; c++)
            if (source->candidates[c].is_late == (is_late == 1)) {
                late->weights[n] = source->weights[c];
                late->candidates[n++] = c;
            }
}

static int assign_late(struct uz_stage0_source *source, enum uz_fit_result *result,
                       struct uz_error *err)
{
    struct order late = {.source = source};
    enum uz_fit_result late_result = UZ_FIT_NONE;
    int rc = uz_alloc(&late.candidates, source->n, sizeof *late.candidates, err);
    if (rc == UZ_OK)
        rc = uz_alloc(&late.weights, source->n, sizeof *late.weights, err);
    if (rc == UZ_OK)
        rc = uz_alloc(&late.group_of, source->n, sizeof *late.group_of, err);
    if (rc == UZ_OK)
        rc = uz_alloc(&late.place_of, source->n, sizeof *late.place_of, err);
    if (rc == UZ_OK) {
        set_late_order(source, &late);
        rc = fit(&late, &late_result, err);
    }
    if (rc == UZ_OK)
        merge(source, &late, late_result, result);
    free(late.candidates);
    free(late.weights);
    free(late.group_of);
    free(late.place_of);
    return rc;
}

int uz_stage0_assign(struct uz_stage0_source *source, enum uz_fit_result *result,
                     struct uz_error *err)
{
    struct order order = {
        .source = source,
        .weights = source->weights,
        .group_of = source->group_of,
        .place_of = source->place_of,
    };
    bool any_late = false;
    UZ_TRY(fit(&order, result, err));
    for (size_t c = 0; c < source->n; c++)
        any_late |= source->candidates[c].is_late;
    return any_late ? assign_late(source, result, err) : UZ_OK;
}
