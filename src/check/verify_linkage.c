/* SPDX-License-Identifier: Apache-2.0 */
/* Each flat group by itself: do the ranks' partitions hold exactly the group's parameters? */
#include <stdlib.h>
#include <string.h>

#include "check/verify_run.h"
#include "layout/linkage.h"
#include "layout/split.h"
#include "zero/join_flat.h"

/* The optimizer shards of one model-parallel rank, by data-parallel rank; NULL: not readable. */
struct shards {
    struct uz_verify_run *run;
    struct uz_mp_rank *mp;
    const struct uz_record **of; /* world of them */
    const struct uz_record *first;
};

static int collect(struct shards *s, struct uz_verify_run *run, uint32_t mp, struct uz_error *err)
{
    *s = (struct shards){.run = run, .mp = &run->mp_ranks[mp]};
    UZ_TRY(uz_alloc(&s->of, run->world, sizeof *s->of, err));
    for (size_t i = 0; i < run->n_records; i++) {
        const struct uz_record *record = &run->records[i];
        if (!record->has_optim || record->shard.mp != mp || record->is_copy ||
            record->shard.dp >= run->world)
            continue;
        s->of[record->shard.dp] = record;
        if (!s->first)
            s->first = record;
    }
    return UZ_OK;
}

/* ---- ZeRO 1 and 2 ---- */

/* Size of a rank's partition with its padding; 0 if the rank does not tell. */
static uint64_t size_on(const struct shards *s, size_t g, uint64_t rank)
{
    const struct uz_record *record = s->of[rank];
    if (!record || g >= record->optim.n_groups)
        return 0;
    const struct uz_optim_group *part = &record->optim.groups[g];
    if (record->optim.bf16_optimizer)
        return part->fp32.numel;
    return part->has_padding ? part->fp32.numel + part->padding : 0;
}

/*
 * The size that most ranks have; the last rank may book more padding than it stores and counts only
 * if it is alone. DeepSpeed's rule where nobody tells.
 */
static uint64_t find_size(const struct shards *s, size_t g, uint64_t total)
{
    uint64_t n_parts = uz_verify_parts(s->run, s->mp, g);
    if (s->mp->params.group_ranks[g].ep > 1 && n_parts == 1)
        return size_on(s, g, 0) ? size_on(s, g, 0) : uz_partition_size(total, 1);
    uint64_t n_ranks = s->run->world > 1 ? s->run->world - s->run->world / n_parts : 1;
    uint64_t best = 0, best_n = 0;
    for (uint64_t i = 0; i < n_ranks && 2 * best_n <= n_ranks; i++) {
        uint64_t size = size_on(s, g, i), n = 0;
        for (uint64_t j = i; size > 0 && j < n_ranks; j++)
            n += size_on(s, g, j) == size;
        if (n > best_n) {
            best = size;
            best_n = n;
        }
    }
    return best_n > 0 ? best : uz_partition_size(total, n_parts);
}

static bool fits(const struct uz_optim_group *part, struct uz_partition_books books)
{
    return part->fp32.numel == books.numel &&
           (!part->has_padding || part->padding == books.padding);
}

/* Any of the ways in which DeepSpeed books padding. */
static bool fits_any(const struct uz_optim_shard *shard, const struct uz_optim_group *part,
                     uint64_t total, uint64_t size, uint64_t world, uint64_t rank)
{
    if (shard->bf16_optimizer)
        return fits(part, uz_books_of_bf16_optimizer(total, size, world, rank));
    return fits(part, uz_books_of_each_rank(total, size, rank)) ||
           fits(part, uz_books_of_last_rank(total, size, world, rank));
}

static bool same_alignment(const struct uz_optim_group *a, const struct uz_optim_group *b,
                           uint64_t n_params)
{
    if (!a->alignment || !b->alignment)
        return !a->alignment && !b->alignment;
    return !memcmp(a->alignment, b->alignment, n_params * sizeof *a->alignment);
}

static int check_part(const struct shards *s, size_t g, uint64_t rank, uint64_t total,
                      uint64_t size, struct uz_error *err)
{
    const struct uz_record *record = s->of[rank];
    const struct uz_optim_group *part = &record->optim.groups[g];
    const struct uz_optim_group *first = &s->first->optim.groups[g];
    struct uz_where where = uz_record_where(record);
    struct uz_findings *findings = &s->run->findings;
    if (part->fp32.dtype != first->fp32.dtype)
        UZ_TRY(uz_find(findings, UZ_FIND_LINKAGE, &where, err,
                       "group %zu is stored as %s, but as %s in %s", g,
                       uz_dtype_name(part->fp32.dtype), uz_dtype_name(first->fp32.dtype),
                       s->first->shard.name));
    if (!same_alignment(part, first, uz_params_in_group(&s->mp->params, g)))
        UZ_TRY(uz_find(findings, UZ_FIND_LINKAGE, &where, err,
                       "param_alignment_paddings of group %zu are not those of %s", g,
                       s->first->shard.name));
    uint64_t ep_rank, number = uz_verify_part(s->run, s->mp, g, rank, &ep_rank);
    if (fits_any(&record->optim, part, total, size, uz_verify_parts(s->run, s->mp, g), number))
        return UZ_OK;
    struct uz_partition_books books = uz_books_of_each_rank(total, size, number);
    return uz_find(findings, UZ_FIND_LINKAGE, &where, err,
                   "group %zu does not add up: this rank stores %llu elements and records %llu of "
                   "padding; by param_shapes (%llu elements in partitions of %llu) it has %llu and "
                   "%llu",
                   g, (unsigned long long)part->fp32.numel, (unsigned long long)part->padding,
                   (unsigned long long)total, (unsigned long long)size,
                   (unsigned long long)books.numel, (unsigned long long)books.padding);
}

/* Muon's momenta: of the partition, or of all parameters in it. */
static int check_momenta(const struct shards *s, const struct uz_flat_group *group, uint64_t rank,
                         struct uz_error *err)
{
    const struct uz_optim_group *part = &s->of[rank]->optim.groups[group->index];
    struct uz_where where = uz_record_where(s->of[rank]);
    uint64_t ep_rank, number = uz_verify_part(s->run, s->mp, group->index, rank, &ep_rank);
    uint64_t whole = uz_numel_touched(group, number * group->part_size);
    for (size_t i = 0; i < part->n_states; i++) {
        uint64_t numel = part->states[i].view.numel;
        if (numel != whole && numel != part->fp32.numel && numel != group->part_size)
            UZ_TRY(uz_find(&s->run->findings, UZ_FIND_LINKAGE, &where, err,
                           "has %llu elements of Muon's %s for group %zu: its partition has %llu, "
                           "the parameters in it %llu",
                           (unsigned long long)numel, part->states[i].name, group->index,
                           (unsigned long long)part->fp32.numel, (unsigned long long)whole));
    }
    return UZ_OK;
}

static int check_muon_group(const struct shards *s, size_t g, uint64_t size, struct uz_error *err)
{
    const struct uz_params *params = &s->mp->params;
    struct uz_flat_group group = {
        .index = g,
        .n_params = uz_params_in_group(params, g),
        .numels = params->numels + params->group_first[g],
        .part_size = size,
    };
    int rc = uz_alloc(&group.offsets, group.n_params, sizeof *group.offsets, err);
    if (rc == UZ_OK)
        rc =
            uz_flat_group_offsets(group.n_params, group.numels, s->first->optim.groups[g].alignment,
                                  group.offsets, &group.total, err);
    for (uint64_t rank = 0; rank < s->run->world && rc == UZ_OK; rank++)
        if (s->of[rank] && g < s->of[rank]->optim.n_groups && s->of[rank]->optim.groups[g].is_muon)
            rc = check_momenta(s, &group, rank, err);
    free(group.offsets);
    return rc;
}

static int check_group(const struct shards *s, size_t g, struct uz_error *err)
{
    const struct uz_params *params = &s->mp->params;
    uint64_t total, sum;
    UZ_TRY(uz_flat_group_offsets(uz_params_in_group(params, g),
                                 params->numels + params->group_first[g],
                                 s->first->optim.groups[g].alignment, NULL, &total, err));
    uint64_t size = find_size(s, g, total);
    uint64_t n_parts = uz_verify_parts(s->run, s->mp, g);
    if (!uz_mul_u64(size, n_parts, &sum) || sum < total || sum > INT64_MAX) {
        struct uz_where where = uz_record_where(s->first);
        return uz_find(&s->run->findings, UZ_FIND_LINKAGE, &where, err,
                       "group %zu does not add up: param_shapes has %llu elements, %llu partitions "
                       "of %llu hold less",
                       g, (unsigned long long)total, (unsigned long long)n_parts,
                       (unsigned long long)size);
    }
    s->mp->part_sizes[g] = size;
    for (uint64_t rank = 0; rank < s->run->world; rank++)
        if (s->of[rank] && g < s->of[rank]->optim.n_groups)
            UZ_TRY(check_part(s, g, rank, total, size, err));
    return s->first->optim.groups[g].is_muon ? check_muon_group(s, g, size, err) : UZ_OK;
}

/* ---- ZeRO 3 ---- */

static int check_subgroups(const struct shards *s, struct uz_error *err)
{
    const struct uz_optim_shard *first = &s->first->optim;
    for (uint64_t rank = 0; rank < s->run->world; rank++)
        for (size_t g = 0; s->of[rank] && g < first->n_groups; g++) {
            struct uz_where where = uz_record_where(s->of[rank]);
            if (g >= s->of[rank]->optim.n_groups)
                break; /* the number of groups was compared */
            const struct uz_flat_view *a = &s->of[rank]->optim.groups[g].fp32;
            const struct uz_flat_view *b = &first->groups[g].fp32;
            if (a->numel != b->numel || a->dtype != b->dtype)
                UZ_TRY(uz_find(&s->run->findings, UZ_FIND_LINKAGE, &where, err,
                               "sub-group %zu has %llu elements (%s), but %llu (%s) in %s", g,
                               (unsigned long long)a->numel, uz_dtype_name(a->dtype),
                               (unsigned long long)b->numel, uz_dtype_name(b->dtype),
                               s->first->shard.name));
        }
    return UZ_OK;
}

/* The parameters' parts fill the sub-groups one after another; none crosses a boundary. */
static int check_parts(const struct shards *s, struct uz_error *err)
{
    const struct uz_optim_shard *first = &s->first->optim;
    const struct uz_params *params = &s->mp->params;
    struct uz_where where = uz_record_where(s->first);
    uint64_t used = 0;
    size_t g = 0, of = 0; /* sub-group of the shards, and group of param_shapes */
    for (size_t p = 0; p < params->group_first[params->n_groups]; p++) {
        while (p >= params->group_first[of + 1])
            of++;
        uint64_t part = uz_ceil_div(params->numels[p], uz_verify_parts(s->run, s->mp, of));
        while (part > 0 && g < first->n_groups && used == first->groups[g].fp32.numel) {
            g++;
            used = 0;
        }
        if (part > 0 && (g == first->n_groups || first->groups[g].fp32.numel - used < part)) {
            where.tensor = params->names[p];
            return uz_find(&s->run->findings, UZ_FIND_LINKAGE, &where, err,
                           "does not add up: the parameter needs %llu elements of every rank, "
                           "sub-group %zu has fewer left",
                           (unsigned long long)part, g);
        }
        used += part;
    }
    uint64_t left = 0;
    for (; g < first->n_groups; g++, used = 0)
        left += first->groups[g].fp32.numel - used;
    if (left == 0)
        return UZ_OK;
    return uz_find(&s->run->findings, UZ_FIND_LINKAGE, &where, err,
                   "does not add up: %llu elements are left over when all parameters have theirs",
                   (unsigned long long)left);
}

/* ---- Both ---- */

static int tell_round_robin(const struct shards *s, struct uz_error *err)
{
    for (uint64_t rank = 0; rank < s->run->world; rank++)
        for (size_t g = 0; s->of[rank] && g < s->of[rank]->optim.n_groups; g++)
            if (s->of[rank]->optim.groups[g].mapping == UZ_MAPPING_ROUND_ROBIN) {
                struct uz_where where = UZ_NOWHERE;
                where.file = s->run->dir;
                return uz_find(&s->run->findings, UZ_FIND_ROUND_ROBIN, &where, err,
                               "round_robin_gradients: param_slice_mappings follows another order "
                               "than the buffers; whoever trusts it restores garbage");
            }
    return UZ_OK;
}

static int check_mp_rank(struct shards *s, struct uz_error *err)
{
    if (!s->first || !s->mp->is_known)
        return UZ_OK;
    UZ_TRY(tell_round_robin(s, err));
    if (s->first->optim.stage == 3) {
        UZ_TRY(check_subgroups(s, err));
        return check_parts(s, err);
    }
    UZ_TRY(uz_alloc(&s->mp->part_sizes, s->mp->params.n_groups, sizeof *s->mp->part_sizes, err));
    for (size_t g = 0; g < s->mp->params.n_groups && g < s->first->optim.n_groups; g++)
        UZ_TRY(check_group(s, g, err));
    return UZ_OK;
}

int uz_verify_linkage(struct uz_verify_run *run, struct uz_error *err)
{
    int rc = UZ_OK;
    if (run->world > run->options->input.limits.max_shards)
        return UZ_OK; /* as many files are missing */
    for (uint32_t mp = 0; mp < run->n_mp && rc == UZ_OK; mp++) {
        struct shards s;
        rc = collect(&s, run, mp, err);
        if (rc == UZ_OK)
            rc = check_mp_rank(&s, err);
        free(s.of);
    }
    return rc;
}
