/* SPDX-License-Identifier: Apache-2.0 */
/* Checked allocation and arenas. */
#include "base/mem.h"

#include <stdalign.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <stdlib.h>
#include <string.h>

int uz_alloc(void *out, uint64_t n_elems, size_t elem_size, struct uz_error *err)
{
    uint64_t nbytes;
    if (!uz_mul_u64(n_elems, elem_size, &nbytes) || nbytes > PTRDIFF_MAX)
        return uz_fail_nomem(err, UINT64_MAX);
    void *items = calloc(nbytes ? (size_t)n_elems : 1, elem_size);
    if (!items)
        return uz_fail_nomem(err, nbytes);
    memcpy(out, &items, sizeof items);
    return UZ_OK;
}

int uz_reserve(void *items, size_t *cap, uint64_t need, size_t elem_size, struct uz_error *err)
{
    if (need <= *cap)
        return UZ_OK;
    uint64_t want = *cap ? (uint64_t)*cap * 2 : 8;
    if (want < need)
        want = need;
    uint64_t nbytes;
    if (!uz_mul_u64(want, elem_size, &nbytes) || nbytes > PTRDIFF_MAX)
        return uz_fail_nomem(err, UINT64_MAX);
    void *old;
    memcpy(&old, items, sizeof old);
    void *grown = realloc(old, (size_t)nbytes);
    if (!grown)
        return uz_fail_nomem(err, nbytes);
    memcpy(items, &grown, sizeof grown);
    *cap = (size_t)want;
    return UZ_OK;
}

void uz_mem_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

struct block {
    struct block *next;
    size_t used, size;
    alignas(max_align_t) unsigned char data[];
};

struct uz_arena {
    struct block *blocks; /* the first is the one being filled */
    uint64_t max_bytes;
    uint64_t used;
    size_t next_size;
};

enum { FIRST_BLOCK = 4096, LARGEST_BLOCK = 1 << 20 };

struct uz_arena *uz_arena_new(uint64_t max_bytes)
{
    struct uz_arena *arena = calloc(1, sizeof *arena);
    if (arena) {
        arena->max_bytes = max_bytes;
        arena->next_size = FIRST_BLOCK;
    }
    return arena;
}

void uz_arena_free(struct uz_arena *arena)
{
    if (!arena)
        return;
    while (arena->blocks) {
        struct block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
    free(arena);
}

uint64_t uz_arena_used(const struct uz_arena *arena)
{
    return arena->used;
}

/* A new block with room for nbytes. A large request gets a block of its own, behind the first. */
static struct block *block_for(struct uz_arena *arena, size_t nbytes)
{
    struct block *first = arena->blocks;
    bool alone = nbytes > arena->next_size / 4;
    size_t size = alone ? nbytes : arena->next_size;
    struct block *block = malloc(sizeof *block + size);
    if (!block)
        return NULL;
    block->used = 0;
    block->size = size;
    if (alone && first) {
        block->next = first->next;
        first->next = block;
    } else {
        block->next = first;
        arena->blocks = block;
    }
    if (!alone && arena->next_size < LARGEST_BLOCK)
        arena->next_size *= 2;
    return block;
}

static int arena_full(const struct uz_arena *arena, struct uz_error *err)
{
    return uz_fail(err, UZ_LIMIT, "needs more than the %llu bytes that one file's values may take",
                   (unsigned long long)arena->max_bytes);
}

int uz_arena_alloc(struct uz_arena *arena, uint64_t n_elems, size_t elem_size, void *out,
                   struct uz_error *err)
{
    const uint64_t align = alignof(max_align_t);
    uint64_t nbytes;
    if (!uz_mul_u64(n_elems, elem_size, &nbytes) || nbytes > PTRDIFF_MAX)
        return arena_full(arena, err);
    uint64_t rounded = (nbytes + align - 1) / align * align;
    if (rounded > arena->max_bytes - arena->used)
        return arena_full(arena, err);
    struct block *block = arena->blocks;
    if (!block || block->size - block->used < rounded)
        block = block_for(arena, (size_t)rounded);
    if (!block)
        return uz_fail_nomem(err, rounded);
    void *place = block->data + block->used;
    block->used += (size_t)rounded;
    arena->used += rounded;
    memcpy(out, &place, sizeof place);
    return UZ_OK;
}

int uz_arena_strndup(struct uz_arena *arena, const char *text, size_t n_bytes, const char **out,
                     struct uz_error *err)
{
    char *copy;
    UZ_TRY(uz_arena_alloc(arena, (uint64_t)n_bytes + 1, 1, &copy, err));
    memcpy(copy, text, n_bytes);
    copy[n_bytes] = '\0';
    *out = copy;
    return UZ_OK;
}
