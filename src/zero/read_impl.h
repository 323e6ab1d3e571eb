/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that lives while all model-parallel ranks of a checkpoint are read. */
#ifndef UZ_ZERO_READ_IMPL_H
#define UZ_ZERO_READ_IMPL_H

#include "zero/reading.h"

/* What a model-parallel rank's reading fills if there are several of them. */
struct uz_own {
    struct uz_model model;
    struct uz_zero_info info;
    struct uz_notes notes;
};

struct uz_read {
    const struct uz_zero_options *options;
    unsigned threads;
    struct uz_topology topology;
    enum uz_shard_kind model_kind; /* of the model states */
    enum uz_layout layout;
    struct uz_reading *slices; /* of each model-parallel rank */
    uint32_t n_slices;
    struct uz_grid grid;
    struct uz_own *own;      /* NULL if there is one rank: then the caller's are filled at once */
    bool has_layers;         /* a pipeline's weights are in layer files */
    struct uz_model *layers; /* then: what they hold, of each tensor rank */
    uint32_t n_layers;
    struct uz_tp_rule_sets tp_rules; /* that joined them */
    struct uz_model *model;
    struct uz_zero_info *info;
    struct uz_notes *notes;
};

/* ---- read_join.c ---- */

/*
 * Joins what the ranks' models hold, with the layer files of a pipeline. Nothing is to be done if
 * there is one rank.
 */
int uz_read_join(struct uz_read *read, struct uz_error *err);

#endif
