/* SPDX-License-Identifier: Apache-2.0 */
/* What lives while a checkpoint is resharded; shared by reshard*.c. */
#ifndef UZ_CONVERT_RESHARD_IMPL_H
#define UZ_CONVERT_RESHARD_IMPL_H

#include <unzero/reshard.h>

#include "base/notes.h"
#include "convert/reshard_settings.h"
#include "convert/reshard_source.h"
#include "engine/engine.h"
#include "out/stored.h"
#include "out/torch_graph.h"
#include "out/zero_layout.h"

struct uz_resharding {
    struct uz_reshard_options options;
    char *checkpoint, *out_dir;
    char *tag; /* of the new checkpoint */
    struct uz_reshard_source source;
    struct uz_reshard_target target;
    struct uz_zero_layout layout;
    /* The files of ranks [first_rank, end_rank): those that are laid out at this time. */
    uint64_t first_rank, end_rank;
    struct uz_stored stored;
    struct uz_out out;
    struct uz_engine_options engine;
    struct uz_notes notes;
    struct uz_arena *arena; /* names of all files */
    struct uz_reshard_file *files;
    size_t n_files, cap_files;
    uint64_t data_nbytes; /* of all files' targets */
    struct uz_reshard_group *groups;
    struct uz_reshard_summary summary;
};

/* A file in the making, for one rank of the new world. */
struct uz_reshard_builder {
    struct uz_resharding *job;
    uint64_t rank;
    struct uz_graph graph;
    struct uz_error *err;
};

/* Adds the optimizer shard of a rank to the output. */
int uz_reshard_add_optim(struct uz_resharding *job, uint64_t rank, struct uz_error *err);

/* Adds the model states: of a rank (stage 3), or of all (rank 0). */
int uz_reshard_add_states(struct uz_resharding *job, uint64_t rank, struct uz_error *err);

/* UZ_UNSUPPORTED if a value that is kept as rank 0 has it is another on another old rank. */
int uz_reshard_check_kept(const struct uz_resharding *job, struct uz_error *err);

/* The base optimizer's dictionary {state, param_groups} for the rank of the builder. */
int uz_reshard_base(struct uz_reshard_builder *b, const struct uz_node **base,
                    struct uz_error *err);

/*
 * The partition of a flat group on the builder's rank as a tensor: of the weights (state NULL) or
 * of a state that all its parameters have. It shows the first `numel` elements.
 */
int uz_reshard_partition(struct uz_reshard_builder *b, const struct uz_flat_group *flat,
                         const struct uz_text *state, uint64_t numel, const struct uz_node **tensor,
                         struct uz_error *err);

#endif
