/* SPDX-License-Identifier: Apache-2.0 */
/* The `module` of a model-states file: buffers, low-precision copies, order of names, ties. */
#ifndef UZ_ZERO_MODULE_H
#define UZ_ZERO_MODULE_H

#include "base/notes.h"
#include "layout/model.h"
#include "torch/file.h"
#include "zero/experts.h"

/* What the module's parameters are. */
enum uz_module_kind {
    UZ_MODULE_WHOLE,           /* low-precision copies of parameters that the model has already */
    UZ_MODULE_PLACEHOLDERS,    /* ZeRO-3: empty for every partitioned parameter */
    UZ_MODULE_MASTERS_UNKNOWN, /* stage 0: all there is; masters may be found later */
    UZ_MODULE_ALONE,           /* what is wanted, whatever masters there were */
};

/*
 * What is being read: the model-states file of rank 0, open, which is file number `file_index` of
 * the model. The model has its parameters and frozen parameters already (those of stage 0 are made
 * here).
 */
struct uz_module_reader {
    struct uz_torch_file *file;
    uint32_t file_index;
    enum uz_module_kind kind;
    struct uz_model *model;
    struct uz_notes *notes;
    const struct uz_experts *experts; /* whose entries are in files of their own */
    /* the model of the rank that lists shared parameters, if this one does not; or NULL */
    const struct uz_model *ties_of;
};

/*
 * Adds buffers, parameters that stand only in `module` (frozen under ZeRO-1, or without elements),
 * low-precision copies, and aliases, and sets each tensor's place in the order. Entries that no
 * rule explains are an error if they are parameters without data, else a warning.
 */
int uz_module_read(const struct uz_module_reader *reader, struct uz_error *err);

#endif
