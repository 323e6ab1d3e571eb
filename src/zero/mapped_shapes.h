/* SPDX-License-Identifier: Apache-2.0 */
/* What would stand in param_shapes, where a pipeline uses BF16_Optimizer without ZeRO. */
#ifndef UZ_ZERO_MAPPED_SHAPES_H
#define UZ_ZERO_MAPPED_SHAPES_H

#include "torch/file.h"
#include "zero/topology.h"

/*
 * With stage 0 in its configuration DeepSpeed writes no param_shapes, even if BF16_Optimizer cut
 * flat groups into partitions, as it does in a bf16 pipeline. Their order stands in the partitions'
 * param_slice_mappings, shapes in the layer files.
 */
struct uz_mapped_shapes {
    const struct uz_topology *topology;
    uint32_t mp;
    const struct uz_limits *limits;
    struct uz_arena *arena; /* of the result */
};

/*
 * A list of dictionaries like param_shapes in *shapes. UZ_MISMATCH if the partitions are of a ZeRO
 * optimizer, disagree, or name what has no such number of elements; UZ_UNSUPPORTED if a tied
 * layer's shape can be more than one.
 */
int uz_mapped_shapes_read(const struct uz_mapped_shapes *request, const struct uz_node **shapes,
                          struct uz_error *err);

#endif
