/* SPDX-License-Identifier: Apache-2.0 */
/* Tells what a path is. */
#ifndef UZ_INPUT_KIND_H
#define UZ_INPUT_KIND_H

#include <stdbool.h>

#include <unzero/input.h>

#include "base/error.h"

/* What kind of input, and where a folder of weights keeps them. Free with uz_located_free. */
struct uz_located {
    enum uz_input_kind kind;
    char *index;  /* of a FOLDER: path of its *.index.json, NULL if it has none */
    char **files; /* of a FOLDER without index: paths of its weight files, sorted by name */
    size_t n_files, cap_files;
    bool is_torch; /* of a FOLDER: its weight files are PyTorch's, not safetensors */
};

/*
 * Looks at names and first bytes alone. A folder with `latest` or ZeRO shards is a ZeRO checkpoint,
 * whatever else lies there; with `tag` (may be NULL) also one that holds a folder of that name.
 * UZ_FORMAT if it is nothing that is known.
 */
int uz_input_locate(struct uz_located *located, const char *path, const char *tag,
                    struct uz_error *err);

void uz_located_free(struct uz_located *located);

/* The kind alone. */
int uz_input_kind(const char *path, const char *tag, enum uz_input_kind *kind,
                  struct uz_error *err);

#endif
