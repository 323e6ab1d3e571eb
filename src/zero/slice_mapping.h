/* SPDX-License-Identifier: Apache-2.0 */
/* Compares a file's param_slice_mappings with the linkage that the partition offsets give. */
#ifndef UZ_ZERO_SLICE_MAPPING_H
#define UZ_ZERO_SLICE_MAPPING_H

#include "torch/file.h"
#include "zero/optim_shard.h"
#include "zero/params.h"

/* A rank's partition of a group: elements [part * size, (part + 1) * size) of the flat group. */
struct uz_part {
    uint64_t rank; /* data-parallel rank, for messages */
    uint64_t part;
    uint64_t size;
};

/*
 * `mapping` is the file's {name: fragment_address} of one group on one rank. Gives the verdict; a
 * mapping that is neither the computed one nor DeepSpeed's round-robin fault is UZ_MISMATCH and
 * names the rank, the parameter and both addresses.
 */
int uz_compare_slice_mapping(const struct uz_node *mapping, const struct uz_params *params,
                             size_t group, const struct uz_optim_group *stored_group,
                             const struct uz_part *part, enum uz_mapping_verdict *verdict,
                             struct uz_error *err);

#endif
