/* SPDX-License-Identifier: Apache-2.0 */
/* Caps on what an input may make the library allocate or do. */
#ifndef UNZERO_LIMITS_H
#define UNZERO_LIMITS_H

#include <stdint.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Every size in a file is a claim until checked; these caps bound what a false claim can cost.
 * The defaults admit any checkpoint seen in practice with room to spare. All are per file unless
 * said otherwise; exceeding one fails with UZ_LIMIT and names the cap.
 */
struct uz_limits {
    uint64_t max_pickle_bytes; /**< bytes of one pickle stream; default 256 MiB */
    uint64_t max_pickle_nodes; /**< values made by one pickle; default 16 Mi */
    uint64_t max_pickle_arena; /**< bytes of memory for one pickle's values; default 1 GiB */
    uint64_t max_pickle_stack; /**< depth of the pickle machine's stack; default 16 Mi */
    uint64_t max_pickle_memo;  /**< highest memo index + 1; default 16 Mi */
    uint64_t max_zip_entries;  /**< entries in one archive; default 16 Mi */
    uint64_t max_name_bytes;   /**< bytes in one tensor or entry name; default 64 KiB */
    uint64_t max_tensors;      /**< logical tensors in one checkpoint; default 16 Mi */
    uint64_t max_shards;       /**< files in one checkpoint directory; default 1 Mi */
    uint64_t max_header_bytes; /**< bytes of a safetensors header; default 100,000,000 */
};

/** The documented defaults. */
UZ_API void uz_limits_default(struct uz_limits *limits);

#ifdef __cplusplus
}
#endif
#endif
