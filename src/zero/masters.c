/* SPDX-License-Identifier: Apache-2.0 */
/* Reads stage 0's masters and compares them with low-precision copies. */
#include "zero/masters.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cast.h"

/* ---- What stands under `optimizer` ---- */

static int fail(const struct uz_masters *m, struct uz_error *err, const char *message)
{
    return uz_fail_at(err, UZ_CORRUPT, uz_torch_path(m->file), UZ_NO_OFFSET, "%s", message);
}

static int alloc_groups(struct uz_masters *m, size_t n, struct uz_error *err)
{
    if (n > UZ_MAX_MASTERS_GROUPS)
        return uz_fail_at(err, UZ_LIMIT, uz_torch_path(m->file), UZ_NO_OFFSET,
                          "has %zu parameter groups, the most are %d", n, UZ_MAX_MASTERS_GROUPS);
    UZ_TRY(uz_alloc(&m->groups, n, sizeof *m->groups, err));
    UZ_TRY(uz_alloc(&m->totals, n, sizeof *m->totals, err));
    m->n_groups = n;
    return UZ_OK;
}

/* What one of the wrapped optimizer's groups lists as its parameters; NULL: nothing. */
static const struct uz_seq *params_of(const struct uz_masters *m, size_t group)
{
    const struct uz_seq *groups = uz_node_list(uz_node_get(m->optimizer, "param_groups"));
    return groups && group < groups->n
               ? uz_node_list(uz_node_get_small(groups->items[group], "params"))
               : NULL;
}

/* Every group of masters is one of the wrapped optimizer's, so a lost one is missed. */
static int check_number(const struct uz_masters *m, size_t group, struct uz_error *err)
{
    const struct uz_seq *params = params_of(m, group);
    if (!params || params->n == m->totals[group])
        return UZ_OK;
    return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(m->file), UZ_NO_OFFSET,
                      "fp32_groups has %llu masters in group %zu, but the optimizer lists %zu "
                      "parameters",
                      (unsigned long long)m->totals[group], group, params->n);
}

static int read_lists(struct uz_masters *m, const struct uz_seq *groups, struct uz_error *err)
{
    m->form = UZ_MASTERS_LISTS;
    UZ_TRY(alloc_groups(m, groups->n, err));
    for (size_t g = 0; g < groups->n; g++) {
        m->groups[g].of = g;
        m->groups[g].items = uz_node_list(groups->items[g]);
        if (!m->groups[g].items)
            return fail(m, err, "fp32_groups holds something that is no list of tensors");
        m->totals[g] = m->groups[g].items->n;
        UZ_TRY(check_number(m, g, err));
    }
    return UZ_OK;
}

static int read_flat(struct uz_masters *m, const struct uz_seq *groups, struct uz_error *err)
{
    m->form = UZ_MASTERS_FLAT;
    UZ_TRY(alloc_groups(m, groups->n, err));
    for (size_t g = 0; g < groups->n; g++) {
        struct uz_view *flat = &m->groups[g].flat;
        m->groups[g].of = g;
        UZ_TRY(
            uz_torch_tensor(m->file, groups->items[g], "a tensor of fp32_groups_flat", flat, err));
        if (flat->ndim != 1 || !flat->contiguous)
            return fail(m, err, "fp32_groups_flat holds a tensor that is not flat");
        m->totals[g] = flat->numel;
    }
    return UZ_OK;
}

/* Without masters the groups are those of the wrapped optimizer: lists of ids. */
static int read_ids(struct uz_masters *m, struct uz_error *err)
{
    const struct uz_seq *groups = uz_node_list(uz_node_get(m->optimizer, "param_groups"));
    if (!groups)
        return UZ_OK;
    UZ_TRY(alloc_groups(m, groups->n, err));
    for (size_t g = 0; g < groups->n; g++) {
        m->groups[g].of = g;
        m->groups[g].items = params_of(m, g);
        if (!m->groups[g].items)
            return fail(m, err, "a parameter group of the optimizer lists no params");
        m->totals[g] = m->groups[g].items->n;
    }
    return UZ_OK;
}

static int index_states(struct uz_masters *m, struct uz_error *err)
{
    const struct uz_dict *states = uz_node_dict(uz_node_get(m->optimizer, "state"));
    m->state_of_id = uz_map_new();
    if (!m->state_of_id)
        return uz_fail_nomem(err, sizeof(void *));
    if (!states)
        return UZ_OK;
    UZ_TRY(uz_alloc(&m->ids, states->n, sizeof *m->ids, err));
    for (size_t i = 0; i < states->n; i++)
        if (uz_node_int(states->pairs[i].key, &m->ids[i]))
            UZ_TRY(
                uz_map_add(m->state_of_id, (const char *)&m->ids[i], sizeof *m->ids, i, NULL, err));
    return UZ_OK;
}

int uz_masters_read(struct uz_masters *m, struct uz_torch_file *file, struct uz_error *err)
{
    const struct uz_node *optimizer = uz_node_get(uz_torch_root(file), "optimizer");
    const struct uz_node *wrapped = uz_node_get(optimizer, "optimizer_state_dict");
    const struct uz_seq *lists = uz_node_list(uz_node_get(optimizer, "fp32_groups"));
    const struct uz_seq *flat = uz_node_list(uz_node_get(optimizer, "fp32_groups_flat"));
    *m = (struct uz_masters){.file = file, .optimizer = wrapped ? wrapped : optimizer};
    UZ_TRY(index_states(m, err));
    if (flat && !lists)
        return read_flat(m, flat, err);
    UZ_TRY(lists ? read_lists(m, lists, err) : read_ids(m, err));
    return uz_masters_split_muon(m, err);
}

void uz_masters_free(struct uz_masters *m)
{
    free(m->groups);
    free(m->totals);
    uz_map_free(m->state_of_id);
    free(m->ids);
    *m = (struct uz_masters){0};
}

int uz_masters_view(const struct uz_masters *m, size_t group, uint64_t index, struct uz_view *view,
                    struct uz_error *err)
{
    const struct uz_masters_group *g = &m->groups[group];
    return uz_torch_tensor(m->file, g->items->items[g->first + index], "a tensor of fp32_groups",
                           view, err);
}

/* The optimizer numbers its parameters group by group, if it does not list their ids itself. */
static bool id_of(const struct uz_masters *m, size_t group, uint64_t index, int64_t *id)
{
    const struct uz_seq *params = params_of(m, m->groups[group].of);
    index += m->groups[group].first;
    return params && index < params->n && uz_node_int(params->items[index], id);
}

const struct uz_dict *uz_masters_states(const struct uz_masters *m, size_t group, uint64_t index)
{
    const struct uz_dict *states = uz_node_dict(uz_node_get(m->optimizer, "state"));
    int64_t id;
    uint64_t place;
    if (!states || !id_of(m, group, index, &id) ||
        !uz_map_get(m->state_of_id, (const char *)&id, sizeof id, &place))
        return NULL;
    return uz_node_dict(states->pairs[place].value);
}

bool uz_masters_state_view(const struct uz_masters *m, const struct uz_dict *states, size_t *i,
                           struct uz_view *view)
{
    for (; states && *i < states->n; ++*i)
        if (uz_torch_is_tensor(states->pairs[*i].value) &&
            !uz_node_is_str(states->pairs[*i].key, "step") &&
            uz_torch_tensor(m->file, states->pairs[*i].value, "a state", view, NULL) == UZ_OK)
            return true;
    return false;
}

/* ---- Comparing ---- */

/* Two-byte floats; a NaN equals any NaN, as frameworks choose their own. */
static bool equal_halves(const unsigned char *a, const unsigned char *b, uint32_t n,
                         enum uz_dtype dtype)
{
    unsigned nan_above = dtype == UZ_DTYPE_BF16 ? 0x7f80u : 0x7c00u;
    for (uint32_t i = 0; i < n; i++) {
        uint16_t x, y;
        memcpy(&x, a + 2 * (size_t)i, sizeof x);
        memcpy(&y, b + 2 * (size_t)i, sizeof y);
        bool both_nan = (x & 0x7fffu) > nan_above && (y & 0x7fffu) > nan_above;
        if (x != y && !both_nan)
            return false;
    }
    return true;
}

/* True if the copy's sample is the rounded sample of the master, or if that can't be told. */
static bool is_rounded(const struct uz_sample *copy, enum uz_dtype copy_dtype,
                       const unsigned char *master, enum uz_dtype master_dtype)
{
    unsigned char rounded[UZ_SAMPLE_ELEMS * sizeof(uint16_t)];
    if (copy_dtype == master_dtype)
        return !memcmp(copy->bytes, master, copy->n_elems * uz_dtype_size(copy_dtype));
    if (master_dtype != UZ_DTYPE_F32 || (copy_dtype != UZ_DTYPE_BF16 && copy_dtype != UZ_DTYPE_F16))
        return true;
    enum uz_cast_id cast = copy_dtype == UZ_DTYPE_BF16 ? UZ_CAST_F32_TO_BF16 : UZ_CAST_F32_TO_F16;
    uz_cast_ops_for(0)->fn[cast](rounded, master, copy->n_elems);
    return equal_halves(rounded, copy->bytes, copy->n_elems, copy_dtype);
}

static int match_sample(const struct uz_masters *m, const struct uz_candidate *c,
                        const struct uz_view *master, uint64_t skip, bool *matches,
                        struct uz_error *err)
{
    unsigned char bytes[UZ_SAMPLE_ELEMS * UZ_SAMPLE_ELEM_NBYTES];
    UZ_TRY(uz_sample_read(m->file, master, skip, c->copy.n_elems, bytes, err));
    *matches = is_rounded(&c->copy, c->dtype, bytes, master->dtype);
    return UZ_OK;
}

static bool has_shape(const struct uz_candidate *c, const struct uz_view *view)
{
    return uz_same_shape(view->ndim, view->shape, c->ndim, c->shape);
}

/* Where there are no masters: a state of the parameter's shape, or no state with a shape at all. */
static bool match_states(const struct uz_masters *m, const struct uz_candidate *c, size_t group,
                         uint64_t index)
{
    const struct uz_dict *states = uz_masters_states(m, group, index);
    bool any = false;
    struct uz_view view;
    for (size_t i = 0; uz_masters_state_view(m, states, &i, &view); i++) {
        any = true;
        if (has_shape(c, &view))
            return true;
    }
    return !any;
}

int uz_masters_match(const struct uz_masters *m, const struct uz_candidate *c, size_t group,
                     uint64_t place, bool *matches, struct uz_error *err)
{
    struct uz_view view;
    switch (m->form) {
    case UZ_MASTERS_FLAT:
        return match_sample(m, c, &m->groups[group].flat, place, matches, err);
    case UZ_MASTERS_LISTS:
        UZ_TRY(uz_masters_view(m, group, place, &view, err));
        *matches = has_shape(c, &view);
        return *matches ? match_sample(m, c, &view, 0, matches, err) : UZ_OK;
    case UZ_MASTERS_NONE:
        *matches = match_states(m, c, group, place);
        break;
    }
    return UZ_OK;
}
