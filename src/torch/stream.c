/* SPDX-License-Identifier: Apache-2.0 */
/* Packed storages of either kind. */
#include "torch/stream.h"

#include <stdlib.h>

#include "base/mem.h"
#include "torch/stream_impl.h"

enum { SKIP_NBYTES = 16384 };

/* One of the two. */
struct uz_stream {
    struct uz_stream_zip *zip;
    struct uz_stream_zst *zst;
};

int uz_stream_open(struct uz_stream **out, const char *path, enum uz_packing packing,
                   uint64_t entry, const struct uz_limits *limits, struct uz_error *err)
{
    struct uz_stream *stream;
    UZ_TRY(uz_alloc(&stream, 1, sizeof *stream, err));
    int rc = packing == UZ_PACKED_ZSTD ? uz_stream_zst_open(&stream->zst, path, limits, err)
                                       : uz_stream_zip_open(&stream->zip, path, entry, err);
    if (rc < 0) {
        free(stream);
        return rc;
    }
    *out = stream;
    return UZ_OK;
}

void uz_stream_close(struct uz_stream *stream)
{
    if (!stream)
        return;
    uz_stream_zip_close(stream->zip);
    uz_stream_zst_close(stream->zst);
    free(stream);
}

int uz_stream_next(struct uz_stream *stream, uint64_t *entry, uint64_t *nbytes, bool *found,
                   struct uz_error *err)
{
    return stream->zst ? uz_stream_zst_next(stream->zst, entry, nbytes, found, err)
                       : uz_stream_zip_next(stream->zip, entry, nbytes, found, err);
}

int uz_stream_read(struct uz_stream *stream, void *buf, size_t nbytes, struct uz_error *err)
{
    return stream->zst ? uz_stream_zst_read(stream->zst, buf, nbytes, err)
                       : uz_stream_zip_read(stream->zip, buf, nbytes, err);
}

int uz_stream_skip(struct uz_stream *stream, uint64_t nbytes, struct uz_error *err)
{
    char skipped[SKIP_NBYTES];
    if (stream->zst)
        return uz_stream_zst_skip(stream->zst, nbytes, err);
    for (uint64_t n; nbytes > 0; nbytes -= n) {
        n = nbytes < sizeof skipped ? nbytes : sizeof skipped;
        UZ_TRY(uz_stream_zip_read(stream->zip, skipped, (size_t)n, err));
    }
    return UZ_OK;
}
