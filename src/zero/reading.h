/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that lives while one checkpoint is read. */
#ifndef UZ_ZERO_READING_H
#define UZ_ZERO_READING_H

#include "zero/experts.h"
#include "zero/frozen.h"
#include "zero/grid.h"
#include "zero/module.h"
#include "zero/optim_shard.h"
#include "zero/params.h"
#include "zero/read.h"
#include "zero/stage0_layers.h"
#include "zero/topology.h"

/* What the files of a checkpoint are, as far as their names and the first of them tell. */
enum uz_layout {
    UZ_LAYOUT_STAGE0,  /* no partitions: the model states hold masters and optimizer, if any */
    UZ_LAYOUT_STAGE12, /* flat groups cut into partitions; ZeRO 1, 2, BF16_Optimizer */
    UZ_LAYOUT_STAGE3,  /* each parameter cut on its own */
    UZ_LAYOUT_LP,      /* the low-precision module alone, by request */
};

/*
 * The reading of one model-parallel rank: its files hold tensors of their own, local ones, which
 * are whole in `model` when it is done. Without tensor and pipeline parallelism that is the
 * checkpoint's model; else the local tensors are joined afterwards (grid_join.h). Ranks are read
 * side by side, so a reading shares nothing with others that changes.
 */
struct uz_reading {
    const struct uz_zero_options *options;
    const struct uz_topology *topology;
    uint32_t mp;                       /* model-parallel rank */
    bool is_one_of_several;            /* there are other model-parallel ranks */
    const struct uz_shard_file *first; /* its model states (of data-parallel rank 0) */
    unsigned threads;                  /* for its shards */
    const struct uz_model *ties_of;    /* of rank 0, opened before; see struct uz_module_reader */
    enum uz_layout layout;
    struct uz_model *model;
    struct uz_zero_info *info;
    struct uz_notes *notes;
    struct uz_experts experts;
    struct uz_params params;
    struct uz_frozen frozen;
    bool is_pipeline;     /* the weights are in layer files, `module` is None */
    const char **buffers; /* then: names that are buffers; texts live as long as the model */
    size_t n_buffers;
    bool
        has_shapes; /* a pipeline read with UZ_LAYOUT_LP: its parameters without data, unfinished */
    struct uz_model shapes;
    struct uz_stage0_layers *layers; /* a pipeline without ZeRO: what all of its stages tell */
    bool owns_layers;
    bool on_nvme;   /* the optimizer was offloaded to NVMe: partitions may be elsewhere */
    uint64_t world; /* data-parallel ranks */
    struct uz_optim_shard *shards; /* of each of them */
    uint32_t *optim_files;         /* their files in the model */
    struct uz_metadata *metadata;  /* ZeRO-3: of each rank's model states */
    uint32_t *model_files;
    bool has_seen;
    struct uz_seen seen; /* pickles of model states that agree with the first ones */
    struct uz_flat_view **frozen_slices;
    char seen_states[512]; /* names of the optimizer's states, for messages */
};

/* Opens the first model states, which tell what the rank holds. */
int uz_reading_open(struct uz_reading *reading, struct uz_error *err);

/* Reads the shards of all data-parallel ranks, checks that they agree, and joins them. */
int uz_reading_join_ranks(struct uz_reading *reading, struct uz_error *err);

/*
 * Without optimizer shards (a universal checkpoint): reads the ranks' slices of frozen parameters
 * of ZeRO 3 and joins them. `world` is set.
 */
int uz_reading_join_frozen(struct uz_reading *reading, struct uz_error *err);

/* Records the optimizer's step; warns if it is not that of the model states. */
int uz_reading_set_step(struct uz_reading *reading, double step, struct uz_error *err);

/* Prepares `seen`, once. */
int uz_reading_need_seen(struct uz_reading *reading, struct uz_error *err);

/* Frees what it holds beside model, info and notes. */
void uz_reading_free(struct uz_reading *reading);

/* Notes that the optimizer keeps a state of that name. */
void uz_reading_note_state(struct uz_reading *reading, const char *name, size_t nbytes);

/*
 * Stage 0 of a pipeline: sets `layers`, unless another stage of the same tensor rank lent them.
 */
int uz_reading_read_stage0_layers(struct uz_reading *reading, struct uz_error *err);

/*
 * Stage 0 of a pipeline: gives the model the parameters that this stage's optimizer can have
 * masters of, with their low-precision copies in the layer files. UZ_UNSUPPORTED if that cannot be
 * told.
 */
int uz_reading_add_stage0_layers(struct uz_reading *reading, struct uz_error *err);

/* Stage 0: finds the masters and the optimizer's states in the open model states. */
int uz_reading_join_stage0(struct uz_reading *reading, struct uz_torch_file *file,
                           uint32_t file_index, struct uz_error *err);

#endif
