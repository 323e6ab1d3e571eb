/* SPDX-License-Identifier: Apache-2.0 */
/* Direct-mapped cache of descriptors. */
#include "engine/fd_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

void uz_fd_cache_init(struct uz_fd_cache *cache, int open_flags)
{
    cache->flags = open_flags | O_CLOEXEC;
    for (unsigned i = 0; i < UZ_FD_SLOTS; i++)
        cache->fd[i] = -1;
}

void uz_fd_cache_close(struct uz_fd_cache *cache)
{
    for (unsigned i = 0; i < UZ_FD_SLOTS; i++)
        if (cache->fd[i] >= 0)
            close(cache->fd[i]);
}

int uz_fd_cache_get(struct uz_fd_cache *cache, uint32_t file, const char *path, int *fd,
                    struct uz_error *err)
{
    unsigned slot = file % UZ_FD_SLOTS;
    if (cache->fd[slot] < 0 || cache->file[slot] != file) {
        int opened = open(path, cache->flags);
        if (opened < 0)
            return uz_fail_errno(err, errno, path, "cannot be opened");
        if (cache->fd[slot] >= 0)
            close(cache->fd[slot]);
        cache->fd[slot] = opened;
        cache->file[slot] = file;
    }
    *fd = cache->fd[slot];
    return UZ_OK;
}
