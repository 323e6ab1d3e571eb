/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a checkpoint directory and the grid of ranks they form. */
#ifndef UZ_ZERO_TOPOLOGY_H
#define UZ_ZERO_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <unzero/limits.h>

#include "base/error.h"

enum uz_shard_kind {
    UZ_SHARD_MODEL,        /* mp_rank_MM_model_states.pt */
    UZ_SHARD_MODEL_Z3,     /* zero_pp_rank_D_mp_rank_MM_model_states.pt */
    UZ_SHARD_OPTIM,        /* [bf16_|fp16_]zero_pp_rank_D_mp_rank_MM_optim_states.pt */
    UZ_SHARD_LAYER,        /* layer_LL[-model_TT]-model_states.pt: pipeline module */
    UZ_SHARD_EXPERT,       /* [layer_L_]expert_E_mp_rank_MM_model_states.pt: native MoE */
    UZ_SHARD_EXPERT_OPTIM, /* expp_rank_E_mp_rank_MM_optim_states.pt */
    UZ_SHARD_KINDS
};

/* One file whose name follows DeepSpeed's conventions. */
struct uz_shard_file {
    char *name; /* within its folder */
    size_t dir; /* index into uz_topology.dirs */
    enum uz_shard_kind kind;
    uint32_t dp; /* data-parallel rank, global expert, or 0 */
    uint32_t mp; /* model-parallel rank: pp * tp_degree + tp; for layers the tp rank */
    uint32_t layer;
    bool zst; /* compressed whole: *.pt.zst */
};

/* Orders shards by kind, mp, dp, layer; 0: they are of one cell of the grid. */
int uz_compare_cells(const struct uz_shard_file *a, const struct uz_shard_file *b);

/*
 * A tag folder, its shards sorted by kind, mp, dp, layer -- as numbers. Directories hold other
 * files too (configuration, tokenizers, scripts), which are ignored.
 */
struct uz_topology {
    char *dir;   /* the tag folder: dirs[0] */
    char *tag;   /* its name: the tag */
    char **dirs; /* and further folders with shards of the same checkpoint */
    size_t n_dirs, cap_dirs;
    struct uz_shard_file *shards;
    size_t n_shards, cap_shards;
    struct uz_shard_file *copies; /* model states that stand in a further folder again */
    size_t n_copies, cap_copies;
    bool has_offloaded_tensors; /* the folder of a NVMe-offloaded optimizer is there */
    char *writer_part;          /* a file that FastPersist wrote a part of a shard to; NULL: none */
    bool is_universal; /* there is zero/, where parameters are whole, and no optimizer shard */
};

/* Where the shards of one checkpoint lie. */
struct uz_topology_request {
    const char *path; /* a checkpoint root or a tag folder */
    const char *tag;  /* NULL: what `latest` (or `latest_universal`) names */
    const char *const *input_dirs;
    size_t n_input_dirs;
    uint64_t max_shards;
};

/*
 * Finds the tag folder and lists it. `path` is a checkpoint root (with `latest`, or without it with
 * `latest_universal`, or with `tag`, not NULL, naming a folder in it) or a tag folder itself. Free
 * with uz_topology_free, after failures too.
 *
 * An input folder holds a folder of the same tag, or the shards themselves. The same shard twice is
 * UZ_MISMATCH, but for mp_rank_MM_model_states.pt, which every node writes on node-local storage:
 * the first one counts, the others are listed as copies.
 */
int uz_topology_open(struct uz_topology *topology, const struct uz_topology_request *request,
                     struct uz_error *err);

void uz_topology_free(struct uz_topology *topology);

/* The shards of one kind: pointer to the first and their number. */
const struct uz_shard_file *uz_topology_shards(const struct uz_topology *topology,
                                               enum uz_shard_kind kind, size_t *n);

/* Those of them that are of one model-parallel rank, in the order of data-parallel ranks. */
const struct uz_shard_file *uz_topology_shards_of(const struct uz_topology *topology,
                                                  enum uz_shard_kind kind, uint32_t mp, size_t *n);

/*
 * Refuses by name the layouts that files' names give away and that are not read: FastPersist's
 * parts of shards, and NVMe offload (which leaves the low-precision weights where they are).
 */
int uz_topology_refuse_by_names(const struct uz_topology *topology, bool lp_only,
                                struct uz_error *err);

/*
 * Checks that the shards of a kind are exactly the data-parallel ranks 0..world-1 of a
 * model-parallel rank; `pattern` ('*_optim_states.pt') is how the message calls them.
 */
int uz_topology_check_ranks(const struct uz_topology *topology, enum uz_shard_kind kind,
                            uint32_t mp, uint64_t world, const char *pattern, struct uz_error *err);

/* malloc'ed path of a shard; NULL without memory. */
char *uz_shard_path(const struct uz_topology *topology, const struct uz_shard_file *shard);

#endif
