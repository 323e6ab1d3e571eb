/* SPDX-License-Identifier: Apache-2.0 */
/* What a checkpoint that is to be resharded holds: its model, and the values of its first rank. */
#ifndef UZ_CONVERT_RESHARD_SOURCE_H
#define UZ_CONVERT_RESHARD_SOURCE_H

#include <unzero/input.h>

#include "base/notes.h"
#include "layout/model.h"
#include "out/zero_layout.h"
#include "torch/file.h"
#include "torch/scalar.h"
#include "zero/read.h"
#include "zero/topology.h"

struct uz_reshard_source {
    struct uz_model model; /* with all optimizer states */
    struct uz_zero_info info;
    struct uz_topology topology;
    struct uz_torch_file *states;    /* model states of rank 0 */
    struct uz_torch_file *optim;     /* optimizer states of rank 0; universal: optimizer_state.pt */
    const struct uz_node *optimizer; /* in the latter: the ZeRO optimizer's own dictionary */
    const struct uz_node *base; /* in that: the state and param_groups of the optimizer itself */
    int stage;                  /* whose layout the values have: 1, 2 or 3 */
    bool bf16_optimizer, elastic;
    bool bf16; /* the files' names have that prefix */
    /* what the optimizer trains, by group, in the module's order */
    struct uz_zero_param *params;
    size_t n_params;
    struct uz_zero_group *groups;
    size_t n_groups;
    struct uz_map *aliases;  /* second names -> index into the model's aliases */
    int64_t *state_ids;      /* of each group: which entry of base's states is its first */
    struct uz_scalar *steps; /* universal: those of each group, which are in files of their own */
    uint32_t *state_tensors; /* [state * n_params + param]: the tensor; UZ_NONE: has none */
};

/*
 * Reads ZeRO 1, 2 or 3 and universal checkpoints of data parallelism. Others are refused by name.
 * Free with uz_reshard_source_free, after failures too; zeroed before.
 */
int uz_reshard_source_read(struct uz_reshard_source *source, const char *checkpoint,
                           const struct uz_input_options *input, struct uz_notes *notes,
                           struct uz_error *err);
void uz_reshard_source_free(struct uz_reshard_source *source);

/* Universal checkpoints: reads the groups' steps from zero/<name>/step.pt. */
int uz_reshard_read_steps(struct uz_reshard_source *source, const struct uz_limits *limits,
                          struct uz_error *err);

/* The sub-groups that a parameter group of ZeRO 3 has; PyTorch's Adagrad lists them twice. */
size_t uz_reshard_n_sub_groups(const struct uz_node *group);

/* {state: value} of the optimizer for a group on rank 0; NULL: none yet. */
const struct uz_node *uz_reshard_states_of(const struct uz_reshard_source *source, size_t group);

/* The tensor that a parameter's state is; UZ_NONE if it has none. */
uint32_t uz_reshard_state_tensor(const struct uz_reshard_source *source, const char *name,
                                 size_t nbytes, size_t param);

#endif
