/* SPDX-License-Identifier: Apache-2.0 */
/* Reads headers of safetensors files, believing nothing. */
#ifndef UZ_INPUT_SAFETENSORS_READ_H
#define UZ_INPUT_SAFETENSORS_READ_H

#include <stdint.h>

#include <unzero/dtype.h>
#include <unzero/limits.h>

#include "base/error.h"

struct uz_safetensors_entry {
    const char *name; /* UTF-8 without NUL */
    enum uz_dtype dtype;
    unsigned ndim;
    const uint64_t *shape;
    uint64_t numel;
    uint64_t offset; /* byte of the file where it begins */
    uint64_t nbytes;
};

/* A pair of `__metadata__`; texts may hold anything but NUL. */
struct uz_safetensors_metadata {
    const char *key, *value;
};

struct uz_safetensors {
    struct uz_safetensors_entry *entries; /* in the order of their data */
    size_t n_entries, cap_entries;
    struct uz_safetensors_metadata *metadata;
    size_t n_metadata, cap_metadata;
    uint64_t file_nbytes;
    uint64_t data_offset; /* byte of the file behind the header */
    struct uz_arena *arena;
};

/*
 * Reads the header of a file and proves that its tensors fill the rest of it exactly: no gap, no
 * overlap, each as large as its shape and dtype say, each name once. UZ_FORMAT if it is no
 * safetensors file, UZ_UNSUPPORTED for a dtype that has no name here. Free it, after failures too.
 */
int uz_safetensors_read(struct uz_safetensors *file, const char *path,
                        const struct uz_limits *limits, struct uz_error *err);

/*
 * The same from bytes in memory: the header's text (without its length) of a file of
 * `file_nbytes`. `path` is for messages.
 */
int uz_safetensors_parse(struct uz_safetensors *file, const void *header, uint64_t header_nbytes,
                         uint64_t file_nbytes, const char *path, const struct uz_limits *limits,
                         struct uz_error *err);

void uz_safetensors_free(struct uz_safetensors *file);

#endif
