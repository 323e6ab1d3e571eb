/* SPDX-License-Identifier: Apache-2.0 */
/* The source through which libzip reads a file: its content, a small window, and notes. */
#include "torch/zip_source.h"

#include <errno.h>
#include <string.h>

static int64_t source_fail(struct uz_zip_source *src, int zip_errno, int sys_errno)
{
    zip_error_set(&src->error, zip_errno, sys_errno);
    return -1;
}

/* Reads until nbytes or the end of the file; a short count is the end. */
static int64_t read_content(struct uz_zip_source *src, uint8_t *data, uint64_t nbytes, uint64_t pos)
{
    size_t n;
    src->read_rc =
        uz_content_read_some(src->content, data, (size_t)nbytes, pos, &n, &src->read_error);
    return src->read_rc < 0 ? source_fail(src, ZIP_ER_READ, EIO) : (int64_t)n;
}

/* Small reads, of which a central directory takes many, cost a system call only now and then. */
static int64_t read_window(struct uz_zip_source *src, uint8_t *data, uint64_t nbytes, uint64_t left)
{
    if (src->pos < src->window_pos || src->pos + nbytes > src->window_pos + src->window_n) {
        uint64_t want = left < sizeof src->window ? left : sizeof src->window;
        src->window_n = 0;
        int64_t n = read_content(src, src->window, want, src->pos);
        if (n < 0)
            return n;
        src->window_pos = src->pos;
        src->window_n = (uint64_t)n;
        if (nbytes > src->window_n)
            nbytes = src->window_n;
    }
    memcpy(data, src->window + (src->pos - src->window_pos), (size_t)nbytes);
    return (int64_t)nbytes;
}

static int64_t source_read(struct uz_zip_source *src, uint8_t *data, uint64_t nbytes)
{
    uint64_t left = src->pos < src->file_nbytes ? src->file_nbytes - src->pos : 0;
    if (nbytes > left)
        nbytes = left;
    if (nbytes > src->budget)
        return source_fail(src, ZIP_ER_INCONS, 0);
    src->budget -= nbytes;
    src->last_read = src->pos;
    if (nbytes == 0)
        return 0;
    int64_t n = nbytes < sizeof src->window / 4 ? read_window(src, data, nbytes, left)
                                                : read_content(src, data, nbytes, src->pos);
    if (n > 0)
        src->pos += (uint64_t)n;
    return n;
}

static int64_t source_seek(struct uz_zip_source *src, void *data, uint64_t nbytes)
{
    int64_t pos =
        zip_source_seek_compute_offset(src->pos, src->file_nbytes, data, nbytes, &src->error);
    if (pos < 0)
        return -1;
    src->pos = (uint64_t)pos;
    if (src->pos < src->lowest_seek)
        src->lowest_seek = src->pos;
    return 0;
}

static zip_int64_t source(void *cookie, void *data, zip_uint64_t nbytes, zip_source_cmd_t command)
{
    struct uz_zip_source *src = cookie;
    zip_stat_t st;

    switch (command) {
    case ZIP_SOURCE_OPEN:
        src->pos = 0;
        return 0;
    case ZIP_SOURCE_READ:
        return source_read(src, data, nbytes);
    case ZIP_SOURCE_SEEK:
        return source_seek(src, data, nbytes);
    case ZIP_SOURCE_TELL:
        return (zip_int64_t)src->pos;
    case ZIP_SOURCE_STAT:
        if (nbytes < sizeof st)
            return source_fail(src, ZIP_ER_INVAL, 0);
        zip_stat_init(&st);
        st.size = src->file_nbytes;
        st.valid = ZIP_STAT_SIZE;
        memcpy(data, &st, sizeof st);
        return (zip_int64_t)sizeof st;
    case ZIP_SOURCE_ERROR:
        return zip_error_to_data(&src->error, data, nbytes);
    case ZIP_SOURCE_SUPPORTS:
        return ZIP_SOURCE_SUPPORTS_SEEKABLE;
    case ZIP_SOURCE_CLOSE:
    case ZIP_SOURCE_FREE:
        return 0;
    default:
        return source_fail(src, ZIP_ER_OPNOTSUPP, 0);
    }
}

int uz_zip_source_init(struct uz_zip_source *src, struct uz_content *content, struct uz_error *err)
{
    memset(src, 0, sizeof *src);
    src->content = content;
    src->budget = UINT64_MAX;
    zip_error_init(&src->error);
    return uz_content_size(content, &src->file_nbytes, err);
}

zip_source_t *uz_zip_source_new(struct uz_zip_source *src, zip_error_t *error)
{
    return zip_source_function_create(source, src, error);
}
