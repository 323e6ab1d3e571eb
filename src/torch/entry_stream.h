/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a compressed zip entry from front to back. */
#ifndef UZ_TORCH_ENTRY_STREAM_H
#define UZ_TORCH_ENTRY_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct uz_entry_stream;

/* Opens entry `zip_index` of the archive `path` (borrowed until closed). One thread at a time. */
int uz_entry_stream_open(struct uz_entry_stream **out, const char *path, uint64_t zip_index,
                         struct uz_error *err);

/* NULL is allowed. */
void uz_entry_stream_close(struct uz_entry_stream *stream);

/*
 * Reads exactly nbytes at byte `first` of the entry's content. Going forward skips what lies
 * between; going back begins again from the front.
 */
int uz_entry_stream_read(struct uz_entry_stream *stream, uint64_t first, void *buf, size_t nbytes,
                         struct uz_error *err);

#endif
