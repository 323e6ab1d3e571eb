/* SPDX-License-Identifier: Apache-2.0 */
/* Adds the tensors of weight files to a model. */
#ifndef UZ_INPUT_WEIGHTS_H
#define UZ_INPUT_WEIGHTS_H

#include "base/notes.h"
#include "layout/model.h"

struct uz_weights {
    struct uz_model *model;
    struct uz_notes *notes;
    const struct uz_limits *limits;
};

/*
 * The tensors of a safetensors file, in the order of their data. A pair of __metadata__ that names
 * an absent tensor and one that is there, as writers leave behind for tied weights, is an alias.
 */
int uz_weights_add_safetensors(const struct uz_weights *weights, const char *path,
                               struct uz_error *err);

/*
 * The tensors of a PyTorch file: a dictionary of tensors by name, or one that holds such a
 * dictionary (as `state_dict`, `model`, `module`, ...), or a bare tensor, which gets the name of
 * the file. Values that are no tensors are counted in a warning.
 */
int uz_weights_add_torch(const struct uz_weights *weights, const char *path, struct uz_error *err);

/*
 * The files that an index names, each once, and proof that each tensor of its weight_map is in the
 * file that it names. A name that leads out of the index's folder is UZ_CORRUPT.
 */
int uz_weights_add_index(const struct uz_weights *weights, const char *index, bool is_torch,
                         struct uz_error *err);

#endif
