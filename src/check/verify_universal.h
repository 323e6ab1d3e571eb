/* SPDX-License-Identifier: Apache-2.0 */
/* The folders zero/<name> of a universal checkpoint. */
#ifndef UZ_CHECK_VERIFY_UNIVERSAL_H
#define UZ_CHECK_VERIFY_UNIVERSAL_H

#include "check/verify_run.h"
#include "torch/file.h"

/* Lists the files in zero/ of the tag folder: *.pt at any depth. */
int uz_verify_list_universal(struct uz_verify_run *run, struct uz_error *err);

/* Reads the tensor of a state's file, which is open. */
int uz_verify_read_state(struct uz_record *record, struct uz_torch_file *file,
                         struct uz_error *why);

/* Is every parameter of the model states there, with every state, in its shape? */
int uz_verify_universal(struct uz_verify_run *run, struct uz_error *err);

#endif
