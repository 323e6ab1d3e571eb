/* SPDX-License-Identifier: Apache-2.0 */
/* libzip inflates; this counts. */
#include "torch/entry_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <zip.h>

#include "base/mem.h"

/* Tensors that share one storage are few; inflating it again for each of many would take hours. */
enum { MAX_REWINDS = 8 };

struct uz_entry_stream {
    const char *path;
    uint64_t zip_index;
    uint64_t pos; /* of the next byte that zip_fread gives */
    int n_rewinds;
    zip_t *archive;
    zip_file_t *entry;
};

/* Why libzip refused: the system's reason if it is one, else the archive's. */
static int fail_open(const char *path, int code, int sys_errno, struct uz_error *err)
{
    zip_error_t error;
    int rc;
    zip_error_init_with_code(&error, code);
    if (code == ZIP_ER_NOENT || zip_error_system_type(&error) == ZIP_ET_SYS)
        rc = uz_fail_errno(err, sys_errno, path, "cannot be opened");
    else
        rc = uz_fail_at(err, UZ_CORRUPT, path, UZ_NO_OFFSET, "cannot be opened as a zip: %s",
                        zip_error_strerror(&error));
    zip_error_fini(&error);
    return rc;
}

int uz_entry_stream_open(struct uz_entry_stream **out, const char *path, uint64_t zip_index,
                         struct uz_error *err)
{
    struct uz_entry_stream *stream;
    int code = 0;
    UZ_TRY(uz_alloc(&stream, 1, sizeof *stream, err));
    stream->path = path;
    stream->zip_index = zip_index;
    stream->archive = zip_open(path, ZIP_RDONLY, &code);
    if (!stream->archive) {
        int sys_errno = errno;
        free(stream);
        return fail_open(path, code, sys_errno, err);
    }
    *out = stream;
    return UZ_OK;
}

void uz_entry_stream_close(struct uz_entry_stream *stream)
{
    if (!stream)
        return;
    if (stream->entry)
        zip_fclose(stream->entry);
    zip_discard(stream->archive);
    free(stream);
}

static int rewind_entry(struct uz_entry_stream *stream, struct uz_error *err)
{
    if (++stream->n_rewinds > MAX_REWINDS)
        return uz_fail_at(err, UZ_LIMIT, stream->path, UZ_NO_OFFSET,
                          "entry %llu is compressed, and more than %d tensors share its data",
                          (unsigned long long)stream->zip_index, MAX_REWINDS);
    if (stream->entry)
        zip_fclose(stream->entry);
    stream->entry = zip_fopen_index(stream->archive, stream->zip_index, 0);
    stream->pos = 0;
    if (stream->entry)
        return UZ_OK;
    return uz_fail_at(err, UZ_CORRUPT, stream->path, UZ_NO_OFFSET, "entry %llu: %s",
                      (unsigned long long)stream->zip_index, zip_strerror(stream->archive));
}

static int read_on(struct uz_entry_stream *stream, void *buf, size_t nbytes, struct uz_error *err)
{
    size_t done = 0;
    while (done < nbytes) {
        zip_int64_t n = zip_fread(stream->entry, (char *)buf + done, nbytes - done);
        if (n <= 0)
            return uz_fail_at(err, UZ_CORRUPT, stream->path, UZ_NO_OFFSET,
                              "entry %llu cannot be inflated at its byte %llu: %s",
                              (unsigned long long)stream->zip_index,
                              (unsigned long long)(stream->pos + done),
                              n < 0 ? zip_file_strerror(stream->entry) : "it ends too early");
        done += (size_t)n;
    }
    stream->pos += nbytes;
    return UZ_OK;
}

int uz_entry_stream_read(struct uz_entry_stream *stream, uint64_t first, void *buf, size_t nbytes,
                         struct uz_error *err)
{
    if (!stream->entry || first < stream->pos)
        UZ_TRY(rewind_entry(stream, err));
    while (stream->pos < first) {
        char skipped[16384];
        uint64_t left = first - stream->pos;
        UZ_TRY(
            read_on(stream, skipped, left < sizeof skipped ? (size_t)left : sizeof skipped, err));
    }
    return read_on(stream, buf, nbytes, err);
}
