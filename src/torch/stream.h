/* SPDX-License-Identifier: Apache-2.0 */
/* Reads packed storages from front to back. */
#ifndef UZ_TORCH_STREAM_H
#define UZ_TORCH_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <unzero/limits.h>

#include "base/error.h"
#include "base/packing.h"

struct uz_stream;

/*
 * Opens the packed storages of `path` (borrowed until closed): UZ_PACKED_DEFLATE: zip entry number
 * `entry` alone; UZ_PACKED_ZSTD: all storages of the file (`entry` is ignored). One thread at a
 * time.
 */
int uz_stream_open(struct uz_stream **out, const char *path, enum uz_packing packing,
                   uint64_t entry, const struct uz_limits *limits, struct uz_error *err);

/* NULL is allowed. */
void uz_stream_close(struct uz_stream *stream);

/*
 * Moves to the next storage in the order of the file; *found is false at the end of the file, which
 * was checked then. `entry` and `nbytes` are those of struct uz_storage.
 */
int uz_stream_next(struct uz_stream *stream, uint64_t *entry, uint64_t *nbytes, bool *found,
                   struct uz_error *err);

/* The next nbytes of the current storage; asking for more than it has is UZ_CORRUPT. */
int uz_stream_read(struct uz_stream *stream, void *buf, size_t nbytes, struct uz_error *err);

/* Passes over bytes of the current storage. */
int uz_stream_skip(struct uz_stream *stream, uint64_t nbytes, struct uz_error *err);

#endif
