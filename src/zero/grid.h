/* SPDX-License-Identifier: Apache-2.0 */
/* How a checkpoint's ranks are arranged: pipeline stages x tensor ranks x data-parallel ranks. */
#ifndef UZ_ZERO_GRID_H
#define UZ_ZERO_GRID_H

#include <stdint.h>

#include "zero/metadata.h"
#include "zero/topology.h"

/* Model-parallel rank mp is tensor rank mp % tp of pipeline stage mp / tp. */
struct uz_grid {
    uint32_t pp, tp;
};

/*
 * Number of model-parallel ranks that the model states (of `kind`) are of, by their names; a gap in
 * the ranks is UZ_MISMATCH and names them.
 */
int uz_grid_count(const struct uz_topology *topology, enum uz_shard_kind kind, uint32_t *n,
                  struct uz_error *err);

/* Tensor ranks that the layer files are of; 0 if there are none. */
uint32_t uz_grid_layer_ranks(const struct uz_topology *topology);

/* What one model-parallel rank records. */
struct uz_grid_record {
    const char *path; /* of its model states */
    const struct uz_metadata *metadata;
};

/*
 * The grid of n model-parallel ranks from what their model states record, or where nothing is
 * recorded (DeepSpeed before 0.19) from the names of layer files: as many tensor ranks as these are
 * of, and one pipeline stage if there are none. Records that disagree, or do not fit the number of
 * files, are UZ_MISMATCH and named.
 */
int uz_grid_find(struct uz_grid *grid, const struct uz_topology *topology,
                 const struct uz_grid_record *records, uint32_t n, struct uz_error *err);

#endif
