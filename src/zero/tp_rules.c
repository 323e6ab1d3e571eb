/* SPDX-License-Identifier: Apache-2.0 */
/* Reads universal_checkpoint_info and finds the rule for a name. */
#include "zero/tp_rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "zero/tp_rules_impl.h"

static const char *const keys[UZ_TP_CATEGORIES] = {
    [UZ_TP_CAT_UNSUPPORTED] = "autotp_unsupported_parameter_patterns",
    [UZ_TP_CAT_AFFINE] = "affine_map",
    [UZ_TP_CAT_REPLICATED] = "tp_replicated_parameter_patterns",
    [UZ_TP_CAT_MEAN] = "parameter_to_average_patterns",
    [UZ_TP_CAT_HALVES] = "parameter_with_2_sub_params_cat_dim_0",
    [UZ_TP_CAT_SUBPARAMS] = "parameter_with_sub_params",
    [UZ_TP_CAT_ROWS] = "parameter_with_row_parallelism_patterns",
    [UZ_TP_CAT_VOCABULARY] = "vocabulary_parameter_patterns",
    [UZ_TP_CAT_COLUMNS] = "column_parallelism_patterns",
};

int uz_tp_rules_new(struct uz_tp_rules **out, const struct uz_limits *limits, struct uz_error *err)
{
    struct uz_tp_rules *rules;
    UZ_TRY(uz_alloc(&rules, 1, sizeof *rules, err));
    *out = rules;
    for (size_t i = 0; i < UZ_TP_CATEGORIES; i++)
        rules->patterns[i].key = keys[i];
    rules->arena = uz_arena_new(limits->max_pickle_arena);
    return rules->arena ? UZ_OK : uz_fail_nomem(err, sizeof(void *));
}

void uz_tp_rules_free(struct uz_tp_rules *rules)
{
    if (!rules)
        return;
    for (size_t i = 0; i < UZ_TP_CATEGORIES; i++)
        uz_tp_patterns_free(&rules->patterns[i]);
    free(rules->reasons);
    free(rules->affines);
    free(rules->subparams);
    uz_arena_free(rules->arena);
    free(rules);
}

/* A category that is a plain list of patterns. */
static int read_list(struct uz_tp_rules *rules, enum uz_tp_category category,
                     const struct uz_node *info, struct uz_error *err)
{
    const struct uz_node *node = uz_node_get(info, keys[category]);
    const struct uz_seq *list = uz_node_seq(node);
    if (!node || uz_node_is_none(node))
        return UZ_OK;
    if (!list)
        return uz_fail(err, UZ_CORRUPT, "%s is no list of patterns", keys[category]);
    for (size_t i = 0; i < list->n; i++) {
        if (list->items[i]->kind != UZ_NODE_STR)
            return uz_fail(err, UZ_CORRUPT, "%s holds something that is no pattern",
                           keys[category]);
        const struct uz_text *text = &list->items[i]->u.text;
        UZ_TRY(uz_tp_patterns_add(&rules->patterns[category], rules->arena, text->data,
                                  text->nbytes, 0, err));
    }
    return UZ_OK;
}

static int read_unsupported(struct uz_tp_rules *rules, const struct uz_node *info,
                            struct uz_error *err)
{
    const struct uz_dict *dict = uz_node_dict(uz_node_get(info, keys[UZ_TP_CAT_UNSUPPORTED]));
    for (size_t i = 0; dict && i < dict->n; i++) {
        const struct uz_node *key = dict->pairs[i].key, *value = dict->pairs[i].value;
        const char **reason;
        if (key->kind != UZ_NODE_STR || value->kind != UZ_NODE_STR)
            return uz_fail(err, UZ_CORRUPT, "%s holds something that is no text",
                           keys[UZ_TP_CAT_UNSUPPORTED]);
        UZ_TRY(uz_tp_patterns_add(&rules->patterns[UZ_TP_CAT_UNSUPPORTED], rules->arena,
                                  key->u.text.data, key->u.text.nbytes, rules->n_reasons, err));
        UZ_TRY(UZ_APPEND(rules->reasons, rules->n_reasons, rules->cap_reasons, &reason, err));
        UZ_TRY(
            uz_arena_strndup(rules->arena, value->u.text.data, value->u.text.nbytes, reason, err));
    }
    return UZ_OK;
}

static int read_vocabulary(struct uz_tp_rules *rules, const struct uz_node *info,
                           struct uz_error *err)
{
    const struct uz_node *size = uz_node_get(info, "original_vocab_size");
    if (!size || uz_node_is_none(size))
        return UZ_OK;
    if (!uz_node_u64(size, &rules->vocabulary))
        return uz_fail(err, UZ_CORRUPT, "original_vocab_size is no proper number");
    rules->has_vocabulary = true;
    return UZ_OK;
}

static int read_info(struct uz_tp_rules *rules, const struct uz_node *info, struct uz_error *err)
{
    static const enum uz_tp_category lists[] = {
        UZ_TP_CAT_REPLICATED, UZ_TP_CAT_MEAN,       UZ_TP_CAT_HALVES,
        UZ_TP_CAT_ROWS,       UZ_TP_CAT_VOCABULARY,
    };
    if (!uz_node_dict(info))
        return uz_fail(err, UZ_CORRUPT, "is no dictionary");
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        UZ_TRY(read_list(rules, lists[i], info, err));
    UZ_TRY(read_unsupported(rules, info, err));
    UZ_TRY(read_vocabulary(rules, info, err));
    UZ_TRY(uz_tp_subparams_read(rules, info, err));
    return uz_tp_affine_read(rules, uz_node_get(info, keys[UZ_TP_CAT_AFFINE]), err);
}

int uz_tp_rules_read(struct uz_tp_rules **out, const struct uz_node *info, const char *origin,
                     const struct uz_limits *limits, struct uz_error *err)
{
    struct uz_tp_rules *rules = NULL;
    int rc = uz_tp_rules_new(&rules, limits, err);
    if (rc == UZ_OK)
        rc = read_info(rules, info, err);
    if (rc < 0) {
        uz_tp_rules_free(rules);
        return uz_context(err, rc, "%s", origin);
    }
    *out = rules;
    return UZ_OK;
}

static int match(struct uz_tp_rules *rules, enum uz_tp_category category, const char *name,
                 const struct uz_tp_pattern **pattern, struct uz_error *err)
{
    return uz_tp_patterns_match(&rules->patterns[category], name, category == UZ_TP_CAT_SUBPARAMS,
                                pattern, err);
}

/*
 * Tries the categories in DeepSpeed's order. Where a category decides, later ones may match too,
 * and are no longer unused; only among affine maps' names must they be unambiguous.
 */
static int find_join(struct uz_tp_rules *rules, const char *name, struct uz_tp_rule *rule,
                     struct uz_error *err)
{
    static const struct {
        enum uz_tp_category category;
        enum uz_tp_join join;
    } order[] = {
        {UZ_TP_CAT_AFFINE, UZ_TP_AFFINE},       {UZ_TP_CAT_REPLICATED, UZ_TP_REPLICATED},
        {UZ_TP_CAT_MEAN, UZ_TP_MEAN},           {UZ_TP_CAT_HALVES, UZ_TP_HALVES},
        {UZ_TP_CAT_SUBPARAMS, UZ_TP_SUBPARAMS}, {UZ_TP_CAT_ROWS, UZ_TP_ROWS},
        {UZ_TP_CAT_COLUMNS, UZ_TP_COLUMNS},
    };
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        const struct uz_tp_pattern *pattern;
        bool decided = rule->is_named;
        UZ_TRY(match(rules, order[i].category, name, &pattern, err));
        if (!pattern || decided)
            continue;
        rule->is_named = rule->is_known = true;
        rule->join = order[i].join;
        if (rule->join == UZ_TP_AFFINE)
            rule->affine = &rules->affines[pattern->value];
        if (rules->dims)
            rule->dims = rules->dims[pattern->value];
        if (rule->join == UZ_TP_SUBPARAMS)
            rule->subparams = &rules->subparams[pattern->value];
    }
    return UZ_OK;
}

int uz_tp_rules_find(struct uz_tp_rules *rules, const char *name, struct uz_tp_rule *rule,
                     struct uz_error *err)
{
    const struct uz_tp_pattern *pattern;
    *rule = (struct uz_tp_rule){.join = UZ_TP_COLUMNS, .is_known = !rules->known_names_only};
    UZ_TRY(match(rules, UZ_TP_CAT_UNSUPPORTED, name, &pattern, err));
    if (pattern)
        rule->refusal = rules->reasons[pattern->value];
    UZ_TRY(find_join(rules, name, rule, err));
    UZ_TRY(match(rules, UZ_TP_CAT_VOCABULARY, name, &pattern, err));
    rule->is_vocabulary = pattern != NULL;
    return UZ_OK;
}

bool uz_tp_vocabulary(const struct uz_tp_rules *rules, uint64_t *n_rows)
{
    *n_rows = rules->vocabulary;
    return rules->has_vocabulary;
}

/* Texts of the patterns that matched in any of the sets. */
static int list_used(struct uz_tp_rules *const *rules, size_t n, struct uz_map *used,
                     struct uz_error *err)
{
    for (size_t r = 0; r < n; r++)
        for (size_t c = UZ_TP_CAT_REPLICATED; rules[r] && c < UZ_TP_CAT_COLUMNS; c++)
            for (size_t i = 0; i < rules[r]->patterns[c].n; i++) {
                const struct uz_tp_pattern *pattern = &rules[r]->patterns[c].items[i];
                if (pattern->used)
                    UZ_TRY(uz_map_add(used, pattern->text, strlen(pattern->text), 0, NULL, err));
            }
    return UZ_OK;
}

/* Texts of patterns that are not in the map, each once, for a message. */
static int list_unused(struct uz_tp_rules *const *rules, size_t n, struct uz_map *used, char *list,
                       size_t size, size_t *n_unused, struct uz_error *err)
{
    size_t length = 0;
    for (size_t r = 0; r < n; r++)
        for (size_t c = UZ_TP_CAT_REPLICATED; rules[r] && c < UZ_TP_CAT_COLUMNS; c++)
            for (size_t i = 0; i < rules[r]->patterns[c].n; i++) {
                const char *text = rules[r]->patterns[c].items[i].text;
                bool present;
                UZ_TRY(uz_map_add(used, text, strlen(text), 0, &present, err));
                if (present)
                    continue;
                ++*n_unused;
                if (length + strlen(text) + 8 < size)
                    length += (size_t)snprintf(list + length, size - length, "%s'%s'",
                                               length ? ", " : "", text);
                else if (length + 8 < size && list[length - 1] != '.')
                    length += (size_t)snprintf(list + length, size - length, ", ...");
            }
    return UZ_OK;
}

int uz_tp_rules_report_unused(struct uz_tp_rules *const *rules, size_t n, struct uz_notes *notes,
                              struct uz_error *err)
{
    char list[512] = "";
    size_t n_unused = 0;
    if (n == 1 && rules[0] && rules[0]->known_names_only)
        return UZ_OK; /* a family's table is not made for this model alone */
    struct uz_map *used = uz_map_new();
    int rc = used ? list_used(rules, n, used, err) : uz_fail_nomem(err, sizeof(void *));
    if (rc == UZ_OK)
        rc = list_unused(rules, n, used, list, sizeof list, &n_unused, err);
    uz_map_free(used);
    if (rc < 0 || n_unused == 0)
        return rc;
    return uz_warn_of_data(notes, err,
                           "Unused patterns: %zu of those that tell how tensor ranks are joined "
                           "match no name in this checkpoint: %s",
                           n_unused, list);
}

/* ---- Sets of rules ---- */

void uz_tp_rule_sets_free(struct uz_tp_rule_sets *sets)
{
    for (size_t i = 0; i < sets->n; i++)
        uz_tp_rules_free(sets->of[i]);
    free(sets->of);
    *sets = (struct uz_tp_rule_sets){0};
}

int uz_tp_rule_sets_find(const struct uz_tp_rule_sets *sets, const char *name,
                         struct uz_tp_rule *rule, struct uz_error *err)
{
    bool found = false;
    *rule = (struct uz_tp_rule){.join = UZ_TP_COLUMNS, .is_known = true};
    for (size_t i = 0; i < sets->n; i++) {
        struct uz_tp_rule of_set;
        if (!sets->of[i])
            continue;
        UZ_TRY(uz_tp_rules_find(sets->of[i], name, &of_set, err));
        if (of_set.is_named || !found)
            *rule = of_set;
        if (of_set.is_named)
            break;
        found = true;
    }
    return UZ_OK;
}

bool uz_tp_rule_sets_vocabulary(const struct uz_tp_rule_sets *sets, uint64_t *n_rows)
{
    for (size_t i = 0; i < sets->n; i++)
        if (sets->of[i] && uz_tp_vocabulary(sets->of[i], n_rows))
            return true;
    return false;
}
