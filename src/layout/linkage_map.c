/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the parameters of a partition and maps each to its fragment. */
#include <stdlib.h>

#include "base/mem.h"
#include "layout/linkage.h"
#include "layout/view.h"

static const char *name_of(const struct uz_lp_param *param)
{
    return param->name ? param->name : "a parameter";
}

/* Where parameter i begins; `sum` is the elements of those before it. */
static uint64_t offset_of(const struct uz_linkage *linkage, size_t i, uint64_t sum)
{
    return linkage->param_offsets ? linkage->param_offsets[i] : sum;
}

/* Every address that is computed later must fit. */
static int check_sizes(const struct uz_linkage *linkage, struct uz_error *err)
{
    uint64_t sum = 0, end;
    if (!uz_add_u64(linkage->partition_start, linkage->partition_size, &end) || end > INT64_MAX)
        return uz_fail(err, UZ_ARG, "the partition ends beyond what 63 bits can count");
    for (size_t i = 0; i < linkage->n_lp_params; i++) {
        uint64_t offset = offset_of(linkage, i, sum);
        if (!uz_add_u64(offset, linkage->lp_params[i]->lp.numel, &sum) || sum > INT64_MAX)
            return uz_fail(err, UZ_ARG, "%s ends beyond what 63 bits can count",
                           name_of(linkage->lp_params[i]));
    }
    return UZ_OK;
}

/*
 * DeepSpeed's test, by which a parameter without elements may stand in a partition and a partition
 * without elements may cut a parameter.
 */
static bool stands_in_partition(const struct uz_linkage *linkage, uint64_t offset, uint64_t numel)
{
    uint64_t start = linkage->partition_start, end = start + linkage->partition_size;
    return offset < start ? start < offset + numel : offset < end;
}

static int compare_offsets(const void *left, const void *right)
{
    const struct uz_param_offset *a = left, *b = right;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return a->param < b->param ? -1 : a->param > b->param;
}

/*
 * Gives the parameters of the partition their places in the list of gradients: in the order of
 * offsets, with an entry for each gap unless the gradients are offloaded.
 */
static int index_by_offset(const struct uz_linkage *linkage, struct uz_error *err)
{
    uint64_t start = linkage->partition_start, end = start + linkage->partition_size;
    uint64_t explained = 0; /* elements of the partition up to the parameter before */
    size_t index = 0;
    struct uz_param_offset *sorted;
    UZ_TRY(uz_alloc(&sorted, linkage->n_lp_params, sizeof *sorted, err));
    for (size_t i = 0; i < linkage->n_lp_params; i++)
        sorted[i] = (struct uz_param_offset){i, linkage->param_offsets[i]};
    if (linkage->n_lp_params > 0)
        qsort(sorted, linkage->n_lp_params, sizeof *sorted, compare_offsets);
    for (size_t i = 0; i < linkage->n_lp_params; i++) {
        struct uz_lp_param *param = linkage->lp_params[sorted[i].param];
        uint64_t offset = sorted[i].offset, param_end = offset + param->lp.numel;
        if (!stands_in_partition(linkage, offset, param->lp.numel))
            continue;
        uint64_t at = offset > start ? offset - start : 0;
        if (!linkage->use_offload && at > explained)
            index++;
        param->index_in_param_group = index++;
        explained = (param_end < end ? param_end : end) - start;
    }
    free(sorted);
    return UZ_OK;
}

int uz_init_lp_to_hp_mapping(const struct uz_linkage *linkage, struct uz_param_offset *overlaps,
                             size_t *n_overlaps, struct uz_error *err)
{
    uint64_t sum = 0;
    size_t n = 0, index = 0;
    uz_error_clear(err);
    UZ_TRY(check_sizes(linkage, err));
    if (linkage->param_offsets)
        UZ_TRY(index_by_offset(linkage, err));
    uz_unlink_hp_params(linkage->lp_params, linkage->n_lp_params);
    for (size_t i = 0; i < linkage->n_lp_params; i++) {
        struct uz_lp_param *param = linkage->lp_params[i];
        uint64_t offset = offset_of(linkage, i, sum);
        param->dp_group = linkage->dp_group;
        param->list_index = i;
        param->has_index = stands_in_partition(linkage, offset, param->lp.numel);
        if (param->has_index && !linkage->param_offsets)
            param->index_in_param_group = index++;
        if (param->has_index && param->lp.numel > 0)
            overlaps[n++] = (struct uz_param_offset){i, offset};
        sum = offset + param->lp.numel;
    }
    *n_overlaps = n;
    return UZ_OK;
}

int uz_hp_mapping_of(const struct uz_linkage *linkage, const struct uz_lp_param *param,
                     const struct uz_hp_fragment *fragment, struct uz_hp_mapping **mapping,
                     struct uz_error *err)
{
    const struct uz_tensor_view *partition = &linkage->flat_hp_partition;
    const struct uz_fragment_address *lp = &fragment->lp, *hp = &fragment->hp;
    struct uz_hp_mapping *made;
    if (partition->numel < hp->numel || partition->numel - hp->numel < hp->start)
        return uz_fail(err, UZ_ARG,
                       "the flat partition has %llu elements, but %s lies at %llu + %llu in it",
                       (unsigned long long)partition->numel, name_of(param),
                       (unsigned long long)hp->start, (unsigned long long)hp->numel);
    UZ_TRY(uz_alloc(&made, 1, sizeof *made, err));
    *made = (struct uz_hp_mapping){
        .lp_fragment = uz_view_narrow(&param->lp, lp->start, lp->numel),
        .lp_fragment_address = *lp,
        .hp_fragment = uz_view_narrow(partition, hp->start, hp->numel),
        .hp_fragment_address = *hp,
        .gradient_dict = linkage->gradient_dict,
        .offload_gradient_dict = linkage->offload_gradient_dict,
        .use_offload = linkage->use_offload,
        .param_group_index = linkage->param_group_index,
    };
    *mapping = made;
    return UZ_OK;
}

int uz_get_hp_fragment_mapping(const struct uz_linkage *linkage, const struct uz_lp_param *param,
                               uint64_t lp_start, struct uz_hp_mapping **mapping,
                               struct uz_error *err)
{
    struct uz_hp_fragment fragment;
    uint64_t end;
    uz_error_clear(err);
    if (!uz_add_u64(lp_start, param->lp.numel, &end) ||
        !uz_add_u64(linkage->partition_start, linkage->partition_size, &end))
        return uz_fail(err, UZ_ARG, "%s or the partition ends beyond 64 bits", name_of(param));
    if (!uz_hp_fragment(lp_start, param->lp.numel, linkage->partition_start,
                        linkage->partition_size, &fragment))
        return uz_fail(err, UZ_ARG,
                       "%s (%llu elements from %llu on) shares no element with the partition (%llu "
                       "from %llu on): fragment start should be < fragment end",
                       name_of(param), (unsigned long long)param->lp.numel,
                       (unsigned long long)lp_start, (unsigned long long)linkage->partition_size,
                       (unsigned long long)linkage->partition_start);
    return uz_hp_mapping_of(linkage, param, &fragment, mapping, err);
}

void uz_hp_mapping_free(struct uz_hp_mapping *mapping)
{
    if (!mapping)
        return;
    free(mapping->states);
    free(mapping);
}

static int link_overlaps(const struct uz_linkage *linkage, const struct uz_param_offset *overlaps,
                         size_t n, struct uz_error *err)
{
    for (size_t i = 0; i < n; i++) {
        struct uz_lp_param *param = linkage->lp_params[overlaps[i].param];
        struct uz_hp_mapping *mapping;
        UZ_TRY(uz_get_hp_fragment_mapping(linkage, param, overlaps[i].offset, &mapping, err));
        uz_hp_mapping_free(param->hp_mapping); /* of the same parameter earlier in the list */
        param->hp_mapping = mapping;
    }
    return UZ_OK;
}

int uz_link_hp_params(const struct uz_linkage *linkage, struct uz_error *err)
{
    struct uz_param_offset *overlaps;
    size_t n;
    uz_error_clear(err);
    int rc = uz_alloc(&overlaps, linkage->n_lp_params, sizeof *overlaps, err);
    if (rc == UZ_OK)
        rc = uz_init_lp_to_hp_mapping(linkage, overlaps, &n, err);
    if (rc == UZ_OK)
        rc = link_overlaps(linkage, overlaps, n, err);
    free(overlaps);
    if (rc < 0)
        uz_unlink_hp_params(linkage->lp_params, linkage->n_lp_params);
    return rc;
}

void uz_unlink_hp_params(struct uz_lp_param *const *params, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uz_hp_mapping_free(params[i]->hp_mapping);
        params[i]->hp_mapping = NULL;
    }
}
