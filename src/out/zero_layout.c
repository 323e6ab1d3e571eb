/* SPDX-License-Identifier: Apache-2.0 */
/* Flat groups of a world, by the arithmetic that readers use, too. */
#include "out/zero_layout.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "layout/linkage.h"
#include "layout/split.h"

enum { ALIGNMENT_NBYTES = 16 };

static int add_flat(struct uz_zero_layout *layout, size_t group, size_t first, size_t n,
                    struct uz_flat_group **flat, struct uz_error *err)
{
    UZ_TRY(UZ_APPEND(layout->flats, layout->n_flats, layout->cap_flats, flat, err));
    (*flat)->group = group;
    (*flat)->n = n;
    UZ_TRY(uz_alloc(&(*flat)->params, n, sizeof *(*flat)->params, err));
    UZ_TRY(uz_alloc(&(*flat)->offsets, n, sizeof *(*flat)->offsets, err));
    UZ_TRY(uz_alloc(&(*flat)->paddings, n, sizeof *(*flat)->paddings, err));
    for (size_t i = 0; i < n; i++)
        (*flat)->params[i] = first + i;
    return UZ_OK;
}

/* ---- Stages 1 and 2 ---- */

static int put_in_buckets(const struct uz_zero_layout *layout, struct uz_flat_group *flat,
                          size_t first, struct uz_error *err)
{
    uint64_t *order;
    UZ_TRY(uz_alloc(&order, flat->n, sizeof *order, err));
    uz_round_robin_order(flat->n, layout->settings.world, order);
    for (size_t i = 0; i < flat->n; i++)
        flat->params[i] = first + (size_t)order[i];
    free(order);
    return UZ_OK;
}

/* The last parameter has no padding behind it; elements are those of the group's first parameter,
 * in module order, as DeepSpeed takes them. */
static void align(const struct uz_zero_layout *layout, struct uz_flat_group *flat, size_t first)
{
    uint64_t size = layout->params[first].lp_size, offset = 0;
    uint64_t unit = size && size < ALIGNMENT_NBYTES ? ALIGNMENT_NBYTES / size : 1;
    for (size_t i = 0; i + 1 < flat->n; i++) {
        offset += layout->params[flat->params[i]].numel;
        flat->paddings[i] = (unit - offset % unit) % unit;
        offset += flat->paddings[i];
    }
}

static int lay_out_whole(struct uz_zero_layout *layout, size_t group, struct uz_error *err)
{
    const struct uz_zero_settings *settings = &layout->settings;
    const struct uz_zero_group *g = &layout->groups[group];
    struct uz_flat_group *flat;
    uint64_t *numels, unit, sum;
    UZ_TRY(add_flat(layout, group, g->first, g->n, &flat, err));
    if (settings->round_robin && !settings->bf16_optimizer)
        UZ_TRY(put_in_buckets(layout, flat, g->first, err));
    if (settings->align && !settings->bf16_optimizer)
        align(layout, flat, g->first);
    UZ_TRY(uz_alloc(&numels, g->n, sizeof *numels, err));
    for (size_t i = 0; i < g->n; i++)
        numels[i] = layout->params[flat->params[i]].numel;
    int rc = uz_flat_group_offsets(g->n, numels, flat->paddings, flat->offsets, &flat->total, err);
    free(numels);
    UZ_TRY(rc);
    if (!uz_mul_u64(settings->world, 2, &unit) || !uz_add_u64(flat->total, unit, &sum) ||
        sum > INT64_MAX / 16)
        return uz_fail(err, UZ_ARG, "%llu ranks are too many", (unsigned long long)settings->world);
    flat->part_numel = uz_partition_size(flat->total, settings->world);
    return UZ_OK;
}

/* ---- Stage 3 ---- */

static uint64_t part_of(const struct uz_zero_layout *layout, size_t param)
{
    return uz_ceil_div(layout->params[param].numel, layout->settings.world);
}

static int add_sub_group(struct uz_zero_layout *layout, size_t group, size_t first, size_t n,
                         struct uz_error *err)
{
    struct uz_flat_group *flat;
    UZ_TRY(add_flat(layout, group, first, n, &flat, err));
    for (size_t i = 0; i < n; i++) {
        flat->offsets[i] = flat->part_numel;
        flat->part_numel += part_of(layout, first + i);
    }
    return UZ_OK;
}

/* Parameters one after another; one that makes a sub-group reach the size is its last. */
static int lay_out_sub_groups(struct uz_zero_layout *layout, size_t group, struct uz_error *err)
{
    const struct uz_zero_group *g = &layout->groups[group];
    uint64_t whole = 0, size = 0;
    size_t first = g->first, end = g->first + g->n;
    for (size_t p = g->first; p < end; p++)
        whole += part_of(layout, p);
    if (layout->settings.sub_group_size >= whole)
        return add_sub_group(layout, group, first, g->n, err);
    for (size_t p = g->first; p < end; p++) {
        size += part_of(layout, p);
        if (size < layout->settings.sub_group_size && p + 1 < end)
            continue;
        UZ_TRY(add_sub_group(layout, group, first, p + 1 - first, err));
        first = p + 1;
        size = 0;
    }
    return UZ_OK;
}

/* ---- */

int uz_zero_layout_make(struct uz_zero_layout *layout, const struct uz_zero_settings *settings,
                        const struct uz_zero_param *params, const struct uz_zero_group *groups,
                        size_t n_groups, struct uz_error *err)
{
    *layout = (struct uz_zero_layout){
        .settings = *settings, .params = params, .groups = groups, .n_groups = n_groups};
    for (size_t g = 0; g < n_groups; g++) {
        if (groups[g].n == 0)
            return uz_fail(err, UZ_UNSUPPORTED,
                           "parameter group %zu has no parameters to train: DeepSpeed makes no "
                           "shards of such a group",
                           g);
        UZ_TRY(settings->stage == 3 ? lay_out_sub_groups(layout, g, err)
                                    : lay_out_whole(layout, g, err));
    }
    return UZ_OK;
}

void uz_zero_layout_free(struct uz_zero_layout *layout)
{
    for (size_t i = 0; i < layout->n_flats; i++) {
        free(layout->flats[i].params);
        free(layout->flats[i].offsets);
        free(layout->flats[i].paddings);
    }
    free(layout->flats);
    *layout = (struct uz_zero_layout){0};
}

bool uz_zero_fragment(const struct uz_zero_layout *layout, const struct uz_flat_group *flat,
                      size_t i, uint64_t rank, struct uz_hp_fragment *fragment)
{
    uint64_t numel = layout->params[flat->params[i]].numel, start, n_real;
    if (layout->settings.stage != 3)
        return uz_hp_fragment(flat->offsets[i], numel, rank * flat->part_numel, flat->part_numel,
                              fragment);
    uz_ceil_split(numel, layout->settings.world, rank, &start, &n_real);
    fragment->lp = (struct uz_fragment_address){.start = start, .numel = n_real};
    fragment->hp = (struct uz_fragment_address){.start = flat->offsets[i], .numel = n_real};
    return n_real > 0;
}

struct uz_zero_books uz_zero_books(const struct uz_zero_layout *layout,
                                   const struct uz_flat_group *flat, uint64_t rank)
{
    struct uz_partition_books books =
        layout->settings.bf16_optimizer
            ? uz_books_of_bf16_optimizer(flat->total, flat->part_numel, layout->settings.world,
                                         rank)
            : uz_books_of_each_rank(flat->total, flat->part_numel, rank);
    return (struct uz_zero_books){books.numel, books.padding};
}

uint64_t uz_zero_padding(const struct uz_zero_layout *layout, const struct uz_flat_group *flat,
                         uint64_t rank)
{
    struct uz_hp_fragment fragment;
    uint64_t n_real = 0;
    for (size_t i = 0; i < flat->n; i++)
        if (uz_zero_fragment(layout, flat, i, rank, &fragment))
            n_real += fragment.hp.numel;
    return flat->part_numel - n_real;
}
