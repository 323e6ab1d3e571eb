/* SPDX-License-Identifier: Apache-2.0 */
/* A file compressed whole with zstd, decoded from front to back. */
#ifndef UZ_TORCH_ZST_H
#define UZ_TORCH_ZST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct uz_zst;

/* True if the bytes begin a zstd frame, or one of the frames that decoders skip. */
bool uz_zst_is_magic(const uint8_t *head, size_t nbytes);

/* Borrows fd and path. Looks at the first frame's header. One thread at a time. */
int uz_zst_open(struct uz_zst **out, int fd, const char *path, struct uz_error *err);

/* NULL is allowed. Leaves the fd open. */
void uz_zst_close(struct uz_zst *zst);

/*
 * The next decoded bytes, of all frames one after another. *n < nbytes only at the end of the file,
 * where the last frame has been found complete; frames with a checksum have been proven then.
 * UZ_CORRUPT for damaged or cut data, UZ_UNSUPPORTED for a dictionary, for a window larger than
 * 128 MiB (zstd's own default), or in a later frame for one larger than 8 MiB and the first's.
 */
int uz_zst_read(struct uz_zst *zst, void *buf, size_t nbytes, size_t *n, struct uz_error *err);

/* Decoded bytes that have been read since the beginning. */
uint64_t uz_zst_pos(const struct uz_zst *zst);

/* Bytes that it takes at most; not all of a window is touched before all of it has been decoded. */
uint64_t uz_zst_memory(const struct uz_zst *zst);

/* Back to the beginning. */
void uz_zst_rewind(struct uz_zst *zst);

#endif
