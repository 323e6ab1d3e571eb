/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of struct uz_tp_rules, for the files that make rules. */
#ifndef UZ_ZERO_TP_RULES_IMPL_H
#define UZ_ZERO_TP_RULES_IMPL_H

#include "zero/tp_pattern.h"
#include "zero/tp_rules.h"

/* Categories of patterns. */
enum uz_tp_category {
    UZ_TP_CAT_UNSUPPORTED,
    UZ_TP_CAT_AFFINE,
    UZ_TP_CAT_REPLICATED,
    UZ_TP_CAT_MEAN,
    UZ_TP_CAT_HALVES,
    UZ_TP_CAT_SUBPARAMS,
    UZ_TP_CAT_ROWS,
    UZ_TP_CAT_VOCABULARY,
    UZ_TP_CAT_COLUMNS, /* of built-in maps alone */
    UZ_TP_CATEGORIES
};

struct uz_tp_rules {
    struct uz_arena *arena;
    struct uz_tp_patterns patterns[UZ_TP_CATEGORIES];
    /* what the values of patterns stand for: */
    const char **reasons; /* UNSUPPORTED */
    size_t n_reasons, cap_reasons;
    struct uz_tp_affine *affines; /* AFFINE */
    size_t n_affines, cap_affines;
    struct uz_tp_subparams *subparams; /* SUBPARAMS */
    size_t n_subparams, cap_subparams;
    bool has_vocabulary;
    uint64_t vocabulary;
    bool known_names_only; /* a name that no pattern matches is not joined by default */
    const char *family;
    const char *const *dims; /* of the family's patterns, by their values */
    uint64_t sizes[128];     /* what a letter stands for, once known; and where it was seen */
    const char *seen_in[128];
};

int uz_tp_rules_new(struct uz_tp_rules **rules, const struct uz_limits *limits,
                    struct uz_error *err);

/* affine_map of a universal_checkpoint_info. */
int uz_tp_affine_read(struct uz_tp_rules *rules, const struct uz_node *map, struct uz_error *err);

/* parameter_with_sub_params and sub_param_shard_widths. */
int uz_tp_subparams_read(struct uz_tp_rules *rules, const struct uz_node *info,
                         struct uz_error *err);

/* The items of a list, a tuple or a torch.Size; else NULL. */
const struct uz_seq *uz_tp_list(const struct uz_node *node);

/* A list of n numbers that are not negative, copied; UZ_CORRUPT, `what` in the message. */
int uz_tp_numbers(struct uz_tp_rules *rules, const struct uz_node *list, const char *what,
                  const uint64_t **numbers, size_t *n, struct uz_error *err);

#endif
