/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage 0: the groups of Muon. It sorts their parameters by shape, the largest first, and leaves
 * those of one shape in the order of the module (DeepSpeed:
 * runtime/zero/muon/original_muon.py, MuonWithAuxAdam.__init__).
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "zero/masters.h"
#include "zero/optim_state.h"

/* The groups as they will be. */
struct parts {
    struct uz_masters_group *groups;
    uint64_t *totals;
    size_t n, cap_groups, cap_totals;
};

/* The shape of an item: its master's, or that of a state. */
static int shape_of(const struct uz_masters *m, size_t group, uint64_t item, struct uz_view *view,
                    bool *has_one, struct uz_error *err)
{
    size_t i = 0;
    *has_one = true;
    if (m->form == UZ_MASTERS_LISTS)
        return uz_masters_view(m, group, item, view, err);
    *has_one = uz_masters_state_view(m, uz_masters_states(m, group, item), &i, view);
    return UZ_OK;
}

static int add(struct parts *parts, const struct uz_masters_group *group, uint64_t total,
               struct uz_error *err)
{
    size_t n = parts->n + 1;
    if (n > UZ_MAX_MASTERS_GROUPS)
        return uz_fail(err, UZ_LIMIT, "Muon's parameters have more than %d shapes",
                       UZ_MAX_MASTERS_GROUPS);
    UZ_TRY(uz_reserve(&parts->groups, &parts->cap_groups, n, sizeof *parts->groups, err));
    UZ_TRY(uz_reserve(&parts->totals, &parts->cap_totals, n, sizeof *parts->totals, err));
    parts->groups[parts->n] = *group;
    parts->totals[parts->n++] = total;
    return UZ_OK;
}

/* Adds the group's parts, each of items of one shape; an item without a shape belongs to any. */
static int add_parts(const struct uz_masters *m, size_t group, struct parts *parts,
                     struct uz_error *err)
{
    struct uz_masters_group part = m->groups[group];
    struct uz_view of_part = {0};
    bool part_has_one = false;
    uint64_t n = 0;
    for (uint64_t item = 0; item < m->totals[group]; item++) {
        struct uz_view view;
        bool has_one;
        UZ_TRY(shape_of(m, group, item, &view, &has_one, err));
        if (has_one && part_has_one &&
            !uz_same_shape(view.ndim, view.shape, of_part.ndim, of_part.shape)) {
            UZ_TRY(add(parts, &part, n, err));
            part.first += (size_t)n;
            n = 0;
        }
        if (has_one)
            of_part = view;
        part_has_one = part_has_one || has_one;
        n++;
    }
    return add(parts, &part, n, err);
}

static int make_parts(const struct uz_masters *m, struct parts *parts, struct uz_error *err)
{
    for (size_t g = 0; g < m->n_groups; g++)
        UZ_TRY(uz_states_are_muon(m->optimizer, m->groups[g].of)
                   ? add_parts(m, g, parts, err)
                   : add(parts, &m->groups[g], m->totals[g], err));
    return UZ_OK;
}

int uz_masters_split_muon(struct uz_masters *m, struct uz_error *err)
{
    struct parts parts = {0};
    int rc = make_parts(m, &parts, err);
    if (rc < 0) {
        free(parts.groups);
        free(parts.totals);
        return rc;
    }
    free(m->groups);
    free(m->totals);
    m->groups = parts.groups;
    m->totals = parts.totals;
    m->n_groups = parts.n;
    return UZ_OK;
}
