/* SPDX-License-Identifier: Apache-2.0 */
/* The files that loaders want beside weights: a model's configuration and its tokenizer. */
#ifndef UZ_CONVERT_COMPANIONS_H
#define UZ_CONVERT_COMPANIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "out/target.h"

struct uz_companions {
    char *dir;          /* where they are: the root of the checkpoint */
    const char **names; /* in order; constants */
    size_t n;
};

/*
 * Looks for them in the root of a checkpoint, given by it or by its tag folder. There are none for
 * an output that goes to the root itself. Free with uz_companions_free, after failures too.
 */
int uz_companions_find(struct uz_companions *companions, const char *checkpoint, const char *tag,
                       const char *out_dir, struct uz_error *err);

/* Does a model's configuration stand in that folder? */
int uz_companions_have_config(const char *dir, bool *yes, struct uz_error *err);

/* Puts copies of them in front of an output's files, so that they are committed with the weights.
 */
int uz_companions_add(const struct uz_companions *companions, struct uz_out *out,
                      struct uz_error *err);

void uz_companions_free(struct uz_companions *companions);

#endif
