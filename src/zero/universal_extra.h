/* SPDX-License-Identifier: Apache-2.0 */
/* Folders in zero/ that the model states do not account for. */
#ifndef UZ_ZERO_UNIVERSAL_EXTRA_H
#define UZ_ZERO_UNIVERSAL_EXTRA_H

#include "zero/universal_grid.h"

/*
 * Walks through the folder (names with '/' are folders in folders) and adds to `names` those with
 * an fp32.pt that are neither a tensor nor an alias of the model, in the order of their names.
 * Symbolic links are not followed.
 */
int uz_universal_list_extra(const char *dir, struct uz_model *model,
                            struct uz_universal_names *names, struct uz_error *err);

#endif
