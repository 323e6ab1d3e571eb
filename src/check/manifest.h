/* SPDX-License-Identifier: Apache-2.0 */
/* Digests of files and of logical tensors: docs/manifest.md. */
#ifndef UZ_CHECK_MANIFEST_H
#define UZ_CHECK_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>

#include <unzero/dtype.h>
#include <unzero/input.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/map.h"
#include "base/mem.h"
#include "layout/model.h"

enum { UZ_MANIFEST_VERSION = 1, UZ_MANIFEST_DTYPES = 3 };

/* The digest of a tensor's elements in one dtype. */
struct uz_tensor_digest {
    enum uz_dtype dtype;
    char text[UZ_DIGEST_TEXT];
};

struct uz_manifest_tensor {
    const char *name; /* a state's is "<state>/<name>" */
    bool is_state;
    enum uz_dtype dtype;
    unsigned ndim;
    const uint64_t *shape;
    /* The first is of the stored dtype; castable ones have the others, too. */
    struct uz_tensor_digest digests[UZ_MANIFEST_DTYPES];
    unsigned n_digests;
};

struct uz_manifest_file {
    const char *name; /* path from the tag folder, or from that of the weights */
    uint64_t nbytes;
    char text[UZ_DIGEST_TEXT];
};

/* A second name of a tensor. */
struct uz_manifest_alias {
    const char *name, *of;
};

struct uz_manifest {
    const char *kind; /* of the input, as uz_input_kind_name has it */
    struct uz_manifest_file *files;
    size_t n_files, cap_files;
    struct uz_manifest_tensor *tensors;
    size_t n_tensors, cap_tensors;
    struct uz_manifest_alias *aliases;
    size_t n_aliases, cap_aliases;
    struct uz_map *names; /* of tensors -> index */
    bool has_states;
    struct uz_arena *arena; /* texts and shapes */
};

int uz_manifest_init(struct uz_manifest *manifest, struct uz_error *err);

/* One that was zeroed and never initialised is allowed. */
void uz_manifest_free(struct uz_manifest *manifest);

/* Adds a tensor without digests; the name is new (else UZ_CORRUPT). */
int uz_manifest_add_tensor(struct uz_manifest *manifest, const char *name, enum uz_dtype dtype,
                           unsigned ndim, const uint64_t *shape, struct uz_error *err);

/* NULL if there is none of that name. */
const struct uz_manifest_tensor *uz_manifest_find(const struct uz_manifest *manifest,
                                                  const char *name);

/* The text of a tensor's digest in a dtype; NULL if the manifest has none. */
const char *uz_manifest_digest(const struct uz_manifest_tensor *tensor, enum uz_dtype dtype);

/* Writes the file at once and durably: it is there whole, or as it was before. */
int uz_manifest_save(const struct uz_manifest *manifest, const char *path, struct uz_error *err);

/* Reads a file that anybody may have written. Free the manifest, after failures too. */
int uz_manifest_load(struct uz_manifest *manifest, const char *path, const struct uz_limits *limits,
                     struct uz_error *err);

#endif
