/* SPDX-License-Identifier: Apache-2.0 */
/* Doubts that the metadata of a checkpoint leaves. */
#ifndef UZ_CHECK_DOUBTS_H
#define UZ_CHECK_DOUBTS_H

#include "base/notes.h"
#include "layout/model.h"
#include "zero/read.h"

/*
 * Where the metadata leaves doubts whether the shards belong together, the values must tell: the
 * rounded masters are the low-precision copy, or it is UZ_MISMATCH. A warning if there is no such
 * copy to ask. Reads a part of the weights, or nothing if there is no doubt.
 */
int uz_check_doubts(const struct uz_model *model, const struct uz_zero_info *info,
                    struct uz_notes *notes, struct uz_error *err);

#endif
