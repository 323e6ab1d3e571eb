/* SPDX-License-Identifier: Apache-2.0 */
/* What the layer files and all stages of a pipeline without ZeRO tell of each other. */
#ifndef UZ_ZERO_STAGE0_LAYERS_H
#define UZ_ZERO_STAGE0_LAYERS_H

#include "zero/masters.h"
#include "zero/topology.h"

/* A parameter's low-precision copy in a layer file. */
struct uz_stage0_entry {
    const char *name; /* <layer>.<key> */
    size_t shard;     /* of the layer files */
    uint64_t weight;  /* places that its master takes: one, or elements of a flat group */
    struct uz_view view;
};

/* Of one tensor rank; read once for all stages. */
struct uz_stage0_layers {
    const struct uz_topology *topology;
    const struct uz_shard_file *shards; /* layer files, in the order of layers */
    size_t n_shards;
    struct uz_stage0_entry *entries;
    size_t n, cap;
    uint32_t tp;   /* the tensor rank */
    uint32_t n_tp; /* of so many */
    uint32_t n_stages;
    uint64_t *totals; /* places in all groups of each stage */
    enum uz_masters_form form;
    bool any_frozen; /* there are fewer places than entries take */
    uint64_t n_tied; /* places beyond those: of layers that two stages have */
    struct uz_map *buffers;
    struct uz_arena *arena;
    const struct uz_limits *limits;
};

/*
 * Opens the files of the stages and layers of tensor rank `tp`. Several tensor ranks are
 * UZ_UNSUPPORTED if layers are tied or frozen: rules name tied ones in a way that no file tells.
 * Free with uz_stage0_layers_free, after failures too.
 */
int uz_stage0_layers_read(struct uz_stage0_layers *layers, const struct uz_topology *topology,
                          uint32_t tp, const struct uz_limits *limits, struct uz_error *err);

void uz_stage0_layers_free(struct uz_stage0_layers *layers);

/* Fails with UZ_UNSUPPORTED: which layers masters are of cannot be told, and why. */
int uz_stage0_layers_refuse(const struct uz_stage0_layers *layers, const char *why,
                            struct uz_error *err);

#endif
