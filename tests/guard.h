/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers between two pages that cannot be touched, so that a step outside is a crash. */

#ifndef UZ_TESTS_GUARD_H
#define UZ_TESTS_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

/* Bytes [data, data + nbytes) are there; the page before and the page after are not. */
struct guard_buf {
    unsigned char *data;
    size_t nbytes;
};

static inline size_t guard_page_nbytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* At least `min_nbytes`, rounded up to whole pages, all zero. False if there is no memory. */
static inline bool guard_alloc(struct guard_buf *g, size_t min_nbytes)
{
    size_t page = guard_page_nbytes();
    size_t nbytes = (min_nbytes + page - 1) / page * page;
    unsigned char *map =
        mmap(NULL, nbytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED) {
        return false;
    }
    if (nbytes != 0 && mprotect(map + page, nbytes, PROT_READ | PROT_WRITE) != 0) {
        (void)munmap(map, nbytes + 2 * page);
        return false;
    }
    g->data = map + page;
    g->nbytes = nbytes;
    return true;
}

static inline void guard_free(struct guard_buf *g)
{
    size_t page = guard_page_nbytes();

    if (g->data != NULL) {
        (void)munmap(g->data - page, g->nbytes + 2 * page);
    }
    g->data = NULL;
    g->nbytes = 0;
}

/* `n` bytes that end `gap` bytes before the page after; with no gap, any read past them crashes. */
static inline unsigned char *guard_tail(const struct guard_buf *g, size_t n, size_t gap)
{
    return g->data + (g->nbytes - gap - n);
}

#endif
