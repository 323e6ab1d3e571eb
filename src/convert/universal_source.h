/* SPDX-License-Identifier: Apache-2.0 */
/* What a universal checkpoint is made of: the model, and the files that hold what is no tensor. */
#ifndef UZ_CONVERT_UNIVERSAL_SOURCE_H
#define UZ_CONVERT_UNIVERSAL_SOURCE_H

#include <unzero/input.h>

#include "base/notes.h"
#include "layout/model.h"
#include "torch/file.h"
#include "torch/scalar.h"
#include "zero/read.h"
#include "zero/topology.h"
#include "zero/tp_rules.h"

/* The optimizer file of data-parallel rank 0 of a model-parallel rank. */
struct uz_universal_optim {
    struct uz_torch_file *file;
    const struct uz_node *zero; /* the ZeRO optimizer's dictionary */
    const struct uz_node *base; /* in it, that of the optimizer itself */
    size_t n_groups;            /* ZeRO 3: sub-groups */
    struct uz_scalar *steps;    /* of each group */
};

struct uz_universal_source {
    struct uz_model model; /* with all optimizer states */
    struct uz_zero_info info;
    struct uz_topology topology;
    struct uz_limits limits;
    uint32_t n_mp;
    struct uz_universal_optim *optims; /* of each model-parallel rank */
    struct uz_torch_file **states;     /* model states of each (of data-parallel rank 0) */
    enum uz_shard_kind states_kind;
    struct uz_tp_rule_sets rules; /* how tensor ranks' shards are joined; empty: nothing tells it */
    bool has_info;                /* universal_checkpoint_info is there */
    bool has_step;                /* the optimizer keeps a step in its states */
    bool has_numbers;             /* and beside it other values that are not of single elements */
    uint32_t *partition_of;       /* of each place of the model: its partition, or UZ_NONE */
};

/*
 * Reads ZeRO 1, 2 and 3. UZ_UNSUPPORTED names what is none, and optimizers whose states do not
 * belong to the elements of parameters. Free with uz_universal_source_free, after failures too;
 * zeroed before.
 */
int uz_universal_source_read(struct uz_universal_source *source, const char *checkpoint,
                             const struct uz_input_options *input, struct uz_notes *notes,
                             struct uz_error *err);
void uz_universal_source_free(struct uz_universal_source *source);

/* The key of a group (ZeRO 3: sub-group) in the optimizer's states. */
int64_t uz_universal_state_id(const struct uz_universal_source *source, uint32_t mp, size_t group);

/* {name: value} of the optimizer for a group (ZeRO 3: sub-group); NULL: none yet. */
const struct uz_node *uz_universal_states_of(const struct uz_universal_source *source, uint32_t mp,
                                             size_t group);

/* The step of a parameter; NULL if the optimizer keeps none in its states. */
const struct uz_scalar *uz_universal_step_of(const struct uz_universal_source *source,
                                             uint32_t tensor);

/* True if the value is a tensor of the partition's size: a state that the model has. */
bool uz_universal_is_sharded(const struct uz_universal_source *source, uint32_t mp, size_t group,
                             const struct uz_node *key);

#endif
