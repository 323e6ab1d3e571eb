/* SPDX-License-Identifier: Apache-2.0 */
/* Looks every parameter of a partition up in the mapping that the file carries. */
#include "zero/slice_mapping.h"

#include <stdlib.h>
#include <string.h>

#include "layout/linkage.h"
#include "layout/split.h"

/* The file's mapping: fragment addresses by parameter name. */
struct stored {
    const struct uz_dict *dict;
    struct uz_map *by_name;
};

static int index_stored(struct stored *stored, const struct uz_node *mapping, struct uz_error *err)
{
    stored->dict = uz_node_dict(mapping);
    if (!stored->dict)
        return uz_fail(err, UZ_CORRUPT, "param_slice_mappings holds no dictionary for a group");
    stored->by_name = uz_map_new();
    if (!stored->by_name)
        return uz_fail_nomem(err, sizeof *stored);
    for (size_t i = 0; i < stored->dict->n; i++) {
        const struct uz_node *key = stored->dict->pairs[i].key;
        if (key->kind != UZ_NODE_STR)
            return uz_fail(err, UZ_CORRUPT, "param_slice_mappings has a key that is no name");
        UZ_TRY(uz_map_add(stored->by_name, key->u.text.data, key->u.text.nbytes, i, NULL, err));
    }
    return UZ_OK;
}

/* numel and start of a fragment_address object; false if it is something else. */
static bool read_address(const struct uz_node *node, struct uz_fragment_address *address)
{
    if (!node || node->kind != UZ_NODE_OBJECT)
        return false;
    const struct uz_node *state = node->u.object->state;
    return uz_node_u64(uz_node_get(state, "numel"), &address->numel) &&
           uz_node_u64(uz_node_get(state, "start"), &address->start);
}

/* The first parameter that the file maps otherwise than the linkage does. */
struct difference {
    bool found;
    const char *name;
    struct uz_fragment_address file, computed;
};

static int compare_one(const struct stored *stored, const char *name, bool mapped,
                       const struct uz_fragment_address *computed, uint64_t *n_seen,
                       struct difference *difference, struct uz_error *err)
{
    struct uz_fragment_address file = {0};
    uint64_t index;
    if (uz_map_get(stored->by_name, name, strlen(name), &index)) {
        ++*n_seen;
        if (!read_address(stored->dict->pairs[index].value, &file))
            return uz_fail(err, UZ_CORRUPT, "param_slice_mappings holds no fragment address for %s",
                           name);
    }
    struct uz_fragment_address none = {0};
    const struct uz_fragment_address *want = mapped ? computed : &none;
    bool equal = file.numel == want->numel && (file.numel == 0 || file.start == want->start);
    if (!equal && !difference->found)
        *difference =
            (struct difference){.found = true, .name = name, .file = file, .computed = *want};
    return UZ_OK;
}

/*
 * Compares with the linkage of the parameters in the given order: parameter order[i] of the group
 * is the i-th of the flat buffer; NULL for the order of param_shapes.
 */
static int compare_order(const struct stored *stored, const struct uz_params *params, size_t group,
                         const uint64_t *order, const uint64_t *paddings, uint64_t part_start,
                         uint64_t part_size, uint64_t *n_known, struct difference *difference,
                         struct uz_error *err)
{
    size_t n = uz_params_in_group(params, group), first = params->group_first[group];
    uint64_t offset = 0, n_seen = 0;
    for (size_t i = 0; i < n; i++) {
        size_t p = order ? (size_t)order[i] : i;
        uint64_t numel = params->numels[first + p];
        struct uz_hp_fragment fragment = {0};
        bool mapped = uz_hp_fragment(offset, numel, part_start, part_size, &fragment);
        UZ_TRY(compare_one(stored, params->names[first + p], mapped, &fragment.hp, &n_seen,
                           difference, err));
        offset += numel + (paddings ? paddings[p] : 0);
    }
    *n_known = n_seen;
    return UZ_OK;
}

static bool is_of_group(const struct uz_params *params, size_t group, const struct uz_text *name)
{
    for (size_t p = params->group_first[group]; p < params->group_first[group + 1]; p++)
        if (strlen(params->names[p]) == name->nbytes &&
            !memcmp(params->names[p], name->data, name->nbytes))
            return true;
    return false;
}

/* A name in the file's mapping that is no parameter of the group. */
static int unknown_name(const struct stored *stored, const struct uz_params *params, size_t group,
                        struct uz_error *err)
{
    for (size_t i = 0; i < stored->dict->n; i++) {
        const struct uz_text *name = &stored->dict->pairs[i].key->u.text;
        if (!is_of_group(params, group, name))
            return uz_fail(err, UZ_MISMATCH,
                           "param_slice_mappings of group %zu maps %.*s, which is no parameter of "
                           "the group in param_shapes",
                           group, (int)name->nbytes, name->data);
    }
    return uz_fail(err, UZ_CORRUPT, "param_slice_mappings has a name twice");
}

/* place[i]: where in param_shapes (the joined buckets) parameter i of the module's order stands. */
static int module_order(uint64_t n, uint64_t dp, uint64_t **place, struct uz_error *err)
{
    uint64_t *module_index;
    *place = NULL;
    UZ_TRY(uz_alloc(&module_index, n, sizeof *module_index, err));
    int rc = uz_alloc(place, n, sizeof **place, err);
    if (rc == UZ_OK) {
        uz_round_robin_order(n, dp, module_index);
        for (uint64_t i = 0; i < n; i++)
            (*place)[module_index[i]] = i;
    }
    free(module_index);
    return rc;
}

static int disagreement(const struct difference *difference, uint64_t rank, size_t group,
                        struct uz_error *err)
{
    return uz_fail(err, UZ_MISMATCH,
                   "rank %llu, group %zu: %s is mapped to elements %llu + %llu of the partition by "
                   "param_slice_mappings, but to %llu + %llu by the shapes; the shard belongs to "
                   "another model or is damaged",
                   (unsigned long long)rank, group, difference->name,
                   (unsigned long long)difference->file.start,
                   (unsigned long long)difference->file.numel,
                   (unsigned long long)difference->computed.start,
                   (unsigned long long)difference->computed.numel);
}

static int compare(const struct stored *stored, const struct uz_params *params, size_t group,
                   const struct uz_optim_group *stored_group, const struct uz_part *part,
                   enum uz_mapping_verdict *verdict, struct uz_error *err)
{
    uint64_t part_start = part->part * part->size;
    uint64_t n_known;
    struct difference difference = {0}, round_robin = {0};
    UZ_TRY(compare_order(stored, params, group, NULL, stored_group->alignment, part_start,
                         part->size, &n_known, &difference, err));
    if (n_known != stored->dict->n)
        return unknown_name(stored, params, group, err);
    *verdict = stored->dict->n ? UZ_MAPPING_EQUAL : UZ_MAPPING_ABSENT;
    if (!difference.found)
        return UZ_OK;
    uint64_t *order;
    UZ_TRY(module_order(uz_params_in_group(params, group), stored_group->partition_count, &order,
                        err));
    int rc = compare_order(stored, params, group, order, NULL, part_start, part->size, &n_known,
                           &round_robin, err);
    free(order);
    UZ_TRY(rc);
    if (round_robin.found)
        return disagreement(&difference, part->rank, group, err);
    *verdict = UZ_MAPPING_ROUND_ROBIN;
    return UZ_OK;
}

int uz_compare_slice_mapping(const struct uz_node *mapping, const struct uz_params *params,
                             size_t group, const struct uz_optim_group *stored_group,
                             const struct uz_part *part, enum uz_mapping_verdict *verdict,
                             struct uz_error *err)
{
    struct stored stored = {0};
    int rc = index_stored(&stored, mapping, err);
    if (rc == UZ_OK)
        rc = compare(&stored, params, group, stored_group, part, verdict, err);
    uz_map_free(stored.by_name);
    return rc;
}
