/* SPDX-License-Identifier: Apache-2.0 */
/* Comparisons for sorting. */
#ifndef UZ_BASE_ORDER_H
#define UZ_BASE_ORDER_H

#include <stdint.h>
#include <string.h>

/* Negative, 0 or positive, as a is less than, equal to or greater than b. */
static inline int uz_compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

/* For qsort on an array of char *. */
static inline int uz_compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

#endif
