/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a file, whether it is stored plainly or compressed whole with zstd. */
#ifndef UZ_TORCH_CONTENT_H
#define UZ_TORCH_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct uz_content;

/*
 * Opens a file. One that is compressed is decoded once from front to back, which proves it and
 * tells its size; what metadata is read from is kept on the way: the beginning, the end, and what
 * follows each signature of a zip's local header (3 MiB at most). `path` is copied. One thread at a
 * time.
 */
int uz_content_open(struct uz_content **out, const char *path, struct uz_error *err);

/* NULL is allowed. */
void uz_content_close(struct uz_content *content);

const char *uz_content_path(const struct uz_content *content);

/* Size, decoded. */
uint64_t uz_content_nbytes(const struct uz_content *content);

/* True if the file is compressed whole. */
bool uz_content_is_packed(const struct uz_content *content);

/*
 * Exactly nbytes from byte `offset` on; a content that ends before is UZ_CORRUPT. Of a compressed
 * file, what was not kept is decoded anew: fast if offsets grow, UZ_LIMIT if they go back and forth
 * too often.
 */
int uz_content_read(struct uz_content *content, void *buf, size_t nbytes, uint64_t offset,
                    struct uz_error *err);

/* As uz_content_read, but fewer bytes at the end: *n of them. */
int uz_content_read_some(struct uz_content *content, void *buf, size_t nbytes, uint64_t offset,
                         size_t *n, struct uz_error *err);

#endif
