/* SPDX-License-Identifier: Apache-2.0 */
/* Opens anything that holds tensors as a model. */
#ifndef UZ_INPUT_OPEN_H
#define UZ_INPUT_OPEN_H

#include "base/notes.h"
#include "input/kind.h"
#include "layout/model.h"
#include "zero/read.h"

struct uz_input_info {
    enum uz_input_kind kind;
    struct uz_zero_info zero; /* of a ZeRO or universal checkpoint */
};

/*
 * Opens `path`, whatever it is (see uz_input_locate), reads its metadata, and fills the model
 * (uninitialised before; free it with uz_model_free after success). `state` (a name, "all", or
 * NULL) asks for optimizer states, which only checkpoints have: UZ_ARG for other kinds. Options
 * about checkpoints (tag, input_dirs, source) are ignored for other kinds, whose tensors all have
 * the role PARAM and stand in the order of their files. Names of one memory (PyTorch), or that a
 * file's __metadata__ explains (safetensors), are aliases. Warnings are appended to notes. Free
 * info with uz_input_info_free, after failures too.
 */
int uz_input_open(const char *path, const struct uz_input_options *options, const char *state,
                  struct uz_model *model, struct uz_input_info *info, struct uz_notes *notes,
                  struct uz_error *err);

void uz_input_info_free(struct uz_input_info *info);

#endif
