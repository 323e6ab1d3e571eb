/* SPDX-License-Identifier: Apache-2.0 */
/* Open files for one thread: as many as the process may have, however many shards there are. */
#ifndef UZ_ENGINE_FD_CACHE_H
#define UZ_ENGINE_FD_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { UZ_FD_SLOTS = 2048 };

/* Files of one kind by number; slot = number % n_slots. */
struct uz_fd_cache {
    int fd[UZ_FD_SLOTS]; /* -1: empty */
    uint32_t file[UZ_FD_SLOTS];
    unsigned n_slots;
    int flags; /* of open() */
    bool drop; /* files leave no pages in memory when they are closed; false at first */
};

/*
 * How many slots each of n_caches may use so that together they leave a part of the process's
 * descriptors to others: 1 to UZ_FD_SLOTS.
 */
unsigned uz_fd_slots_for(unsigned n_caches);

/* n_slots is 1 to UZ_FD_SLOTS. */
void uz_fd_cache_init(struct uz_fd_cache *cache, int open_flags, unsigned n_slots);
void uz_fd_cache_close(struct uz_fd_cache *cache);

/* A descriptor of file number `file` at `path`, valid until the next call. */
int uz_fd_cache_get(struct uz_fd_cache *cache, uint32_t file, const char *path, int *fd,
                    struct uz_error *err);

#endif
