/* SPDX-License-Identifier: Apache-2.0 */
/* Mixture of experts: which layers have them, how they are numbered, their files. */
#ifndef UZ_ZERO_EXPERTS_H
#define UZ_ZERO_EXPERTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "layout/model.h"
#include "torch/file.h"
#include "zero/topology.h"

/* In the name of every parameter of a native expert, in front of its number. */
#define UZ_NATIVE_EXPERTS ".deepspeed_moe.experts.deepspeed_experts."

/*
 * A layer with experts. Two kinds of them:
 *   - native (deepspeed.moe): every expert is a module,
 *     <layer>.deepspeed_moe.experts.deepspeed_experts.<number>.<rest>. On a rank, and so in
 *     param_shapes, the numbers are local: expert i of expert-parallel rank e is expert
 *     e * (experts of a rank) + i of the model, which is its number in the expert files.
 *   - fused (AutoEP): the weights of all experts of a rank are stacked in three tensors,
 *     <layer>.experts.w1, w2 and w3, and those of all ranks make up the model's.
 */
struct uz_expert_layer {
    const char *prefix; /* of the parameters' names: all before the number, or before w1 */
    size_t prefix_nbytes;
    uint32_t number; /* moe_layer_id, as in the names of expert files */
    uint32_t n_experts;
    bool fused;
    uint32_t ep;         /* fused only: expert-parallel ranks */
    uint32_t n_local;    /* fused only: experts of each rank */
    const uint32_t *ids; /* fused only: ids[e * n_local + i] is expert i of rank e */
};

/* A tensor of an expert file: the low-precision copy of one expert's weight. */
struct uz_expert_copy {
    size_t layer; /* index into layers */
    uint32_t expert;
    uint32_t file;    /* of the model */
    const char *name; /* as in the file; fused: that of the whole stack */
    enum uz_dtype dtype;
    unsigned ndim;
    const uint64_t *shape;
    struct uz_piece piece; /* of a tensor that is not known yet */
};

struct uz_experts {
    bool data_first; /* use_data_before_expert_parallelism */
    struct uz_arena *arena;
    struct uz_expert_layer *layers;
    size_t n_layers, cap_layers;
    struct uz_expert_copy *copies; /* by layer, expert, and order in the file */
    size_t n_copies, cap_copies;
    uint64_t *partition_counts; /* of each optimizer group, if there are native experts */
    const char **group_names;   /* and its name; NULL if it has none */
    size_t n_groups;
};

/* What is read. */
struct uz_experts_request {
    const struct uz_topology *topology;
    uint32_t mp;
    const struct uz_torch_file *file; /* the model states, open */
    struct uz_model *model;           /* gets the expert files */
    const struct uz_limits *limits;
    bool partitioned; /* ZeRO 3: experts stand in the optimizer shards alone */
    bool flat_groups; /* ZeRO 1 and 2: how groups are cut is asked of the first shard */
};

/*
 * Finds the layers with experts and reads the expert files of a model-parallel rank; without any
 * the result is empty. A file that is missing, or holds another expert than its name tells, is
 * UZ_MISMATCH. Free with uz_experts_free, after failures too.
 */
int uz_experts_read(struct uz_experts *experts, const struct uz_experts_request *request,
                    struct uz_error *err);

void uz_experts_free(struct uz_experts *experts);

/* A name of an expert's parameter, taken apart; the texts are the name's own. */
struct uz_expert_name {
    const struct uz_expert_layer *layer;
    uint64_t expert;  /* native: the number in the name */
    const char *rest; /* native: all behind the number */
    size_t rest_nbytes;
};

/* True and the parts if the name is that of an expert's parameter or buffer. */
bool uz_expert_find(const struct uz_experts *experts, const char *name, size_t nbytes,
                    struct uz_expert_name *found);

/* The name with another expert's number. */
int uz_expert_global_name(struct uz_arena *arena, const struct uz_expert_name *name,
                          uint64_t expert, const char **out, struct uz_error *err);

/* Expert-parallel ranks of an optimizer group: all ranks by those that one partition is of. */
int uz_expert_group_ep(const struct uz_experts *experts, size_t group, uint64_t world, uint64_t *ep,
                       struct uz_error *err);

/* What the copies are used for. */
enum uz_expert_use {
    UZ_EXPERTS_LP,              /* copies of parameters that the model has; others are frozen */
    UZ_EXPERTS_ALONE,           /* they are the weights */
    UZ_EXPERTS_MASTERS_UNKNOWN, /* copies; which have masters is found out later (stage 0) */
};

/*
 * Gives the model what the copies are: low-precision copies of its parameters, frozen parameters,
 * buffers (which `file` lists under the names of the first rank). A parameter without a copy is
 * UZ_MISMATCH. Experts come after the other tensors, in the order of their files.
 */
int uz_experts_add(const struct uz_experts *experts, const struct uz_torch_file *file,
                   enum uz_expert_use use, struct uz_model *model, struct uz_error *err);

#endif
