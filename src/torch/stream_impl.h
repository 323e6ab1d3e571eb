/* SPDX-License-Identifier: Apache-2.0 */
/* The two kinds of streams behind torch/stream.h, whose contract each keeps. */
#ifndef UZ_TORCH_STREAM_IMPL_H
#define UZ_TORCH_STREAM_IMPL_H

#include "torch/stream.h"

struct uz_stream_zip; /* a deflated entry */
struct uz_stream_zst; /* all storages of a file that is compressed whole */

int uz_stream_zip_open(struct uz_stream_zip **out, const char *path, uint64_t entry,
                       struct uz_error *err);
void uz_stream_zip_close(struct uz_stream_zip *stream);
int uz_stream_zip_next(struct uz_stream_zip *stream, uint64_t *entry, uint64_t *nbytes, bool *found,
                       struct uz_error *err);
int uz_stream_zip_read(struct uz_stream_zip *stream, void *buf, size_t nbytes,
                       struct uz_error *err);

int uz_stream_zst_open(struct uz_stream_zst **out, const char *path, const struct uz_limits *limits,
                       struct uz_error *err);
void uz_stream_zst_close(struct uz_stream_zst *stream);
int uz_stream_zst_next(struct uz_stream_zst *stream, uint64_t *entry, uint64_t *nbytes, bool *found,
                       struct uz_error *err);
int uz_stream_zst_read(struct uz_stream_zst *stream, void *buf, size_t nbytes,
                       struct uz_error *err);

/* What is skipped is not decoded before something behind it is read. */
int uz_stream_zst_skip(struct uz_stream_zst *stream, uint64_t nbytes, struct uz_error *err);

#endif
