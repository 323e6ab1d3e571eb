/* SPDX-License-Identifier: Apache-2.0 */
/* From the name that a user gives to the tensor that is meant. */
#ifndef UZ_CONVERT_FIND_TENSOR_H
#define UZ_CONVERT_FIND_TENSOR_H

#include "layout/model.h"

/*
 * The tensor called `name`, which may be any of its names, or (not NULL) its optimizer state.
 * UZ_ARG if there is none; the message names the nearest.
 */
int uz_find_tensor(const struct uz_model *model, const char *name, const char *state,
                   uint32_t *tensor, struct uz_error *err);

#endif
