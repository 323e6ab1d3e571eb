/* SPDX-License-Identifier: Apache-2.0 */
/* A pipeline module's layer files: low-precision weights under the layer's own names. */
#ifndef UZ_ZERO_PIPE_LAYERS_H
#define UZ_ZERO_PIPE_LAYERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "base/notes.h"
#include "layout/model.h"
#include "zero/topology.h"

/* What the layers of a tensor rank are matched with. */
struct uz_pipe_layers {
    const struct uz_topology *topology;
    uint32_t tp;
    /*
     * Of this tensor rank on each stage: finished, or (to read low-precision weights alone) names
     * and shapes without data.
     */
    const struct uz_model *const *stages;
    uint32_t n_stages;
    const struct uz_map *buffers;    /* names that are buffers, not parameters */
    const char *const *buffer_names; /* those of them that must be there */
    size_t n_buffer_names;
    enum uz_role lone_role; /* of what no stage has and is no buffer */
    const struct uz_limits *limits;
    struct uz_notes *notes;
    struct uz_map *guessed; /* private: names taken without comparing values */
};

/* True if the checkpoint has layer files. */
bool uz_has_pipe_layers(const struct uz_topology *topology);

/*
 * Reads the layer files of one tensor rank into a model, which is initialised and empty, and
 * finishes it. Key k of layer L is the tensor L.k (DeepSpeed: deepspeed/runtime/pipe/module.py). A
 * layer that is tied with others has its parameters under tied_modules.<tie>.k on the stages: there
 * the key, the shape and the values (the rounded master) tell whose copy it is, and it takes that
 * name. What no stage has is a buffer or a frozen parameter.
 */
int uz_pipe_layers_read(const struct uz_pipe_layers *layers, struct uz_model *model,
                        struct uz_error *err);

#endif
