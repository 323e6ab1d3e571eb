/* SPDX-License-Identifier: Apache-2.0 */
/* One rank's optimizer file, reduced to what the join of the ranks needs. */
#ifndef UZ_ZERO_OPTIM_SHARD_H
#define UZ_ZERO_OPTIM_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "torch/file.h"
#include "zero/params.h"

/* A 1-D run of elements in a file: a partition of a flat group. */
struct uz_flat_view {
    struct uz_storage storage;
    uint64_t first; /* element of the storage */
    uint64_t numel;
    enum uz_dtype dtype;
};

/* The elements of a contiguous view. */
static inline struct uz_flat_view uz_flat_view_of(const struct uz_view *view)
{
    return (struct uz_flat_view){view->storage, view->first, view->numel, view->dtype};
}

/* How a rank's param_slice_mappings compare with the linkage computed from partition offsets. */
enum uz_mapping_verdict {
    UZ_MAPPING_ABSENT,      /* the file has none, or nothing of the group is on this rank */
    UZ_MAPPING_EQUAL,       /* as computed from param_shapes */
    UZ_MAPPING_ROUND_ROBIN, /* as computed from the module's order: DeepSpeed's known fault */
};

/* An optimizer state that has an element for each element of the partition. */
struct uz_optim_state {
    char *name;
    struct uz_flat_view view; /* with the padding of the partition, or without */
};

struct uz_optim_group {
    struct uz_flat_view fp32;
    struct uz_optim_state *states; /* all, if any was asked for */
    size_t n_states, cap_states;
    bool is_muon; /* ZeRO 1 and 2: of Muon, whose states may have any size (join_flat.h) */
    uint64_t partition_count;
    bool has_part; /* the file tells (ds_zero_partition_groups) which part of the group it has */
    uint64_t part;
    uint64_t padding; /* `group_paddings` entry, valid if has_padding */
    bool has_padding;
    uint64_t *alignment; /* padding behind each parameter, NULL if none */
    enum uz_mapping_verdict mapping;
};

/* The record of one shard. */
struct uz_optim_shard {
    const char *compressed; /* what compresses states that are left out; NULL: none are */
    char misfit[64];        /* a state that was asked for and has another size; "": none */
    int stage;              /* 1, 2 or 3 */
    /*
     * Written by BF16_Optimizer (stage 1 with fp32 gradient accumulation), which records no stage
     * and stores every partition whole.
     */
    bool bf16_optimizer;
    size_t n_groups;
    struct uz_optim_group *groups;
    bool has_step;
    double step; /* of the optimizer */
    /*
     * Whether the step is that of a state, which counts what global_steps counts; that of a
     * parameter group (older fused optimizers) rises once for each sub-group under ZeRO 3.
     */
    bool step_is_of_state;
    char ds_version[64];    /* "" if not recorded */
    char archive_root[256]; /* name of the archive's folder: the file's stem when it was saved */
};

/* What a shard is read for. */
struct uz_optim_request {
    const struct uz_params *params; /* of the model states */
    const struct uz_model *model;
    const char *state; /* of the optimizer: a name, "all", or NULL for none */
    const struct uz_limits *limits;
};

/*
 * Reads an optimizer file of data-parallel rank `rank`. Layouts beyond plain ZeRO 1, 2 and 3 are
 * refused by name. Free with uz_optim_shard_free, after failures too. Safe to call from several
 * threads on different shards.
 */
int uz_optim_shard_read(struct uz_optim_shard *shard, const char *path, uint64_t rank,
                        const struct uz_optim_request *request, struct uz_error *err);

/* The same of an open file, which stays open. */
int uz_optim_shard_read_open(struct uz_optim_shard *shard, struct uz_torch_file *file,
                             uint64_t rank, const struct uz_optim_request *request,
                             struct uz_error *err);

void uz_optim_shard_free(struct uz_optim_shard *shard);

#endif
