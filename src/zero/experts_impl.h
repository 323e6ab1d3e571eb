/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of experts.c in files of their own. */
#ifndef UZ_ZERO_EXPERTS_IMPL_H
#define UZ_ZERO_EXPERTS_IMPL_H

#include "zero/experts.h"

enum { UZ_EXPERT_NAME_SIZE = 4096 }; /* no name of a parameter is longer */

/* The layers that ds_autoep_layers tells of; none without it. */
int uz_experts_read_autoep(struct uz_experts *experts, const struct uz_experts_request *request,
                           struct uz_error *err);

/* partition_count of the optimizer groups, from the shard of data-parallel rank 0. */
int uz_experts_read_counts(struct uz_experts *experts, const struct uz_experts_request *request,
                           struct uz_error *err);

#endif
