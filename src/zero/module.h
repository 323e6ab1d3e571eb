/* SPDX-License-Identifier: Apache-2.0 */
/* The `module` of a model-states file: buffers, low-precision copies, order of names, ties. */
#ifndef UZ_ZERO_MODULE_H
#define UZ_ZERO_MODULE_H

#include "base/notes.h"
#include "layout/model.h"
#include "torch/file.h"

/*
 * What is being read: the model-states file of rank 0, open, which is file number `file_index` of
 * the model. The model has its parameters and frozen parameters already.
 */
struct uz_module_reader {
    struct uz_torch_file *file;
    uint32_t file_index;
    int stage; /* 3, or 1 for ZeRO 1 and 2, whose model states are alike */
    struct uz_model *model;
    struct uz_notes *notes;
};

/*
 * Adds buffers, parameters that stand only in `module` (frozen under ZeRO-1, or without elements),
 * low-precision copies, and aliases, and sets each tensor's place in the order. Entries that no
 * rule explains are an error if they are parameters without data, else a warning.
 */
int uz_module_read(const struct uz_module_reader *reader, struct uz_error *err);

#endif
