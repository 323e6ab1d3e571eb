/* SPDX-License-Identifier: Apache-2.0 */
/* The insides of a staged output, shared by stage.c and commit.c only. */
#ifndef UZ_ENGINE_STAGE_IMPL_H
#define UZ_ENGINE_STAGE_IMPL_H

#include "base/map.h"
#include "engine/stage.h"

struct uz_stage {
    const struct uz_stage_options *options;
    const struct uz_out *out;
    struct uz_map *outputs; /* the names of the outputs */
    char *staging;          /* path of the staging folder */
    char **paths;           /* of the staged files */
    char **finals;          /* of the files under their final names */
    int lock_fd;            /* the staging folder, locked; -1 */
    bool may_empty;         /* nothing in the staging folder is needed any more, but by this run */
    bool made_dir;
    bool committed;
};

struct uz_names {
    char **items; /* sorted, so that an index ("model.s") comes after its shards ("model-") */
    size_t n, cap;
};

void uz_names_free(struct uz_names *names);

/* A map of the outputs' names; their strings are borrowed. */
int uz_stage_outputs(struct uz_map **outputs, const struct uz_out *out, struct uz_error *err);

/*
 * The names in the output folder that the commit replaces or removes. UZ_ARG naming it if one of
 * them is neither a file nor a link; a folder that only looks like one of the family is foreign.
 */
int uz_stage_existing(struct uz_names *names, const struct uz_stage_options *options,
                      const struct uz_map *outputs, struct uz_error *err);

/*
 * Puts back what a run that was killed inside its commit had moved aside. The staging folder holds
 * nothing that is worth keeping after that.
 */
int uz_stage_recover(const struct uz_stage *stage, struct uz_error *err);

#endif
