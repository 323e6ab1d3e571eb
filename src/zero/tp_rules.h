/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the shards that tensor ranks hold of a parameter are joined: the rules that
 * `universal_checkpoint_info` gives by regular expressions on names (DeepSpeed:
 * deepspeed/checkpoint/ds_to_universal.py, affine.py), a map of the user's, or a built-in one.
 */
#ifndef UZ_ZERO_TP_RULES_H
#define UZ_ZERO_TP_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <unzero/limits.h>

#include "base/notes.h"
#include "layout/placement.h"
#include "torch/node.h"

/* The ways to join, in the order in which they are tried. */
enum uz_tp_join {
    UZ_TP_AFFINE,     /* affine_map: each rank's blocks, one by one */
    UZ_TP_REPLICATED, /* the same on all ranks */
    UZ_TP_MEAN,       /* parameter_to_average_patterns */
    UZ_TP_HALVES,     /* parameter_with_2_sub_params_cat_dim_0 */
    UZ_TP_SUBPARAMS,  /* parameter_with_sub_params */
    UZ_TP_ROWS,       /* side by side along dimension 1 */
    UZ_TP_COLUMNS, /* along dimension 0; what no rule names, unless only known names are joined */
};

/* A block of a rank's shard, as affine_map describes it. */
struct uz_tp_piece {
    struct uz_block block;
    bool is_copy; /* another rank, which comes first in `locations`, holds it too */
    uint32_t owner;
};

struct uz_tp_affine_rank {
    uint64_t numel; /* of its shard */
    size_t n_pieces;
    const struct uz_tp_piece *pieces;
};

struct uz_tp_affine {
    unsigned ndim;
    const uint64_t *shape;
    size_t n_ranks;
    const struct uz_tp_affine_rank *ranks;
    bool is_scaled; /* a piece has a scale */
};

/* A parameter that is several ones behind another along a dimension, each split on its own. */
struct uz_tp_subparams {
    unsigned ndim;
    const int64_t *shape; /* -1 once: what is left; the entry of `dim` does not count */
    unsigned dim;
    size_t n;
    const uint64_t *sizes;  /* of each along `dim`; NULL: n equal ones */
    const uint64_t *widths; /* of sub-parameter i on rank r: [i * n_ranks + r]; NULL: even */
    size_t n_ranks;
    size_t entry; /* which of parameter_with_sub_params it is */
};

struct uz_tp_rule {
    enum uz_tp_join join;
    bool is_named;       /* a pattern names it: it is not the default */
    bool is_known;       /* false: the rules do not tell how to join it */
    bool is_vocabulary;  /* rows from the original vocabulary's size on are padding */
    const char *refusal; /* why it cannot be joined (autotp_unsupported_parameter_patterns) */
    const struct uz_tp_affine *affine;
    const struct uz_tp_subparams *subparams;
    const char *dims; /* of a family: a letter for each dimension, see tp_families.c */
};

struct uz_tp_rules;

/* Reads a universal_checkpoint_info; `origin` names it in messages. Everything is copied. */
int uz_tp_rules_read(struct uz_tp_rules **rules, const struct uz_node *info, const char *origin,
                     const struct uz_limits *limits, struct uz_error *err);

/* Reads a JSON file with the same keys. */
int uz_tp_rules_from_json(struct uz_tp_rules **rules, const char *path,
                          const struct uz_limits *limits, struct uz_error *err);

/* Only whether such a file can be read. */
int uz_tp_rules_check_json(const char *path, const struct uz_limits *limits, struct uz_error *err);

/* A tensor as a tensor rank holds it. */
struct uz_tp_named {
    const char *name;
    unsigned ndim;
    const uint64_t *shape;
};

/*
 * The built-in rules of the model family (tp_families.c) that knows all n names, which are those of
 * one tensor rank; else UZ_UNSUPPORTED, which lists some that the closest family does not know.
 */
int uz_tp_rules_of_family(struct uz_tp_rules **rules, const struct uz_tp_named *tensors, size_t n,
                          const struct uz_limits *limits, struct uz_error *err);

/* What a family is called; NULL for rules of a checkpoint or a file. */
const char *uz_tp_family_name(const struct uz_tp_rules *rules);

/*
 * Of a family: joined tensors must fit one another (what is the hidden size here is so there), else
 * the map is not this model's: UZ_MISMATCH.
 */
int uz_tp_rules_check_shape(struct uz_tp_rules *rules, const struct uz_tp_rule *rule,
                            const char *name, unsigned ndim, const uint64_t *shape,
                            struct uz_error *err);

void uz_tp_rules_free(struct uz_tp_rules *rules);

/*
 * The rule for a name. Two patterns of one category that match it are UZ_MISMATCH. Patterns that
 * matched are remembered.
 */
int uz_tp_rules_find(struct uz_tp_rules *rules, const char *name, struct uz_tp_rule *rule,
                     struct uz_error *err);

/* Rows of a vocabulary without padding; false if the rules do not tell. */
bool uz_tp_vocabulary(const struct uz_tp_rules *rules, uint64_t *n_rows);

/* What the stages of a pipeline record, each for its own parameters; entries may be NULL. */
struct uz_tp_rule_sets {
    struct uz_tp_rules **of;
    size_t n;
};

void uz_tp_rule_sets_free(struct uz_tp_rule_sets *sets);

/*
 * The rule of the first set that names the parameter, else what the first one takes for the
 * others; without any set a join on the first dimension.
 */
int uz_tp_rule_sets_find(const struct uz_tp_rule_sets *sets, const char *name,
                         struct uz_tp_rule *rule, struct uz_error *err);

/* Rows of a vocabulary without padding; false if no set tells. */
bool uz_tp_rule_sets_vocabulary(const struct uz_tp_rule_sets *sets, uint64_t *n_rows);

/* Warns of patterns that matched no name in any of n sets of rules; entries may be NULL. */
int uz_tp_rules_report_unused(struct uz_tp_rules *const *rules, size_t n, struct uz_notes *notes,
                              struct uz_error *err);

#endif
