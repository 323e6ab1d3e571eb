/* SPDX-License-Identifier: Apache-2.0 */
/* The default caps. */
#include <unzero/limits.h>

void uz_limits_default(struct uz_limits *limits)
{
    const uint64_t mi = 1024 * 1024;
    *limits = (struct uz_limits){
        .max_pickle_bytes = 256 * mi,
        .max_pickle_nodes = 16 * mi,
        .max_pickle_arena = 1024 * mi,
        .max_pickle_stack = 16 * mi,
        .max_pickle_memo = 16 * mi,
        .max_zip_entries = 16 * mi,
        .max_name_bytes = 64 * 1024,
        .max_tensors = 16 * mi,
        .max_shards = mi,
        .max_header_bytes = 100000000,
    };
}
