/* SPDX-License-Identifier: Apache-2.0 */
/* Turns a rule and the shapes of shards into blocks. */
#include "zero/tp_plan.h"

#include <stdlib.h>
#include <string.h>

#include "layout/model.h"
#include "layout/shape_text.h"
#include "layout/split.h"

enum { TEXT_NBYTES = 160 };

/* What the functions below share. */
struct planner {
    struct uz_tp_plan *plan;
    const char *name;
    const struct uz_tp_rule *rule;
    const struct uz_tp_shard *shards;
    uint32_t n_ranks;
    uint64_t dst_end; /* elements from here on are padding of the vocabulary */
    struct uz_arena *arena;
};

static int fail(const struct planner *p, int status, struct uz_error *err, const char *what)
{
    return uz_fail(err, status, "%s: %s", p->name, what);
}

/* ---- Shapes ---- */

static int set_shape(struct planner *p, unsigned ndim, const uint64_t *shape, struct uz_error *err)
{
    struct uz_tp_plan *plan = p->plan;
    plan->ndim = ndim;
    if (ndim)
        memcpy(plan->shape, shape, ndim * sizeof *shape);
    UZ_TRY(uz_shape_numel(ndim, plan->shape, &plan->numel, err));
    p->dst_end = plan->numel;
    return UZ_OK;
}

/* The first rank; all must have a shard, and of as many dimensions. */
static int check_all_there(const struct planner *p, const struct uz_tp_shard **first,
                           struct uz_error *err)
{
    for (uint32_t rank = 0; rank < p->n_ranks; rank++) {
        if (!p->shards[rank].is_there)
            return uz_fail(err, UZ_MISMATCH,
                           "%s: tensor rank %u holds no shard of it, other ranks do", p->name,
                           rank);
        if (p->shards[rank].ndim != p->shards[0].ndim)
            return uz_fail(err, UZ_MISMATCH,
                           "%s: tensor rank %u has a shard of %u dimensions, rank 0 one of %u",
                           p->name, rank, p->shards[rank].ndim, p->shards[0].ndim);
    }
    if (p->shards[0].ndim > UZ_MAX_BLOCK_DIMS)
        return fail(p, UZ_LIMIT, err, "has too many dimensions");
    *first = &p->shards[0];
    return UZ_OK;
}

static int shapes_differ(const struct planner *p, uint32_t rank, const char *why,
                         struct uz_error *err)
{
    char here[TEXT_NBYTES], there[TEXT_NBYTES];
    const struct uz_tp_shard *a = &p->shards[rank], *b = &p->shards[0];
    return uz_fail(err, UZ_MISMATCH, "%s: tensor rank %u has a shard of shape %s, rank 0 of %s: %s",
                   p->name, rank, uz_shape_text(here, sizeof here, a->ndim, a->shape, a->numel),
                   uz_shape_text(there, sizeof there, b->ndim, b->shape, b->numel), why);
}

/* Shapes must be equal but along `dim` (of ndim: all must be). */
static int check_shapes(const struct planner *p, unsigned dim, const char *why,
                        struct uz_error *err)
{
    for (uint32_t rank = 1; rank < p->n_ranks; rank++)
        for (unsigned j = 0; j < p->shards[0].ndim; j++)
            if (j != dim && p->shards[rank].shape[j] != p->shards[0].shape[j])
                return shapes_differ(p, rank, why, err);
    return UZ_OK;
}

static void row_major(unsigned ndim, const uint64_t *shape, uint64_t *stride)
{
    uint64_t step = 1;
    for (unsigned j = ndim; j-- > 0; step *= shape[j])
        stride[j] = step; /* no overflow: uz_shape_numel has checked the product */
}

/* ---- Parts ---- */

static int add_part(struct planner *p, uint32_t rank, enum uz_tp_role role, uint32_t owner,
                    const struct uz_block *block, uint64_t shard_numel, struct uz_error *err)
{
    struct uz_tp_plan *plan = p->plan;
    UZ_TRY(uz_reserve(&plan->parts, &plan->cap_parts, (uint64_t)plan->n_parts + 1,
                      sizeof *plan->parts, err));
    struct uz_tp_part *part = &plan->parts[plan->n_parts];
    *part = (struct uz_tp_part){.rank = rank, .role = role, .owner = owner};
    int rc = uz_placement_init(&part->placement, block, shard_numel, plan->numel, p->dst_end,
                               p->arena, err);
    if (rc < 0)
        return uz_context(err, rc, "%s: tensor rank %u", p->name, rank);
    plan->n_parts += part->placement.n_elems > 0;
    return UZ_OK;
}

/*
 * Adds the part of a shard that is `width` wide along `dim`, from `from` on, and goes to `to`. The
 * shard, seen as of shape `shape`, is cut along that dimension only.
 */
static int add_slab(struct planner *p, uint32_t rank, const uint64_t *shape, unsigned dim,
                    uint64_t from, uint64_t to, uint64_t width, struct uz_error *err)
{
    uint64_t box[UZ_MAX_BLOCK_DIMS], shard_stride[UZ_MAX_BLOCK_DIMS], dst_stride[UZ_MAX_BLOCK_DIMS];
    unsigned ndim = p->plan->ndim;
    memcpy(box, shape, ndim * sizeof *box);
    box[dim] = width;
    row_major(ndim, shape, shard_stride);
    row_major(ndim, p->plan->shape, dst_stride);
    const struct uz_block block = {
        .ndim = ndim,
        .shape = box,
        .shard_first = from * shard_stride[dim],
        .dst_first = to * dst_stride[dim],
        .shard_stride = shard_stride,
        .dst_stride = dst_stride,
    };
    if (width == 0)
        return UZ_OK;
    return add_part(p, rank, UZ_TP_PART, rank, &block, p->shards[rank].numel, err);
}

/* Adds a shard that is the whole tensor. */
static int add_whole(struct planner *p, uint32_t rank, enum uz_tp_role role, struct uz_error *err)
{
    uint64_t stride[UZ_MAX_BLOCK_DIMS];
    row_major(p->plan->ndim, p->plan->shape, stride);
    const struct uz_block block = {
        .ndim = p->plan->ndim,
        .shape = p->plan->shape,
        .shard_stride = stride,
        .dst_stride = stride,
    };
    if (p->plan->numel == 0)
        return UZ_OK;
    return add_part(p, rank, role, 0, &block, p->plan->numel, err);
}

/* ---- The vocabulary ---- */

/* Rows from the original vocabulary's size on are padding and are left out. */
static int strip_vocabulary(struct planner *p, const struct uz_tp_rules *rules,
                            struct uz_error *err)
{
    struct uz_tp_plan *plan = p->plan;
    uint64_t rows;
    if (!p->rule->is_vocabulary)
        return UZ_OK;
    if (!uz_tp_vocabulary(rules, &rows))
        return fail(p, UZ_MISMATCH, err,
                    "vocabulary_parameter_patterns names it, but original_vocab_size is not "
                    "recorded");
    if (plan->ndim < 2)
        return fail(p, UZ_UNSUPPORTED, err,
                    "vocabulary_parameter_patterns names it, but it has no rows to strip");
    if (rows >= plan->shape[0])
        return UZ_OK;
    p->dst_end = plan->numel / plan->shape[0] * rows;
    return UZ_OK;
}

/* The shape without the padding, when all parts are made. */
static void finish_vocabulary(struct planner *p)
{
    if (p->dst_end == p->plan->numel)
        return;
    p->plan->shape[0] = p->dst_end / (p->plan->numel / p->plan->shape[0]);
    p->plan->numel = p->dst_end;
}

/* ---- The ways to join ---- */

static int join_whole(struct planner *p, const struct uz_tp_rules *rules, enum uz_tp_role others,
                      struct uz_error *err)
{
    const struct uz_tp_shard *first;
    UZ_TRY(check_all_there(p, &first, err));
    UZ_TRY(check_shapes(p, UZ_MAX_BLOCK_DIMS,
                        "it is to be the same tensor on all ranks, but shapes differ", err));
    UZ_TRY(set_shape(p, first->ndim, first->shape, err));
    UZ_TRY(strip_vocabulary(p, rules, err));
    for (uint32_t rank = 0; rank < p->n_ranks; rank++)
        UZ_TRY(add_whole(p, rank, rank == 0 ? UZ_TP_PART : others, err));
    return UZ_OK;
}

static int add_widths(const struct planner *p, unsigned dim, uint64_t *sum, struct uz_error *err)
{
    *sum = 0;
    for (uint32_t rank = 0; rank < p->n_ranks; rank++)
        if (!uz_add_u64(*sum, p->shards[rank].shape[dim], sum))
            return fail(p, UZ_CORRUPT, err, "its shards are beyond 64 bits");
    return UZ_OK;
}

/* Side by side along `dim`, or each in halves, all first ones before all second ones. */
static int join_along(struct planner *p, const struct uz_tp_rules *rules, unsigned dim, bool halves,
                      struct uz_error *err)
{
    const struct uz_tp_shard *first;
    uint64_t shape[UZ_MAX_BLOCK_DIMS], to = 0;
    UZ_TRY(check_all_there(p, &first, err));
    if (first->ndim == 0)
        return fail(p, UZ_UNSUPPORTED, err,
                    "a tensor of no dimension is on several tensor ranks, and nothing declares it "
                    "replicated (tp_replicated_parameter_patterns): how to join it is not known");
    if (dim >= first->ndim)
        return fail(p, UZ_UNSUPPORTED, err,
                    "row parallelism joins along dimension 1, which it does not have");
    UZ_TRY(check_shapes(p, dim, "shards may only differ where they are joined", err));
    memcpy(shape, first->shape, first->ndim * sizeof *shape);
    UZ_TRY(add_widths(p, dim, &shape[dim], err));
    UZ_TRY(set_shape(p, first->ndim, shape, err));
    UZ_TRY(strip_vocabulary(p, rules, err));
    for (unsigned half = 0; half < (halves ? 2 : 1); half++)
        for (uint32_t rank = 0; rank < p->n_ranks; rank++) {
            uint64_t all = p->shards[rank].shape[dim];
            uint64_t middle = halves ? uz_ceil_div(all, 2) : all;
            uint64_t width = half == 0 ? middle : all - middle;
            UZ_TRY(add_slab(p, rank, p->shards[rank].shape, dim, half == 0 ? 0 : middle, to, width,
                            err));
            to += width;
        }
    return UZ_OK;
}

/* Width of sub-parameter i on a rank. */
static uint64_t width_of(const struct uz_tp_subparams *sub, const uint64_t *sizes, size_t i,
                         uint32_t rank, uint32_t n_ranks)
{
    return sub->widths ? sub->widths[i * sub->n_ranks + rank] : sizes[i] / n_ranks;
}

/* Sizes of the sub-parameters along their dimension; of a count, equal parts of what there is. */
static int find_sizes(const struct planner *p, const struct uz_tp_subparams *sub, uint64_t **sizes,
                      struct uz_error *err)
{
    uint64_t sum;
    UZ_TRY(uz_arena_alloc(p->arena, sub->n, sizeof **sizes, sizes, err));
    if (sub->sizes) {
        memcpy(*sizes, sub->sizes, sub->n * sizeof **sizes);
    } else {
        const struct uz_tp_shard *first;
        UZ_TRY(check_all_there(p, &first, err));
        if (sub->dim >= first->ndim)
            return fail(p, UZ_CORRUPT, err, "its partition_dim is beyond its dimensions");
        UZ_TRY(add_widths(p, sub->dim, &sum, err));
        if (sum % sub->n)
            return uz_fail(err, UZ_MISMATCH,
                           "%s: %zu equal sub-parameters do not divide its %llu rows", p->name,
                           sub->n, (unsigned long long)sum);
        for (size_t i = 0; i < sub->n; i++)
            (*sizes)[i] = sum / sub->n;
    }
    for (size_t i = 0; !sub->widths && i < sub->n; i++)
        if ((*sizes)[i] % p->n_ranks)
            return uz_fail(err, UZ_UNSUPPORTED,
                           "%s: a sub-parameter of %llu is not divisible by %u tensor ranks, and "
                           "no sub_param_shard_widths tell how it was split",
                           p->name, (unsigned long long)(*sizes)[i], p->n_ranks);
    if (sub->widths && sub->n_ranks != p->n_ranks)
        return uz_fail(err, UZ_MISMATCH,
                       "%s: sub_param_shard_widths tell of %zu tensor ranks, there are %u", p->name,
                       sub->n_ranks, p->n_ranks);
    return UZ_OK;
}

/* The shape that the rule tells, with -1 resolved from all elements there are. */
static int resolve_shape(const struct planner *p, const struct uz_tp_subparams *sub,
                         const uint64_t *sizes, uint64_t *shape, struct uz_error *err)
{
    uint64_t known = 1, total = 0;
    unsigned unknown = UZ_MAX_BLOCK_DIMS;
    for (unsigned j = 0; j < sub->ndim; j++) {
        shape[j] = sub->shape[j] >= 0 ? (uint64_t)sub->shape[j] : 0;
        if (j == sub->dim) {
            shape[j] = 0;
            for (size_t i = 0; i < sub->n; i++)
                shape[j] += sizes[i];
        } else if (sub->shape[j] < 0) {
            if (unknown < UZ_MAX_BLOCK_DIMS)
                return fail(p, UZ_CORRUPT, err, "its shape has -1 twice");
            unknown = j;
            continue;
        }
        if (!uz_mul_u64(known, shape[j], &known))
            return fail(p, UZ_CORRUPT, err, "its shape is beyond 64 bits");
    }
    for (uint32_t rank = 0; rank < p->n_ranks; rank++)
        if (!uz_add_u64(total, p->shards[rank].numel, &total))
            return fail(p, UZ_CORRUPT, err, "its shards are beyond 64 bits");
    if (unknown == UZ_MAX_BLOCK_DIMS)
        return UZ_OK;
    if (known == 0 || total % known)
        return fail(p, UZ_MISMATCH, err, "its shape cannot be resolved: -1 stands for no number");
    shape[unknown] = total / known;
    return UZ_OK;
}

static int join_subparams(struct planner *p, const struct uz_tp_rules *rules, struct uz_error *err)
{
    const struct uz_tp_subparams *sub = p->rule->subparams;
    uint64_t *sizes, shape[UZ_MAX_BLOCK_DIMS], (*views)[UZ_MAX_BLOCK_DIMS], numel, to = 0;
    UZ_TRY(find_sizes(p, sub, &sizes, err));
    UZ_TRY(resolve_shape(p, sub, sizes, shape, err));
    UZ_TRY(set_shape(p, sub->ndim, shape, err));
    UZ_TRY(strip_vocabulary(p, rules, err));
    UZ_TRY(uz_arena_alloc(p->arena, p->n_ranks, sizeof *views, &views, err));
    for (uint32_t rank = 0; rank < p->n_ranks; rank++) {
        memcpy(views[rank], shape, sub->ndim * sizeof *shape);
        views[rank][sub->dim] = 0;
        for (size_t i = 0; i < sub->n; i++)
            views[rank][sub->dim] += width_of(sub, sizes, i, rank, p->n_ranks);
        UZ_TRY(uz_shape_numel(sub->ndim, views[rank], &numel, err));
        if (numel != p->shards[rank].numel)
            return uz_fail(err, UZ_MISMATCH,
                           "%s: tensor rank %u holds %llu elements, by the widths of its "
                           "sub-parameters it has %llu",
                           p->name, rank, (unsigned long long)p->shards[rank].numel,
                           (unsigned long long)numel);
    }
    uint64_t *used;
    UZ_TRY(uz_arena_alloc(p->arena, p->n_ranks, sizeof *used, &used, err));
    memset(used, 0, p->n_ranks * sizeof *used);
    for (size_t i = 0; i < sub->n; i++)
        for (uint32_t rank = 0; rank < p->n_ranks; rank++) {
            uint64_t width = width_of(sub, sizes, i, rank, p->n_ranks);
            UZ_TRY(add_slab(p, rank, views[rank], sub->dim, used[rank], to, width, err));
            used[rank] += width;
            to += width;
        }
    return UZ_OK;
}

static int join_affine(struct planner *p, const struct uz_tp_rules *rules, struct uz_error *err)
{
    const struct uz_tp_affine *affine = p->rule->affine;
    if (affine->n_ranks != p->n_ranks)
        return uz_fail(err, UZ_MISMATCH, "%s: affine_map tells of %zu tensor ranks, there are %u",
                       p->name, affine->n_ranks, p->n_ranks);
    UZ_TRY(set_shape(p, affine->ndim, affine->shape, err));
    UZ_TRY(strip_vocabulary(p, rules, err));
    p->plan->is_scaled = affine->is_scaled;
    for (uint32_t rank = 0; rank < p->n_ranks; rank++) {
        const struct uz_tp_affine_rank *holds = &affine->ranks[rank];
        uint64_t numel = p->shards[rank].is_there ? p->shards[rank].numel : 0;
        if (numel != holds->numel)
            return uz_fail(err, UZ_MISMATCH,
                           "%s: tensor rank %u holds %llu elements, by affine_map it has %llu",
                           p->name, rank, (unsigned long long)numel,
                           (unsigned long long)holds->numel);
        for (size_t i = 0; i < holds->n_pieces; i++) {
            const struct uz_tp_piece *piece = &holds->pieces[i];
            UZ_TRY(add_part(p, rank, piece->is_copy ? UZ_TP_COPY : UZ_TP_PART, piece->owner,
                            &piece->block, numel, err));
        }
    }
    return UZ_OK;
}

static int join(struct planner *p, const struct uz_tp_rules *rules, struct uz_error *err)
{
    switch (p->rule->join) {
    case UZ_TP_AFFINE:
        return join_affine(p, rules, err);
    case UZ_TP_REPLICATED:
        return join_whole(p, rules, UZ_TP_COPY, err);
    case UZ_TP_MEAN:
        return join_whole(p, rules, UZ_TP_ADDEND, err);
    case UZ_TP_SUBPARAMS:
        return join_subparams(p, rules, err);
    case UZ_TP_HALVES:
        return join_along(p, rules, 0, true, err);
    case UZ_TP_ROWS:
        return join_along(p, rules, 1, false, err);
    default:
        return join_along(p, rules, 0, false, err);
    }
}

int uz_tp_plan_make(struct uz_tp_plan *plan, const char *name, const struct uz_tp_rules *rules,
                    const struct uz_tp_rule *rule, const struct uz_tp_shard *shards,
                    uint32_t n_ranks, struct uz_arena *arena, struct uz_error *err)
{
    *plan = (struct uz_tp_plan){0};
    struct planner p = {.plan = plan,
                        .name = name,
                        .rule = rule,
                        .shards = shards,
                        .n_ranks = n_ranks,
                        .arena = arena};
    if (rule->refusal)
        return uz_fail(err, UZ_UNSUPPORTED,
                       "%s: AutoTP conversion is not supported for it, the checkpoint says: %s",
                       name, rule->refusal);
    UZ_TRY(join(&p, rules, err));
    finish_vocabulary(&p);
    return UZ_OK;
}

void uz_tp_plan_free(struct uz_tp_plan *plan)
{
    free(plan->parts);
    *plan = (struct uz_tp_plan){0};
}
