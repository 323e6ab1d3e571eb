/* SPDX-License-Identifier: Apache-2.0 */
/* What stands beside the shards: a trainer's files, random states of the ranks. */
#ifndef UZ_CONVERT_RESHARD_BESIDE_H
#define UZ_CONVERT_RESHARD_BESIDE_H

#include "convert/new_tree.h"
#include "convert/reshard_impl.h"

/*
 * Brings the files beside the tag folder, if the root was given, and those in it that are no shards
 * into the new tree, shared with the old ones. Random states that transformers' Trainer keeps for
 * each rank (rng_state_RANK.pth, or rng_state.pth in a world of one) are named for the new world;
 * ranks that the old one did not have get those of rank 0.
 */
int uz_reshard_bring_beside(const struct uz_resharding *job, struct uz_new_tree *tree,
                            struct uz_error *err);

/* Warns if a trainer that resumes would change the size of its batches. */
int uz_reshard_check_trainer(struct uz_resharding *job, struct uz_error *err);

/* Ranks whose random states will be those of rank 0. */
int uz_reshard_count_random_states(const struct uz_resharding *job, uint64_t *n_copied,
                                   struct uz_error *err);

#endif
