/* SPDX-License-Identifier: Apache-2.0 */
/* Reflink, hard link, copy: the first that works. */
#include "base/clone.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

enum { BLOCK_NBYTES = 1 << 20 };

static int copy_bytes(int from_fd, int to_fd, uint64_t nbytes, const char *from, const char *to,
                      uz_clone_tick_fn tick, void *cookie, struct uz_error *err)
{
    unsigned char *block;
    int rc = UZ_OK;
    UZ_TRY(uz_alloc(&block, BLOCK_NBYTES, 1, err));
    for (uint64_t done = 0; done < nbytes && rc == UZ_OK;) {
        size_t n = nbytes - done < BLOCK_NBYTES ? (size_t)(nbytes - done) : BLOCK_NBYTES;
        rc = uz_pread_all(from_fd, block, n, done, from, err);
        if (rc == UZ_OK)
            rc = uz_pwrite_all(to_fd, block, n, done, to, err);
        done += n;
        if (rc == UZ_OK && tick && tick(cookie, n))
            rc = uz_fail(err, UZ_CANCELLED, "cancelled");
    }
    free(block);
    return rc;
}

/* True if the blocks could be shared; else nothing is there. */
static bool reflink(int from_fd, const char *to)
{
    int to_fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (to_fd < 0)
        return false;
    bool shared = ioctl(to_fd, FICLONE, from_fd) == 0;
    if (!shared)
        (void)unlink(to);
    close(to_fd);
    return shared;
}

static int copy_file(int from_fd, uint64_t nbytes, const char *from, const char *to,
                     uz_clone_tick_fn tick, void *cookie, struct uz_error *err)
{
    int to_fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (to_fd < 0)
        return uz_fail_errno(err, errno, to, "cannot be made");
    int rc = copy_bytes(from_fd, to_fd, nbytes, from, to, tick, cookie, err);
    if (close(to_fd) < 0 && rc == UZ_OK)
        rc = uz_fail_errno(err, errno, to, "cannot be written");
    return rc;
}

int uz_clone_share(const char *from, const char *to, bool may_link, enum uz_clone_how *how,
                   struct uz_error *err)
{
    int from_fd;
    UZ_TRY(uz_open_read(from, &from_fd, NULL, err));
    if (reflink(from_fd, to))
        *how = UZ_CLONE_REFLINK;
    else if (may_link && linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) == 0)
        *how = UZ_CLONE_LINK;
    else
        *how = UZ_CLONE_COPY;
    close(from_fd);
    return UZ_OK;
}

int uz_clone_copy(const char *from, const char *to, uz_clone_tick_fn tick, void *cookie,
                  struct uz_error *err)
{
    int from_fd;
    uint64_t nbytes;
    UZ_TRY(uz_open_read(from, &from_fd, &nbytes, err));
    int rc = copy_file(from_fd, nbytes, from, to, tick, cookie, err);
    close(from_fd);
    return rc;
}
