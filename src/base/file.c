/* SPDX-License-Identifier: Apache-2.0 */
/* Whole reads and writes at an offset. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/mem.h"

enum { MAX_ROWS_AT_ONCE = 256 };

int uz_open_read(const char *path, int *fd, uint64_t *nbytes, struct uz_error *err)
{
    /* O_NONBLOCK: opening a named pipe must fail the check below, not hang */
    int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (opened < 0)
        return uz_fail_errno(err, errno, path, "cannot be opened");
    struct stat st;
    int rc = UZ_OK;
    if (fstat(opened, &st) < 0)
        rc = uz_fail_errno(err, errno, path, "cannot be examined");
    else if (!S_ISREG(st.st_mode))
        rc = uz_fail_at(err, UZ_FORMAT, path, UZ_NO_OFFSET, "is not a regular file");
    if (rc < 0) {
        close(opened);
        return rc;
    }
    *fd = opened;
    if (nbytes)
        *nbytes = (uint64_t)st.st_size;
    return UZ_OK;
}

static int fail_read(const char *path, uint64_t offset, struct uz_error *err)
{
    int rc = uz_fail_errno(err, errno, path, "cannot be read");
    if (err)
        err->offset = offset;
    return rc;
}

int uz_pread_all(int fd, void *buf, size_t nbytes, uint64_t offset, const char *path,
                 struct uz_error *err)
{
    size_t done = 0;
    while (done < nbytes) {
        ssize_t n = pread(fd, (char *)buf + done, nbytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_read(path, offset + done, err);
        if (n == 0)
            return uz_fail_at(err, UZ_CORRUPT, path, offset + done,
                              "ends too early: %zu more bytes are needed", nbytes - done);
        done += (size_t)n;
    }
    return UZ_OK;
}

int uz_pread_rows(int fd, void *buf, size_t row_nbytes, uint64_t n_rows, uint64_t stride,
                  uint64_t offset, const char *path, struct uz_error *err)
{
    struct iovec rows[MAX_ROWS_AT_ONCE];
    for (uint64_t row = 0; row < n_rows;) {
        int n = 0;
        for (; n < MAX_ROWS_AT_ONCE && row + (uint64_t)n < n_rows; n++)
            rows[n] = (struct iovec){(char *)buf + (row + (uint64_t)n) * stride, row_nbytes};
        ssize_t nbytes;
        do
            nbytes = preadv(fd, rows, n, (off_t)(offset + row * row_nbytes));
        while (nbytes < 0 && errno == EINTR);
        if (nbytes < 0)
            return fail_read(path, offset + row * row_nbytes, err);
        uint64_t whole = (uint64_t)nbytes / row_nbytes;
        row += whole;
        if (whole == (uint64_t)n)
            continue;
        UZ_TRY(uz_pread_all(fd, (char *)buf + row * stride, row_nbytes, offset + row * row_nbytes,
                            path, err));
        row++;
    }
    return UZ_OK;
}

int uz_pwrite_all(int fd, const void *buf, size_t nbytes, uint64_t offset, const char *path,
                  struct uz_error *err)
{
    size_t done = 0;
    while (done < nbytes) {
        ssize_t n = pwrite(fd, (const char *)buf + done, nbytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return uz_fail_errno(err, errno, path, "cannot be written");
        done += (size_t)n;
    }
    return UZ_OK;
}

int uz_read_file(const char *path, uint64_t max_nbytes, char **data, size_t *nbytes,
                 struct uz_error *err)
{
    int fd;
    uint64_t size;
    UZ_TRY(uz_open_read(path, &fd, &size, err));
    char *buf = NULL;
    int rc = UZ_OK;
    if (size > max_nbytes)
        rc = uz_fail_at(err, UZ_LIMIT, path, UZ_NO_OFFSET, "has %llu bytes, at most %llu are read",
                        (unsigned long long)size, (unsigned long long)max_nbytes);
    if (rc == UZ_OK)
        rc = uz_alloc(&buf, size + 1, 1, err);
    if (rc == UZ_OK)
        rc = uz_pread_all(fd, buf, (size_t)size, 0, path, err);
    close(fd);
    if (rc < 0) {
        free(buf);
        return rc;
    }
    *data = buf;
    *nbytes = (size_t)size;
    return UZ_OK;
}

char *uz_path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir);
    const char *slash = n > 0 && dir[n - 1] == '/' ? "" : "/";
    char *path;
    if (asprintf(&path, "%s%s%s", dir, slash, name) < 0)
        return NULL;
    return path;
}

const char *uz_path_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool uz_ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && !strcmp(text + n - n_end, end);
}

bool uz_has_suffix(const char *name, const char *suffix)
{
    return strlen(name) > strlen(suffix) && uz_ends_with(name, suffix);
}

/*
 * Gives a new file its size, and its room on the disk where the file system can do that: a full
 * disk is then known before anything is written, and the writes themselves get cheaper.
 */
static int set_size(int fd, const char *path, uint64_t nbytes, struct uz_error *err)
{
    int rc = -1;
    if (nbytes > 0)
        do
            rc = fallocate(fd, 0, 0, (off_t)nbytes);
        while (rc < 0 && errno == EINTR);
    if (rc < 0 && nbytes > 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        return uz_fail_errno(err, errno, path, "cannot get its room of %llu bytes",
                             (unsigned long long)nbytes);
    if (rc < 0 && ftruncate(fd, (off_t)nbytes) < 0)
        return uz_fail_errno(err, errno, path, "cannot get its size of %llu bytes",
                             (unsigned long long)nbytes);
    return UZ_OK;
}

int uz_create_file(const char *path, uint64_t nbytes, struct uz_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return uz_fail_errno(err, errno, path, "cannot be made");
    int rc = set_size(fd, path, nbytes, err);
    if (close(fd) < 0 && rc == UZ_OK)
        rc = uz_fail_errno(err, errno, path, "cannot be closed");
    return rc;
}
