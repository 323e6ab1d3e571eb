/* SPDX-License-Identifier: Apache-2.0 */
/* Frozen parameters: without a high-precision master, stored whole or (ZeRO-3) in slices. */
#ifndef UZ_ZERO_FROZEN_H
#define UZ_ZERO_FROZEN_H

#include "base/notes.h"
#include "layout/model.h"
#include "torch/file.h"
#include "zero/experts.h"
#include "zero/optim_shard.h"

/* The frozen parameters of a checkpoint: tensors [first_tensor, first_tensor + n) of the model. */
struct uz_frozen {
    uint32_t first_tensor;
    size_t n;
};

/*
 * Adds the frozen parameters of the first model-states file (file number file_index) that have
 * data there: under ZeRO-2 whole, with their pieces; under ZeRO-3 without pieces, to be joined from
 * the ranks' slices. Those of experts are in files of their own and are passed over.
 */
int uz_frozen_add(struct uz_frozen *frozen, struct uz_torch_file *file, uint32_t file_index,
                  int stage, const struct uz_experts *experts, struct uz_model *model,
                  struct uz_error *err);

/*
 * Warns of frozen parameters whose shapes are listed but whose data is nowhere
 * (exclude_frozen_parameters); to be called when the module has been read.
 */
int uz_frozen_report_absent(const struct uz_torch_file *file, const struct uz_experts *experts,
                            const struct uz_model *model, struct uz_notes *notes,
                            struct uz_error *err);

/*
 * Reads the slices that one ZeRO-3 rank of `world` holds; `slices` has room for frozen->n. Each has
 * ceil(numel / world) elements.
 */
int uz_frozen_read_slices(const struct uz_frozen *frozen, struct uz_torch_file *file,
                          const struct uz_model *model, uint64_t world, struct uz_flat_view *slices,
                          struct uz_error *err);

#endif
