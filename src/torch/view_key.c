/* SPDX-License-Identifier: Apache-2.0 */
/* Tells whether two views are the same memory. */
#include <string.h>

#include "base/mem.h"
#include "torch/file.h"

int uz_view_memory_key(struct uz_arena *arena, const struct uz_view *view, const char **key,
                       size_t *nbytes, struct uz_error *err)
{
    uint64_t *numbers;
    uint64_t n = 2 + 2 * (uint64_t)view->ndim;
    UZ_TRY(uz_arena_alloc(arena, n, sizeof *numbers, &numbers, err));
    numbers[0] = view->storage.key;
    numbers[1] = view->first;
    memcpy(numbers + 2, view->shape, view->ndim * sizeof *numbers);
    memcpy(numbers + 2 + view->ndim, view->stride, view->ndim * sizeof *numbers);
    *key = (const char *)numbers;
    *nbytes = (size_t)n * sizeof *numbers;
    return UZ_OK;
}
