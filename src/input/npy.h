/* SPDX-License-Identifier: Apache-2.0 */
/* numpy's file format for one array (NEP 1), as a model of one tensor. */
#ifndef UZ_INPUT_NPY_H
#define UZ_INPUT_NPY_H

#include <stdbool.h>

#include "base/error.h"
#include "layout/model.h"

/* True if the file begins as a .npy file does; false also if it cannot be read. */
bool uz_is_npy(const char *path);

/*
 * Fills the model (uninitialised before; free it with uz_model_free after success) with the array
 * as a parameter called `name`. Versions 1 and 2; UZ_UNSUPPORTED for dtypes that tensors do not
 * have, for column-major order, and for records; UZ_CORRUPT for what is no .npy file or is cut.
 */
int uz_npy_read(const char *path, const char *name, const struct uz_limits *limits,
                struct uz_model *model, struct uz_error *err);

#endif
