/* SPDX-License-Identifier: Apache-2.0 */
/* The bucket order of round-robin gradients, and the ranks of experts. */
#include "layout/split.h"

void uz_round_robin_order(uint64_t n, uint64_t dp, uint64_t *module_index)
{
    uint64_t place = 0;
    for (uint64_t bucket = 0; bucket < dp && bucket < n; bucket++)
        for (uint64_t i = bucket; i < n; i += dp)
            module_index[place++] = i;
}

void uz_expert_place(const struct uz_expert_ranks *ranks, uint64_t rank, uint64_t *ep_rank,
                     uint64_t *part)
{
    uint64_t n_parts = ranks->dp / ranks->ep;
    *ep_rank = ranks->data_first ? rank / n_parts : rank % ranks->ep;
    *part = ranks->data_first ? rank % n_parts : rank / ranks->ep;
}
