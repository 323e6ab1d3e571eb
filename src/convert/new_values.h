/* SPDX-License-Identifier: Apache-2.0 */
/* A tensor's new values: a file of the user's, held against the tensor they are for. */
#ifndef UZ_CONVERT_NEW_VALUES_H
#define UZ_CONVERT_NEW_VALUES_H

#include <stdbool.h>

#include "base/notes.h"
#include "layout/model.h"

/* A tensor of a model, checked with uz_fetch_check. */
struct uz_values {
    struct uz_model model;
    bool opened;
    uint32_t tensor;
};

/*
 * Opens .npy, or .safetensors or PyTorch with one tensor or one called `name`. Free with
 * uz_values_free, after failures too.
 */
int uz_values_open(struct uz_values *values, const char *path, const char *name,
                   const struct uz_limits *limits, struct uz_notes *notes, struct uz_error *err);

/*
 * The values must be of the old tensor's shape (else UZ_MISMATCH), and of a dtype that becomes the
 * stored one (else UZ_ARG). NaN and infinities among them are a warning about data. `name` is what
 * the user calls the tensor.
 */
int uz_values_check(const struct uz_values *values, const char *path, const char *name,
                    const struct uz_tensor *old, struct uz_notes *notes, struct uz_error *err);

/* One that was never opened is allowed. */
void uz_values_free(struct uz_values *values);

#endif
