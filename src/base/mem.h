/* SPDX-License-Identifier: Apache-2.0 */
/* Checked sizes, growing arrays, and arenas that are freed as one. */
#ifndef UZ_BASE_MEM_H
#define UZ_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Arithmetic on numbers from files: false when the result does not fit. */
static inline bool uz_add_u64(uint64_t a, uint64_t b, uint64_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

static inline bool uz_mul_u64(uint64_t a, uint64_t b, uint64_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

/* calloc(n, size) with overflow check; fails with UZ_NOMEM. */
int uz_alloc(void *out, uint64_t n_elems, size_t elem_size, struct uz_error *err);

/*
 * Makes room for `need` elements of elem_size bytes in the array *items (capacity *cap), doubling;
 * new room is not cleared. `items` is the address of the typed pointer.
 */
int uz_reserve(void *items, size_t *cap, uint64_t need, size_t elem_size, struct uz_error *err);

/* Appends a cleared element: the new element's address in *slot. */
#define UZ_APPEND(items, n, cap, slot, err)                                                        \
    (uz_reserve(&(items), &(cap), (uint64_t)(n) + 1, sizeof *(items), err) < 0                     \
         ? UZ_NOMEM                                                                                \
         : (*(slot) = &(items)[(n)++], memset(*(slot), 0, sizeof *(items)), UZ_OK))

/*
 * Gives freed memory back to the system, where libc can: between work that took much of it on many
 * threads and work that takes much on one.
 */
void uz_mem_trim(void);

struct uz_arena;

/* An arena that hands out at most max_bytes in all; NULL without memory. */
struct uz_arena *uz_arena_new(uint64_t max_bytes);

/* Frees everything it handed out. NULL is allowed. */
void uz_arena_free(struct uz_arena *arena);

/* Uncleared memory aligned for any type; UZ_NOMEM or UZ_LIMIT. Lives as long as the arena. */
int uz_arena_alloc(struct uz_arena *arena, uint64_t n_elems, size_t elem_size, void *out,
                   struct uz_error *err);

/* A terminated copy of n_bytes of text. */
int uz_arena_strndup(struct uz_arena *arena, const char *text, size_t n_bytes, const char **out,
                     struct uz_error *err);

/* Bytes handed out so far. */
uint64_t uz_arena_used(const struct uz_arena *arena);

#endif
