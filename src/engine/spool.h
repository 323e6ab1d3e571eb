/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed storages in a temporary file, so that they can be read at any place. */
#ifndef UZ_ENGINE_SPOOL_H
#define UZ_ENGINE_SPOOL_H

#include <unzero/limits.h>

#include "layout/model.h"

struct uz_spool;

/*
 * Unpacks all packed storages of a finished model, each file once from front to back, on several
 * threads, into a file in folder `dir` that has no name any more, and makes the model's places
 * point there. *spool is NULL if nothing is packed; else it must outlive the use of the model,
 * whose files then include one that only this process can open. UZ_IO names `dir` when it has no
 * room.
 */
int uz_spool_open(struct uz_spool **spool, struct uz_model *model, const char *dir,
                  unsigned threads, const struct uz_limits *limits, struct uz_error *err);

/* The same of the storages that one tensor is read from, its copies on other ranks among them. */
int uz_spool_open_tensor(struct uz_spool **spool, struct uz_model *model, uint32_t tensor,
                         const char *dir, unsigned threads, const struct uz_limits *limits,
                         struct uz_error *err);

/* NULL is allowed. */
void uz_spool_close(struct uz_spool *spool);

#endif
