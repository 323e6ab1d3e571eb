/* SPDX-License-Identifier: Apache-2.0 */
/* From records to spans: by the same arithmetic as the joins. */
#include "check/verify_spans.h"

#include <stdlib.h>
#include <string.h>

#include "layout/linkage.h"
#include "layout/split.h"

/* ---- Names of low-precision copies ---- */

/* Tensor ranks that layer files are of: a layer file of rank t belongs to mp ranks t, t + tp, ...
 */
static uint32_t layer_ranks(const struct uz_verify_run *run)
{
    uint32_t n = 1;
    for (size_t i = 0; i < run->n_records; i++)
        if (run->records[i].shard.kind == UZ_SHARD_LAYER && run->records[i].shard.mp >= n)
            n = run->records[i].shard.mp + 1;
    return n;
}

static int add_names(const struct uz_record *record, size_t index, struct uz_map *map,
                     struct uz_error *err)
{
    for (size_t w = 0; w < record->n_wholes; w++) {
        const char *name = record->wholes[w].name;
        if (record->wholes[w].kind == UZ_WHOLE_WEIGHT)
            UZ_TRY(uz_map_add(map, name, strlen(name), (uint64_t)index << 32 | w, NULL, err));
    }
    return UZ_OK;
}

int uz_lp_names_make(const struct uz_verify_run *run, struct uz_map ***names, struct uz_error *err)
{
    uint32_t tp = layer_ranks(run);
    UZ_TRY(uz_alloc(names, run->n_mp, sizeof **names, err));
    for (uint32_t mp = 0; mp < run->n_mp; mp++) {
        (*names)[mp] = uz_map_new();
        if (!(*names)[mp])
            return uz_fail_nomem(err, sizeof **names);
        for (size_t i = 0; i < run->n_records; i++) {
            const struct uz_shard_file *shard = &run->records[i].shard;
            bool is_whole = shard->kind == UZ_SHARD_MODEL || shard->kind == UZ_SHARD_EXPERT;
            bool fits = (is_whole && !run->records[i].is_loose && shard->mp == mp) ||
                        (shard->kind == UZ_SHARD_LAYER && shard->mp == mp % tp);
            if (fits && !run->records[i].is_copy)
                UZ_TRY(add_names(&run->records[i], i, (*names)[mp], err));
        }
    }
    return UZ_OK;
}

void uz_lp_names_free(const struct uz_verify_run *run, struct uz_map **names)
{
    for (uint32_t mp = 0; names && mp < run->n_mp; mp++)
        uz_map_free(names[mp]);
    free(names);
}

/* ---- Making spans ---- */

struct maker {
    struct uz_spans *spans;
    struct uz_verify_run *run;
    const struct uz_record *record;
    struct uz_map *lp_names;
};

/* Elements [first, first + n) of a view. */
static int add(const struct maker *m, const struct uz_flat_view *view, uint64_t first, uint64_t n,
               const char *name, const char *state, struct uz_span **out, struct uz_error *err)
{
    struct uz_span *span;
    bool stored = view->storage.packing == UZ_PACKED_STORED;
    UZ_TRY(UZ_APPEND(m->spans->items, m->spans->n, m->spans->cap, &span, err));
    span->storage = stored ? view->storage.offset : view->storage.entry;
    span->at = (view->first + first) * uz_dtype_size(view->dtype);
    span->n_elems = n;
    span->dtype = view->dtype;
    span->name = name;
    span->state = state;
    *out = span;
    return UZ_OK;
}

/* Links a span of a master, which begins at element `first` of its parameter, to the copy. */
static void link_lp(const struct maker *m, struct uz_span *span, uint64_t first, uint64_t numel)
{
    uint64_t place;
    if (m->run->copies_compared || !uz_map_get(m->lp_names, span->name, strlen(span->name), &place))
        return;
    const struct uz_record *record = &m->run->records[place >> 32];
    const struct uz_whole *whole = &record->wholes[place & UINT32_MAX];
    if (whole->view.numel != numel || whole->view.storage.packing != UZ_PACKED_STORED ||
        !uz_dtype_is_castable(whole->view.dtype) || !uz_dtype_is_castable(span->dtype))
        return; /* another shape: the joins tell */
    span->lp = whole;
    span->lp_record = record;
    span->lp_first = first;
}

/* Of a universal checkpoint: the state whose file it is; NULL: the weight itself. */
static const char *state_of(const struct uz_record *record)
{
    return record->state && strcmp(record->state, "fp32") != 0 ? record->state : NULL;
}

static int add_wholes(const struct maker *m, struct uz_error *err)
{
    struct uz_span *span;
    for (size_t w = 0; w < m->record->n_wholes; w++) {
        const struct uz_whole *whole = &m->record->wholes[w];
        uint64_t n = whole->view.numel, start;
        bool sliced = m->record->shard.kind == UZ_SHARD_MODEL_Z3 && whole->kind == UZ_WHOLE_FROZEN;
        if (sliced && uz_ceil_div(whole->numel, m->run->world ? m->run->world : 1) == n)
            uz_ceil_split(whole->numel, m->run->world ? m->run->world : 1, m->record->shard.dp,
                          &start, &n);
        if (n == 0)
            continue;
        UZ_TRY(add(m, &whole->view, 0, n, whole->name, state_of(m->record), &span, err));
        span->is_part = sliced;
        span->is_nameless = whole->kind == UZ_WHOLE_MASTER || (m->record->is_loose && span->state);
    }
    return UZ_OK;
}

/* The fragments of parameters in a partition of ZeRO 1 or 2, or in one of its states. */
static int add_partition(const struct maker *m, size_t g, const struct uz_flat_view *view,
                         const char *state, const uint64_t *offsets, struct uz_error *err)
{
    const struct uz_mp_rank *mp = &m->run->mp_ranks[m->record->shard.mp];
    uint64_t ep_rank, part = uz_verify_part(m->run, mp, g, m->record->shard.dp, &ep_rank);
    uint64_t part_size = mp->part_sizes[g], start = part * part_size;
    uint64_t size = view->numel < part_size ? view->numel : part_size;
    size_t first = mp->params.group_first[g];
    for (size_t p = 0; p < uz_params_in_group(&mp->params, g); p++) {
        struct uz_hp_fragment fragment;
        struct uz_span *span;
        uint64_t numel = mp->params.numels[first + p];
        if (!uz_hp_fragment(offsets[p], numel, start, size, &fragment))
            continue;
        uint32_t tensor = mp->params.tensors[first + p];
        if (!mp->params.stacks[first + p])
            tensor += (uint32_t)ep_rank;
        UZ_TRY(add(m, view, fragment.hp.start, fragment.hp.numel, mp->model.tensors[tensor].name,
                   state, &span, err));
        if (!state)
            link_lp(m, span, fragment.lp.start, numel);
    }
    return UZ_OK;
}

static int add_group12(const struct maker *m, size_t g, uint64_t *offsets, struct uz_error *err)
{
    const struct uz_optim_group *group = &m->record->optim.groups[g];
    const struct uz_params *params = &m->run->mp_ranks[m->record->shard.mp].params;
    uint64_t total;
    UZ_TRY(uz_flat_group_offsets(uz_params_in_group(params, g),
                                 params->numels + params->group_first[g], group->alignment, offsets,
                                 &total, err));
    UZ_TRY(add_partition(m, g, &group->fp32, NULL, offsets, err));
    for (size_t i = 0; i < group->n_states; i++)
        UZ_TRY(add_partition(m, g, &group->states[i].view, group->states[i].name, offsets, err));
    return UZ_OK;
}

static int add_stage12(const struct maker *m, struct uz_error *err)
{
    const struct uz_mp_rank *mp = &m->run->mp_ranks[m->record->shard.mp];
    uint64_t *offsets;
    int rc = UZ_OK;
    if (!mp->part_sizes)
        return UZ_OK;
    UZ_TRY(uz_alloc(&offsets, mp->model.n_tensors, sizeof *offsets, err));
    for (size_t g = 0; g < m->record->optim.n_groups && g < mp->params.n_groups && rc == UZ_OK; g++)
        if (mp->part_sizes[g] > 0)
            rc = add_group12(m, g, offsets, err);
    free(offsets);
    return rc;
}

/* One parameter's part of a rank in sub-group g, from element `used` on. */
static int add_part3(const struct maker *m, size_t g, uint64_t used, uint32_t p, uint64_t n_real,
                     struct uz_error *err)
{
    const struct uz_mp_rank *mp = &m->run->mp_ranks[m->record->shard.mp];
    const struct uz_optim_group *group = &m->record->optim.groups[g];
    const char *name = mp->model.tensors[p].name;
    struct uz_span *span;
    if (n_real == 0)
        return UZ_OK;
    UZ_TRY(add(m, &group->fp32, used, n_real, name, NULL, &span, err));
    span->is_part = true;
    for (size_t i = 0; i < group->n_states; i++)
        UZ_TRY(
            add(m, &group->states[i].view, used, n_real, name, group->states[i].name, &span, err));
    return UZ_OK;
}

static int add_stage3(const struct maker *m, struct uz_error *err)
{
    const struct uz_optim_shard *optim = &m->record->optim;
    const struct uz_params *params = &m->run->mp_ranks[m->record->shard.mp].params;
    const struct uz_mp_rank *mp = &m->run->mp_ranks[m->record->shard.mp];
    uint64_t used = 0, ep_rank;
    size_t g = 0, of = 0; /* sub-group of the shards, and group of param_shapes */
    for (size_t p = 0; p < params->group_first[params->n_groups]; p++) {
        while (p >= params->group_first[of + 1])
            of++;
        uint64_t n_parts = uz_verify_parts(m->run, mp, of);
        uint64_t part = uz_ceil_div(params->numels[p], n_parts), start, n_real;
        while (part > 0 && g < optim->n_groups && used == optim->groups[g].fp32.numel) {
            g++;
            used = 0;
        }
        if (part == 0)
            continue;
        if (g == optim->n_groups || optim->groups[g].fp32.numel - used < part)
            return UZ_OK; /* does not add up, which was told */
        uz_ceil_split(params->numels[p], n_parts,
                      uz_verify_part(m->run, mp, of, m->record->shard.dp, &ep_rank), &start,
                      &n_real);
        UZ_TRY(add_part3(m, g, used, (uint32_t)p, n_real, err));
        used += part;
    }
    return UZ_OK;
}

/* ---- Order ---- */

static int compare(const void *a, const void *b)
{
    const struct uz_span *x = a, *y = b;
    if (x->storage != y->storage)
        return x->storage < y->storage ? -1 : 1;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    if (x->n_elems != y->n_elems)
        return x->n_elems < y->n_elems ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Sorts, drops second names of the same elements, and notes how far each reaches. */
static int put_in_order(struct uz_spans *spans, struct uz_error *err)
{
    size_t n = 0;
    if (spans->n == 0)
        return UZ_OK;
    qsort(spans->items, spans->n, sizeof *spans->items, compare);
    UZ_TRY(uz_alloc(&spans->ends, spans->n, sizeof *spans->ends, err));
    for (size_t i = 0; i < spans->n; i++) {
        const struct uz_span *before = n ? &spans->items[n - 1] : NULL;
        struct uz_span span = spans->items[i];
        bool same_storage = before && before->storage == span.storage;
        if (same_storage && before->at == span.at && before->n_elems == span.n_elems)
            continue;
        uint64_t end = span.at + span.n_elems * uz_dtype_size(span.dtype);
        if (same_storage && spans->ends[n - 1] > end)
            end = spans->ends[n - 1];
        spans->ends[n] = end;
        spans->items[n++] = span;
    }
    spans->n = n;
    return UZ_OK;
}

int uz_spans_make(struct uz_spans *spans, struct uz_verify_run *run, size_t index,
                  struct uz_map *const *lp_names, struct uz_error *err)
{
    const struct uz_record *record = &run->records[index];
    struct maker m = {.spans = spans, .run = run, .record = record};
    *spans = (struct uz_spans){0};
    m.lp_names = lp_names[record->shard.mp];
    UZ_TRY(add_wholes(&m, err));
    if (record->is_loose)
        return put_in_order(spans, err);
    if (record->has_optim && record->shard.dp < run->world)
        UZ_TRY(record->optim.stage == 3 ? add_stage3(&m, err) : add_stage12(&m, err));
    return put_in_order(spans, err);
}

void uz_spans_free(struct uz_spans *spans)
{
    free(spans->items);
    free(spans->ends);
    *spans = (struct uz_spans){0};
}

static size_t first_not_below(const struct uz_spans *spans, uint64_t storage)
{
    size_t low = 0, high = spans->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (spans->items[mid].storage < storage)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

void uz_spans_of(const struct uz_spans *spans, uint64_t storage, size_t *first, size_t *end)
{
    *first = first_not_below(spans, storage);
    *end = storage < UINT64_MAX ? first_not_below(spans, storage + 1) : spans->n;
}
