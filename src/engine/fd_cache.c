/* SPDX-License-Identifier: Apache-2.0 */
/* Direct-mapped cache of descriptors. */
#include "engine/fd_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

unsigned uz_fd_slots_for(unsigned n_caches)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return UZ_FD_SLOTS;
    rlim_t slots = limit.rlim_cur / 2 / n_caches;
    return slots < 1 ? 1 : slots > UZ_FD_SLOTS ? UZ_FD_SLOTS : (unsigned)slots;
}

void uz_fd_cache_init(struct uz_fd_cache *cache, int open_flags, unsigned n_slots)
{
    cache->flags = open_flags | O_CLOEXEC;
    cache->n_slots = n_slots;
    cache->drop = false;
    for (unsigned i = 0; i < n_slots; i++)
        cache->fd[i] = -1;
}

static void close_file(const struct uz_fd_cache *cache, unsigned slot)
{
    if (cache->drop)
        (void)posix_fadvise(cache->fd[slot], 0, 0, POSIX_FADV_DONTNEED);
    close(cache->fd[slot]);
}

void uz_fd_cache_close(struct uz_fd_cache *cache)
{
    for (unsigned i = 0; i < cache->n_slots; i++) {
        if (cache->fd[i] >= 0)
            close_file(cache, i);
        cache->fd[i] = -1;
    }
}

/* Without a free descriptor, those of this cache make room. */
static int open_file(struct uz_fd_cache *cache, const char *path)
{
    int fd = open(path, cache->flags);
    if (fd >= 0 || (errno != EMFILE && errno != ENFILE))
        return fd;
    uz_fd_cache_close(cache);
    return open(path, cache->flags);
}

int uz_fd_cache_get(struct uz_fd_cache *cache, uint32_t file, const char *path, int *fd,
                    struct uz_error *err)
{
    unsigned slot = file % cache->n_slots;
    if (cache->fd[slot] < 0 || cache->file[slot] != file) {
        int opened = open_file(cache, path);
        if (opened < 0)
            return uz_fail_errno(err, errno, path, "cannot be opened");
        if (cache->fd[slot] >= 0)
            close_file(cache, slot);
        cache->fd[slot] = opened;
        cache->file[slot] = file;
    }
    *fd = cache->fd[slot];
    return UZ_OK;
}
