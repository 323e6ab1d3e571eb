/* SPDX-License-Identifier: Apache-2.0 */
/* A deflated zip entry: libzip inflates; this counts. */
#include "torch/stream_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <zip.h>

#include "base/mem.h"

struct uz_stream_zip {
    const char *path;
    uint64_t zip_index;
    uint64_t pos, nbytes;
    bool has_crc;
    zip_t *archive;
    zip_file_t *entry; /* NULL before uz_stream_zip_next */
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

int uz_stream_zip_open(struct uz_stream_zip **out, const char *path, uint64_t entry,
                       struct uz_error *err)
{
    struct uz_stream_zip *stream;
    int code = 0;
    UZ_TRY(uz_alloc(&stream, 1, sizeof *stream, err));
    stream->path = path;
    stream->zip_index = entry;
    stream->archive = zip_open(path, ZIP_RDONLY, &code);
    if (!stream->archive) {
        int sys_errno = errno;
        free(stream);
        return fail_open(path, code, sys_errno, err);
    }
    *out = stream;
    return UZ_OK;
}

void uz_stream_zip_close(struct uz_stream_zip *stream)
{
    if (!stream)
        return;
    if (stream->entry)
        zip_fclose(stream->entry);
    zip_discard(stream->archive);
    free(stream);
}

static int fail_entry(const struct uz_stream_zip *stream, const char *why, struct uz_error *err)
{
    return uz_fail_at(err, UZ_CORRUPT, stream->path, UZ_NO_OFFSET, "entry %llu: %s",
                      (unsigned long long)stream->zip_index, why);
}

int uz_stream_zip_read(struct uz_stream_zip *stream, void *buf, size_t nbytes, struct uz_error *err)
{
    size_t done = 0;
    while (done < nbytes) {
        zip_int64_t n = zip_fread(stream->entry, (char *)buf + done, nbytes - done);
        if (n <= 0)
            return fail_entry(stream,
                              n < 0 ? zip_file_strerror(stream->entry) : "it ends too early", err);
        done += (size_t)n;
    }
    stream->pos += nbytes;
    return UZ_OK;
}

/* Passes over bytes of the entry. */
static int skip(struct uz_stream_zip *stream, uint64_t nbytes, struct uz_error *err)
{
    char skipped[16384];
    for (uint64_t n; nbytes > 0; nbytes -= n) {
        n = nbytes < sizeof skipped ? nbytes : sizeof skipped;
        UZ_TRY(uz_stream_zip_read(stream, skipped, (size_t)n, err));
    }
    return UZ_OK;
}

/* Reads on to the entry's end, where libzip compares the CRC; one of 0 says that there is none. */
static int check_end(struct uz_stream_zip *stream, struct uz_error *err)
{
    char more;
    UZ_TRY(skip(stream, stream->nbytes - stream->pos, err));
    zip_int64_t n = zip_fread(stream->entry, &more, 1);
    if (n > 0)
        return fail_entry(stream, "it is longer than the directory says", err);
    bool bad_crc = n < 0 && zip_error_code_zip(zip_file_get_error(stream->entry)) == ZIP_ER_CRC;
    if (n < 0 && (stream->has_crc || !bad_crc))
        return fail_entry(stream, zip_file_strerror(stream->entry), err);
    return UZ_OK;
}

int uz_stream_zip_next(struct uz_stream_zip *stream, uint64_t *entry, uint64_t *nbytes, bool *found,
                       struct uz_error *err)
{
    zip_stat_t stat;
    *found = !stream->entry;
    if (!*found)
        return check_end(stream, err);
    if (zip_stat_index(stream->archive, stream->zip_index, 0, &stat) < 0 ||
        !(stat.valid & ZIP_STAT_SIZE))
        return fail_entry(stream, zip_strerror(stream->archive), err);
    stream->entry = zip_fopen_index(stream->archive, stream->zip_index, 0);
    if (!stream->entry)
        return fail_entry(stream, zip_strerror(stream->archive), err);
    stream->has_crc = (stat.valid & ZIP_STAT_CRC) && stat.crc != 0;
    stream->nbytes = stat.size;
    *entry = stream->zip_index;
    *nbytes = stat.size;
    return UZ_OK;
}
