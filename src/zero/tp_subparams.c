/* SPDX-License-Identifier: Apache-2.0 */
/* Reads parameter_with_sub_params: SubparamShape{patterns, shape, partition_dim}, and widths. */
#include <string.h>

#include "layout/placement.h"
#include "zero/tp_rules_impl.h"

/* From this version of universal_checkpoint_info on widths are recorded. */
static const double widths_version = 0.4;

static int bad(const struct uz_text *pattern, const char *what, struct uz_error *err)
{
    return uz_fail(err, UZ_CORRUPT, "parameter_with_sub_params of '%.*s': %s",
                   pattern ? (int)pattern->nbytes : 0, pattern ? pattern->data : "", what);
}

/* A field of the dictionary that AutoTP writes, or of a SubparamShape object. */
static const struct uz_node *field(const struct uz_node *node, const char *name)
{
    if (node->kind == UZ_NODE_OBJECT && !uz_node_dict(node))
        return uz_node_get(node->u.object->state, name);
    return uz_node_get(node, name);
}

static bool records_widths(const struct uz_node *info)
{
    const struct uz_node *version = uz_node_get(info, "universal_checkpoint_version");
    int64_t integer;
    if (version && version->kind == UZ_NODE_FLOAT)
        return version->u.real >= widths_version;
    return uz_node_int(version, &integer) && (double)integer >= widths_version;
}

/* One entry of a shape: a size, -1, or the sizes of sub-parameters. */
static int read_entry(struct uz_tp_rules *rules, const struct uz_node *node, unsigned dim,
                      const struct uz_text *pattern, struct uz_tp_subparams *made, int64_t *shape,
                      struct uz_error *err)
{
    const uint64_t *sizes;
    size_t n;
    if (uz_node_int(node, &shape[dim])) {
        if (shape[dim] < -1)
            return bad(pattern, "its shape has a size below -1", err);
        if (dim == made->dim)
            made->n = shape[dim] > 0 ? (size_t)shape[dim] : 0; /* how many equal ones */
        return UZ_OK;
    }
    UZ_TRY(uz_tp_numbers(rules, node, "an entry of its shape", &sizes, &n, err));
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        if (!uz_add_u64(sum, sizes[i], &sum) || sum > INT64_MAX)
            return bad(pattern, "its sizes are beyond 63 bits", err);
    shape[dim] = (int64_t)sum;
    if (dim == made->dim) {
        made->n = n;
        made->sizes = sizes;
    }
    return UZ_OK;
}

static int read_shape(struct uz_tp_rules *rules, const struct uz_node *node,
                      const struct uz_text *pattern, struct uz_tp_subparams *made,
                      struct uz_error *err)
{
    const struct uz_seq *list = uz_tp_list(field(node, "shape"));
    uint64_t dim;
    int64_t *shape;
    if (!list || list->n == 0 || list->n > UZ_MAX_BLOCK_DIMS)
        return bad(pattern, "it has no proper shape", err);
    if (!uz_node_u64(field(node, "partition_dim"), &dim) || dim >= list->n)
        return bad(pattern, "it has no proper partition_dim", err);
    UZ_TRY(uz_arena_alloc(rules->arena, list->n, sizeof *shape, &shape, err));
    made->shape = shape;
    made->ndim = (unsigned)list->n;
    made->dim = (unsigned)dim;
    for (size_t i = 0; i < list->n; i++)
        UZ_TRY(read_entry(rules, list->items[i], (unsigned)i, pattern, made, shape, err));
    if (made->n == 0)
        return bad(pattern, "it has no sub-parameters", err);
    return UZ_OK;
}

/* The widths of each sub-parameter on each rank, which must add up to its size. */
static int read_widths(struct uz_tp_rules *rules, const struct uz_node *node,
                       const struct uz_text *pattern, struct uz_tp_subparams *made,
                       struct uz_error *err)
{
    const struct uz_seq *lists = uz_node_list(node);
    uint64_t *all = NULL;
    if (!made->sizes || !lists || lists->n != made->n)
        return bad(pattern, "sub_param_shard_widths has not one list for each sub-parameter", err);
    for (size_t i = 0; i < lists->n; i++) {
        const uint64_t *widths;
        size_t n;
        uint64_t sum = 0;
        UZ_TRY(uz_tp_numbers(rules, lists->items[i], "sub_param_shard_widths", &widths, &n, err));
        if (i == 0) {
            UZ_TRY(
                uz_arena_alloc(rules->arena, (uint64_t)lists->n * n + 1, sizeof *all, &all, err));
            made->n_ranks = n;
        }
        if (n != made->n_ranks)
            return bad(pattern, "sub_param_shard_widths tells of different numbers of ranks", err);
        for (size_t r = 0; r < n; r++) {
            all[i * n + r] = widths[r];
            if (!uz_add_u64(sum, widths[r], &sum))
                sum = UINT64_MAX;
        }
        if (sum != made->sizes[i])
            return bad(pattern, "sub_param_shard_widths do not add up to the sub-parameter's size",
                       err);
    }
    made->widths = all;
    return UZ_OK;
}

/* What one universal_checkpoint_info tells of widths. */
struct widths {
    bool recorded; /* for every pattern, by the version; before there may be some in a user's map */
    const struct uz_dict *dict;
    struct uz_map *by_pattern; /* pattern -> place in dict */
};

static int index_widths(struct widths *widths, const struct uz_node *info, struct uz_error *err)
{
    *widths = (struct widths){.recorded = records_widths(info)};
    widths->dict = uz_node_dict(uz_node_get(info, "sub_param_shard_widths"));
    widths->by_pattern = uz_map_new();
    if (!widths->by_pattern)
        return uz_fail_nomem(err, sizeof(void *));
    for (size_t i = 0; widths->dict && i < widths->dict->n; i++) {
        const struct uz_node *key = widths->dict->pairs[i].key;
        if (key->kind != UZ_NODE_STR)
            return uz_fail(err, UZ_CORRUPT, "sub_param_shard_widths has a key that is no pattern");
        UZ_TRY(uz_map_add(widths->by_pattern, key->u.text.data, key->u.text.nbytes, i, NULL, err));
    }
    return UZ_OK;
}

static int read_one(struct uz_tp_rules *rules, const struct widths *widths,
                    const struct uz_node *node, size_t entry, const struct uz_node *pattern_node,
                    struct uz_error *err)
{
    struct uz_tp_subparams *made;
    if (pattern_node->kind != UZ_NODE_STR)
        return bad(NULL, "it holds something that is no pattern", err);
    const struct uz_text *pattern = &pattern_node->u.text;
    UZ_TRY(uz_tp_patterns_add(&rules->patterns[UZ_TP_CAT_SUBPARAMS], rules->arena, pattern->data,
                              pattern->nbytes, rules->n_subparams, err));
    UZ_TRY(UZ_APPEND(rules->subparams, rules->n_subparams, rules->cap_subparams, &made, err));
    made->entry = entry;
    UZ_TRY(read_shape(rules, node, pattern, made, err));
    uint64_t at;
    bool found = uz_map_get(widths->by_pattern, pattern->data, pattern->nbytes, &at);
    if (!found && !widths->recorded)
        return UZ_OK;
    if (!found)
        return uz_fail(err, UZ_CORRUPT,
                       "records no sub_param_shard_widths for the pattern '%.*s', which has "
                       "sub-parameters",
                       (int)pattern->nbytes, pattern->data);
    return read_widths(rules, widths->dict->pairs[at].value, pattern, made, err);
}

static int read_all(struct uz_tp_rules *rules, const struct widths *widths,
                    const struct uz_seq *list, struct uz_error *err)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct uz_seq *patterns = uz_node_list(field(list->items[i], "patterns"));
        if (!patterns)
            return bad(NULL, "an entry has no patterns", err);
        for (size_t k = 0; k < patterns->n; k++)
            UZ_TRY(read_one(rules, widths, list->items[i], i, patterns->items[k], err));
    }
    return UZ_OK;
}

int uz_tp_subparams_read(struct uz_tp_rules *rules, const struct uz_node *info,
                         struct uz_error *err)
{
    const struct uz_node *node = uz_node_get(info, "parameter_with_sub_params");
    const struct uz_seq *list = uz_node_list(node);
    struct widths widths;
    if (!node || uz_node_is_none(node))
        return UZ_OK;
    if (!list)
        return bad(NULL, "it is no list", err);
    int rc = index_widths(&widths, info, err);
    if (rc == UZ_OK)
        rc = read_all(rules, &widths, list, err);
    uz_map_free(widths.by_pattern);
    return rc;
}
