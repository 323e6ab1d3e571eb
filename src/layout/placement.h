/* SPDX-License-Identifier: Apache-2.0 */
/* Where a shard's elements go in a tensor that is joined from several shards. */
#ifndef UZ_LAYOUT_PLACEMENT_H
#define UZ_LAYOUT_PLACEMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"
#include "layout/piece.h"

/*
 * A block of elements that a shard (a row-major array of its own) shares with a logical tensor:
 * element (m0, m1, ...) of the block is element  shard_first + sum(m_j * shard_stride_j)  of the
 * shard and element  dst_first + sum(m_j * dst_stride_j)  of the tensor.
 */
struct uz_block {
    unsigned ndim;
    const uint64_t *shape;
    uint64_t shard_first, dst_first;
    const uint64_t *shard_stride, *dst_stride;
    double divisor; /* see struct uz_shard_map */
};

enum { UZ_MAX_BLOCK_DIMS = 64 };

/* A block that was checked and prepared; its parts live in an arena. Fields are private. */
struct uz_placement {
    struct uz_block raw;            /* as given */
    const struct uz_shard_map *map; /* dimensions in the order of the tensor, as few as possible */
    uint64_t shard_first;
    uint64_t n_elems;   /* of the block that are wanted: its first ones, in the tensor's order */
    uint64_t last;      /* distance from the block's first to its last element in the shard */
    bool in_order;      /* upwards in the tensor is upwards in the shard */
    bool is_contiguous; /* on both sides, and nothing is divided */
};

/*
 * Prepares a block of a shard of shard_numel elements. Its elements must lie inside the shard and
 * before element dst_numel of the tensor, and no two may be the same element on either side (else
 * UZ_CORRUPT). Those from element dst_end of the tensor on are left out. Strides are copied.
 */
int uz_placement_init(struct uz_placement *placement, const struct uz_block *block,
                      uint64_t shard_numel, uint64_t dst_numel, uint64_t dst_end,
                      struct uz_arena *arena, struct uz_error *err);

/* Takes the piece, which is valid during the call. */
typedef int (*uz_piece_fn)(void *cookie, const struct uz_piece *piece, struct uz_error *err);

/*
 * What a piece of the shard is of the tensor: gives none, one, or (when the block is turned round
 * and the piece a part of it) many pieces with the same storage and tensor number. A piece with a
 * map must be the whole shard (a view with strides). UZ_UNSUPPORTED
 * for a turned block of more than a million rows, or one that is no box of a view with strides.
 */
int uz_placement_apply(const struct uz_placement *placement, const struct uz_piece *piece,
                       struct uz_arena *arena, uz_piece_fn emit, void *cookie,
                       struct uz_error *err);

#endif
