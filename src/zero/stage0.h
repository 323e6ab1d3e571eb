/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of reading a ZeRO stage 0 checkpoint: files with masters, and what may have them. */
#ifndef UZ_ZERO_STAGE0_H
#define UZ_ZERO_STAGE0_H

#include "zero/masters.h"
#include "zero/reading.h"
#include "zero/stage0_fit.h"

/* One file with masters and states, of one rank: the model states, or with experts expp_rank_E. */
struct uz_stage0_source {
    struct uz_torch_file *file;
    uint32_t file_index; /* in the model */
    uint32_t number;     /* of the source, from 0 on */
    uint32_t rank;       /* among the expert-parallel ranks of the largest group */
    struct uz_masters masters;
    struct uz_candidate *candidates;
    size_t n;
    uint64_t *weights; /* of each candidate, as struct uz_fit wants them */
    int32_t *group_of;
    uint64_t *place_of;
};

struct uz_stage0 {
    struct uz_reading *reading;
    struct uz_torch_file *model_states; /* open */
    uint32_t model_states_index;
    uint32_t n_ranks; /* expp_rank_E files, 0 without experts */
    enum uz_masters_form form;
    bool has_form; /* once the first source was read */
    bool any_misfit;
    const char *compressed; /* what compresses states that are left out; NULL: none are */
    struct uz_map *owners;  /* struct uz_stage0_key -> number of the source it was taken from */
    struct uz_map *states;  /* (parameter, state), two numbers -> tensor */
    const char **labels;    /* of each source, for messages */
};

/* What a source may be the first to have: a tensor, or of a stack the experts from one on. */
struct uz_stage0_key {
    uint32_t tensor, first_expert;
};

/* ---- stage0_candidates.c ---- */

/*
 * Lists what may have its master in the source: parameters outside of experts in the order of the
 * module, and the experts that the source's rank holds. UZ_UNSUPPORTED if the optimizer's groups
 * do not tell which these are.
 */
int uz_stage0_list_candidates(const struct uz_stage0 *stage0, struct uz_stage0_source *source,
                              struct uz_error *err);

/* ---- stage0_assign.c ---- */

/* Finds each candidate's group and place, if there is one way to do so. */
int uz_stage0_assign(struct uz_stage0_source *source, enum uz_fit_result *result,
                     struct uz_error *err);

/* ---- stage0_pieces.c ---- */

/*
 * Gives the model the masters and states that the fit found in the source. What an earlier source
 * had is a copy, which must be equal.
 */
int uz_stage0_add_masters(struct uz_stage0 *stage0, struct uz_stage0_source *source,
                          struct uz_error *err);
int uz_stage0_add_states(struct uz_stage0 *stage0, struct uz_stage0_source *source,
                         struct uz_error *err);

#endif
