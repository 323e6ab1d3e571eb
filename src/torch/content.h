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
 * Opens a file. One that is compressed is decoded only as far as it is read; damage beyond is found
 * by who reads on to the end. `path` is copied. One thread at a time.
 */
int uz_content_open(struct uz_content **out, const char *path, struct uz_error *err);

/* NULL is allowed. */
void uz_content_close(struct uz_content *content);

const char *uz_content_path(const struct uz_content *content);

/*
 * Size, decoded. A compressed file is gone through once for it; what a zip's directory refers to is
 * kept on the way: the end, and what follows each signature of a local header.
 */
int uz_content_size(struct uz_content *content, uint64_t *nbytes, struct uz_error *err);

/* True if the file is compressed whole. */
bool uz_content_is_packed(const struct uz_content *content);

/* Bytes that an open compressed file takes at most; 0 of one that is not compressed. */
uint64_t uz_content_memory(const struct uz_content *content);

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

/* Reads on from `offset` to the end, where checksums of compressed data are. */
int uz_content_finish(struct uz_content *content, uint64_t offset, struct uz_error *err);

#endif
