/* SPDX-License-Identifier: Apache-2.0 */
/* What lives while one checkpoint is verified; shared by verify*.c. */
#ifndef UZ_CHECK_VERIFY_RUN_H
#define UZ_CHECK_VERIFY_RUN_H

#include <unzero/verify.h>

#include "check/findings.h"
#include "input/weight_index.h"
#include "layout/model.h"
#include "zero/metadata.h"
#include "zero/optim_shard.h"
#include "zero/params.h"
#include "zero/topology.h"

/* What a tensor of model states is. */
enum uz_whole_kind {
    UZ_WHOLE_WEIGHT, /* a low-precision parameter or a buffer */
    UZ_WHOLE_FROZEN, /* a frozen parameter's second place; under ZeRO 3 its slice */
    UZ_WHOLE_MASTER, /* a master or state of stage 0, whose parameter has no name there */
    UZ_WHOLE_LOOSE,  /* of a file of no rank */
};

/* A named tensor of model states. */
struct uz_whole {
    char *name;
    enum uz_whole_kind kind;
    struct uz_flat_view view;
    uint64_t numel; /* of the whole parameter: more than the view has if that is a slice */
};

/* One file of the checkpoint, and what is kept of it when it is closed again. */
struct uz_record {
    struct uz_shard_file shard; /* owns its name */
    char *path;
    uint64_t nbytes;
    bool is_copy; /* model states that stand in a further folder again */
    bool was_opened;
    bool is_big_endian;
    uint64_t n_tensors;
    bool has_metadata; /* model states */
    struct uz_metadata metadata;
    bool has_optim; /* optimizer states */
    struct uz_optim_shard optim;
    char refusal[256];       /* why the optimizer states could not be read as a known layout */
    struct uz_whole *wholes; /* with --data */
    size_t n_wholes, cap_wholes;
    bool is_loose; /* a file of no rank: weights, or a part of a universal checkpoint */
    /* Of a universal checkpoint, in a parameter's folder: its name and that of the state. */
    char *param, *state;
    bool has_shape; /* the state is a tensor of `ndim` sizes in `shape` */
    bool own_shape; /* which is not that of param_shapes */
    unsigned ndim;
    uint64_t *shape, numel;
    struct uz_model *weights; /* of a file of weights: what it holds; NULL: not known */
};

/* A model-parallel rank: the parameters its files share. */
struct uz_mp_rank {
    bool is_known; /* its model states could be read and list parameters */
    struct uz_model model;
    struct uz_experts experts;
    struct uz_params params;
    uint64_t *part_sizes; /* of each group of ZeRO 1 and 2, padding included; 0: unknown */
};

struct uz_manifest;

struct uz_verify_run {
    const struct uz_verify_options *options;
    unsigned threads;
    uz_progress_fn progress;
    void *cookie;
    struct uz_findings findings;
    enum uz_input_kind kind;
    char *dir; /* the tag folder, or that of the weights; NULL if it could not be told */
    char *tag;
    struct uz_record *records; /* sorted by kind, mp, dp, layer */
    size_t n_records, cap_records;
    bool is_safetensors; /* weights */
    char *index_path;    /* of a folder of weights with an index; else NULL */
    struct uz_weight_index *index;
    bool has_index; /* and it could be read */
    bool is_stage3;
    uint64_t world; /* data-parallel ranks; 0 if unknown */
    struct uz_mp_rank *mp_ranks;
    uint32_t n_mp;
    uint64_t n_checked_nbytes, n_values, n_compared;
    struct uz_manifest *want; /* with UZ_MANIFEST_CHECK; else NULL */
    uint64_t n_same_files, n_same_tensors;
    bool joined;
    int stage;            /* of the joined checkpoint */
    bool copies_compared; /* masters with their low-precision copies, by the joined model */
};

/* How the ranks share a parameter group: those of experts are cut over a part of them. */
static inline struct uz_expert_ranks uz_verify_split(const struct uz_verify_run *run,
                                                     const struct uz_mp_rank *mp, size_t group)
{
    struct uz_expert_ranks split = mp->params.group_ranks[group];
    split.dp = run->world;
    return split;
}

/* Partitions that a group is cut into. */
static inline uint64_t uz_verify_parts(const struct uz_verify_run *run, const struct uz_mp_rank *mp,
                                       size_t group)
{
    uint64_t n = run->world / mp->params.group_ranks[group].ep;
    return n ? n : 1;
}

/* Which of a group's partitions a data-parallel rank has, and of which expert-parallel rank. */
static inline uint64_t uz_verify_part(const struct uz_verify_run *run, const struct uz_mp_rank *mp,
                                      size_t group, uint64_t rank, uint64_t *ep_rank)
{
    struct uz_expert_ranks split = uz_verify_split(run, mp, group);
    uint64_t part;
    *ep_rank = 0;
    if (split.ep <= 1 || split.dp < split.ep)
        return rank;
    uz_expert_place(&split, rank, ep_rank, &part);
    return part;
}

static inline struct uz_where uz_record_where(const struct uz_record *record)
{
    bool has_dp = !record->is_loose && record->shard.kind != UZ_SHARD_MODEL &&
                  record->shard.kind != UZ_SHARD_LAYER;
    return (struct uz_where){.file = record->path,
                             .tensor = record->param,
                             .dp = has_dp ? (int64_t)record->shard.dp : -1,
                             .mp = record->is_loose ? -1 : (int64_t)record->shard.mp,
                             .offset = UZ_NO_OFFSET};
}

/* Finds the tag folder, lists the files, and says what is wrong with `latest` and the names. */
int uz_verify_list(struct uz_verify_run *run, const char *path, struct uz_error *err);

/* Tells of what interrupted runs left in a folder. */
int uz_verify_find_leftovers(struct uz_verify_run *run, const char *dir, struct uz_error *err);

/* Adds a file of no rank. */
int uz_verify_add_loose(struct uz_verify_run *run, const char *path, struct uz_record **record,
                        struct uz_error *err);

/* Reads what the model states of each model-parallel rank list; then every file, side by side. */
int uz_verify_read(struct uz_verify_run *run, struct uz_error *err);

/* Holds the metadata of the files against each other, and finds the grid that they form. */
int uz_verify_agree(struct uz_verify_run *run, struct uz_error *err);

/* Are all files of the grid there? */
int uz_verify_grid(struct uz_verify_run *run, struct uz_error *err);

/* Do the partitions add up to the parameters? */
int uz_verify_linkage(struct uz_verify_run *run, struct uz_error *err);

/*
 * The reader that conversions use must be content, too: it proves that each tensor is covered
 * exactly. What it says of a layout it does not join is a warning. With --data copies are compared.
 */
int uz_verify_joined(struct uz_verify_run *run, const char *path, struct uz_error *err);

/* Writes the manifest that is asked for, or compares. */
int uz_verify_manifest(struct uz_verify_run *run, const char *path, struct uz_error *err);

/* Reads all bytes. */
int uz_verify_data(struct uz_verify_run *run, struct uz_error *err);

#endif
