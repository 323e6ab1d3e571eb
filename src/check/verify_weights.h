/* SPDX-License-Identifier: Apache-2.0 */
/* Files of weights: safetensors, PyTorch's, and folders of them. */
#ifndef UZ_CHECK_VERIFY_WEIGHTS_H
#define UZ_CHECK_VERIFY_WEIGHTS_H

#include "check/verify_run.h"

/* Lists the files of a path that is no checkpoint, and tells of those that are missing or stale. */
int uz_verify_list_weights(struct uz_verify_run *run, const char *path, struct uz_error *err);

/* Reads the names of a file's tensors into record->weights. */
int uz_verify_read_weights(struct uz_verify_run *run, struct uz_record *record,
                           struct uz_error *why);

/* Holds the index and the files against each other. */
int uz_verify_names(struct uz_verify_run *run, struct uz_error *err);

#endif
