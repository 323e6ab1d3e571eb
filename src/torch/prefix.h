/* SPDX-License-Identifier: Apache-2.0 */
/* Pickles of unknown size at a place of a file: nothing tells where they end but they themselves.
 */
#ifndef UZ_TORCH_PREFIX_H
#define UZ_TORCH_PREFIX_H

#include "base/cursor.h"
#include "base/error.h"
#include "torch/content.h"

/* Parses what the cursor holds; UZ_CORRUPT may only mean that it was cut. Called anew with more. */
typedef int (*uz_parse_fn)(void *cookie, struct uz_cursor *cur, struct uz_error *err);

/*
 * Gives `parse` the bytes from `offset` on: some at first, and twice as many each time that they
 * are not enough, up to `most` (what lies behind is UZ_LIMIT).
 */
int uz_read_prefix(struct uz_content *content, uint64_t offset, uint64_t most, uz_parse_fn parse,
                   void *cookie, struct uz_error *err);

#endif
