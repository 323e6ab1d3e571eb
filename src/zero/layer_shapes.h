/* SPDX-License-Identifier: Apache-2.0 */
/* The shape of a parameter by its name, from a pipeline's layer files. */
#ifndef UZ_ZERO_LAYER_SHAPES_H
#define UZ_ZERO_LAYER_SHAPES_H

#include "zero/mapped_shapes.h"

/* What is open; fields are private. */
struct uz_layer_shapes {
    const struct uz_mapped_shapes *request;
    const struct uz_shard_file *shards;
    size_t n_shards;            /* of the tensor rank's layers */
    struct uz_torch_file *file; /* the layer file that is open */
    size_t open;                /* its number in shards */
};

/* Close with uz_layer_shapes_close. */
void uz_layer_shapes_open(struct uz_layer_shapes *shapes, const struct uz_mapped_shapes *request);
void uz_layer_shapes_close(struct uz_layer_shapes *shapes);

/*
 * The view of the low-precision copy of a parameter of numel elements. It is called
 * <layer>.<key>, or tied_modules.<tie>.<key>: then the entries with that key and that many elements
 * must be of one shape.
 */
int uz_layer_shapes_find(struct uz_layer_shapes *shapes, const struct uz_text *name, uint64_t numel,
                         struct uz_view *view, struct uz_error *err);

#endif
