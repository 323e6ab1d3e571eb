/* SPDX-License-Identifier: Apache-2.0 */
/* What OUT on the command line means: a folder, or one file. */
#ifndef UZ_CONVERT_TARGET_PATH_H
#define UZ_CONVERT_TARGET_PATH_H

#include <stdbool.h>

#include "base/error.h"

struct uz_target_path {
    char *dir;       /* the folder that the output goes to */
    char *file_name; /* NULL: the format's own names */
    char *staging;   /* name of the staging folder inside dir */
};

/* UZ_ARG for a name that neither is a folder nor ends in .safetensors. */
int uz_target_path_parse(struct uz_target_path *target, const char *out, struct uz_error *err);

void uz_target_path_free(struct uz_target_path *target);

/* True for model.safetensors, its shards, and its index. */
bool uz_is_safetensors_model_file(const char *name);

#endif
