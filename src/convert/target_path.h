/* SPDX-License-Identifier: Apache-2.0 */
/* What OUT on the command line means: a folder, or one file. */
#ifndef UZ_CONVERT_TARGET_PATH_H
#define UZ_CONVERT_TARGET_PATH_H

#include <stdbool.h>

#include <unzero/consolidate.h>

#include "base/error.h"
#include "engine/stage.h"

struct uz_target_path {
    enum uz_format format; /* not AUTO */
    char *dir;             /* the folder that the output goes to, without slashes at its end */
    char *file_name;       /* NULL: the format's own names */
    char *staging;         /* name of the staging folder inside dir */
};

/*
 * A name with a slash at its end means a folder. The format is that of the file's name, else
 * `format`, else safetensors. UZ_ARG if name and `format` contradict each other, for a file without
 * one of the endings, and for a file name that leaves no room for that of its staging folder.
 */
int uz_target_path_parse(struct uz_target_path *target, const char *out, enum uz_format format,
                         struct uz_error *err);

/* The folder that the output goes to or, until it is made, the closest one above it; malloc'ed. */
int uz_target_path_existing(const struct uz_target_path *target, char **dir, struct uz_error *err);

/* A file of any name. Free with uz_target_path_free, after failures too. */
int uz_target_path_file(struct uz_target_path *target, const char *path, struct uz_error *err);

void uz_target_path_free(struct uz_target_path *target);

/* What tells files of the format in its folder by their names; NULL for a file of a given name. */
uz_family_fn uz_target_path_family(const struct uz_target_path *target);

#endif
