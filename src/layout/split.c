/* SPDX-License-Identifier: Apache-2.0 */
/* The bucket order of round-robin gradients. */
#include "layout/split.h"

void uz_round_robin_order(uint64_t n, uint64_t dp, uint64_t *module_index)
{
    uint64_t place = 0;
    for (uint64_t bucket = 0; bucket < dp && bucket < n; bucket++)
        for (uint64_t i = bucket; i < n; i += dp)
            module_index[place++] = i;
}
