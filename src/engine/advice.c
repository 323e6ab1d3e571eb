/* SPDX-License-Identifier: Apache-2.0 */
/* Writes begin early, and pages are let go of behind the place that work has come to. */
#include "engine/advice.h"

#include <fcntl.h>

enum {
    /* Pages are let go of only whole, and the system's may be large (2 MiB): what lies a bit
     * before is offered again. */
    BEHIND_NBYTES = 4 * 1024 * 1024,
    /* That far behind the place of writing, the disk has been given time. */
    LAG_NBYTES = 64 * 1024 * 1024,
    /* Less is not worth a call: a larger write, or the sync at the end, takes it along. */
    SMALL_NBYTES = 256 * 1024
};

static void drop(int fd, uint64_t offset, uint64_t nbytes)
{
    uint64_t first = offset > BEHIND_NBYTES ? offset - BEHIND_NBYTES : 0;
    (void)posix_fadvise(fd, (off_t)first, (off_t)(offset - first + nbytes), POSIX_FADV_DONTNEED);
}

static void finish_writeback(int fd, uint64_t offset, uint64_t nbytes)
{
    (void)sync_file_range(fd, (off_t)offset, (off_t)nbytes,
                          SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                              SYNC_FILE_RANGE_WAIT_AFTER);
}

void uz_advise_read(const struct uz_advice *advice, int fd, uint64_t offset, uint64_t nbytes)
{
    if (advice->drop)
        drop(fd, offset, nbytes);
}

void uz_advise_written(const struct uz_advice *advice, int fd, uint64_t offset, uint64_t nbytes)
{
    if (nbytes < SMALL_NBYTES || !(advice->start_writeback || advice->drop))
        return;
    (void)sync_file_range(fd, (off_t)offset, (off_t)nbytes, SYNC_FILE_RANGE_WRITE);
    if (!advice->drop || offset < LAG_NBYTES)
        return;
    finish_writeback(fd, offset - LAG_NBYTES, nbytes);
    drop(fd, offset - LAG_NBYTES, nbytes);
}

void uz_advise_complete(const struct uz_advice *advice, int fd)
{
    if (!advice->drop)
        return;
    finish_writeback(fd, 0, 0); /* 0: to the end of the file */
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}
