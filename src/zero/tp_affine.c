/* SPDX-License-Identifier: Apache-2.0 */
/* Reads affine_map: {version, params: {pattern: {logical_shape, ranks: {rank: {...}}}}}. */
#include <math.h>
#include <string.h>

#include "layout/model.h"
#include "zero/tp_rules_impl.h"

enum { NEWEST_VERSION = 1, MAX_RANKS = 65536 };

/* What is being read, for messages and as a place for what is made. */
struct reader {
    struct uz_tp_rules *rules;
    const struct uz_text *pattern;
    struct uz_tp_affine *affine;
};

static int bad(const struct reader *r, const char *what, struct uz_error *err)
{
    return uz_fail(err, UZ_CORRUPT, "affine_map of '%.*s': %s", (int)r->pattern->nbytes,
                   r->pattern->data, what);
}

/* [offset, [strides]] */
static int read_side(const struct reader *r, const struct uz_node *node, unsigned ndim,
                     uint64_t *first, const uint64_t **strides, struct uz_error *err)
{
    const struct uz_seq *pair = uz_node_list(node);
    size_t n;
    if (!pair || pair->n != 2 || !uz_node_u64(pair->items[0], first) || *first > INT64_MAX)
        return bad(r, "a piece has no proper offset", err);
    UZ_TRY(uz_tp_numbers(r->rules, pair->items[1], "a piece's strides", strides, &n, err));
    return n == ndim ? UZ_OK : bad(r, "a piece has not one stride for each dimension", err);
}

static bool read_real(const struct uz_node *node, double *value)
{
    int64_t integer;
    if (node->kind == UZ_NODE_FLOAT)
        *value = node->u.real;
    else if (uz_node_int(node, &integer))
        *value = (double)integer;
    else
        return false;
    return isfinite(*value) && uz_divides(*value);
}

/* The first of the ranks that hold a piece owns it; the others' are copies. */
static int read_locations(const struct reader *r, const struct uz_node *node, uint32_t rank,
                          struct uz_tp_piece *piece, struct uz_error *err)
{
    const uint64_t *locations;
    size_t n;
    bool listed = false;
    UZ_TRY(uz_tp_numbers(r->rules, node, "a piece's locations", &locations, &n, err));
    uint64_t owner = rank;
    for (size_t i = 0; i < n; i++) {
        listed |= locations[i] == rank;
        owner = locations[i] < owner ? locations[i] : owner;
    }
    if (!listed)
        return bad(r, "a piece of a rank does not list that rank in its locations", err);
    piece->owner = (uint32_t)owner;
    piece->is_copy = owner != rank;
    return UZ_OK;
}

static int read_piece(const struct reader *r, const struct uz_node *node, uint32_t rank,
                      struct uz_tp_piece *piece, struct uz_error *err)
{
    const struct uz_node *scale = uz_node_get(node, "scale");
    size_t n;
    *piece = (struct uz_tp_piece){.owner = rank};
    UZ_TRY(uz_tp_numbers(r->rules, uz_node_get(node, "shape"), "a piece's shape",
                         &piece->block.shape, &n, err));
    if (n > UZ_MAX_BLOCK_DIMS)
        return bad(r, "a piece has too many dimensions", err);
    piece->block.ndim = (unsigned)n;
    UZ_TRY(read_side(r, uz_node_get(node, "source"), piece->block.ndim, &piece->block.dst_first,
                     &piece->block.dst_stride, err));
    UZ_TRY(read_side(r, uz_node_get(node, "dest"), piece->block.ndim, &piece->block.shard_first,
                     &piece->block.shard_stride, err));
    if (scale) {
        if (!read_real(scale, &piece->block.divisor))
            return bad(r, "a piece's scale is no number that can be divided by", err);
        if (piece->block.divisor >= 1 && piece->block.divisor <= 1)
            piece->block.divisor = 0;
    }
    r->affine->is_scaled |= uz_divides(piece->block.divisor);
    return read_locations(r, uz_node_get(node, "locations"), rank, piece, err);
}

/* The pieces of a shard must be all of it. */
static int check_sum(const struct reader *r, const struct uz_tp_affine_rank *rank,
                     struct uz_error *err)
{
    uint64_t sum = 0, numel;
    for (size_t i = 0; i < rank->n_pieces; i++) {
        UZ_TRY(
            uz_shape_numel(rank->pieces[i].block.ndim, rank->pieces[i].block.shape, &numel, err));
        if (!uz_add_u64(sum, numel, &sum))
            return bad(r, "its pieces are beyond 64 bits", err);
    }
    return sum == rank->numel
               ? UZ_OK
               : bad(r, "a rank's pieces are not as many elements as its shard", err);
}

static int read_rank(const struct reader *r, const struct uz_node *node, uint32_t index,
                     struct uz_tp_affine_rank *rank, struct uz_error *err)
{
    const struct uz_seq *list = uz_node_list(uz_node_get(node, "pieces"));
    const uint64_t *shape;
    size_t ndim;
    struct uz_tp_piece *pieces;
    UZ_TRY(uz_tp_numbers(r->rules, uz_node_get(node, "shard_shape"), "shard_shape", &shape, &ndim,
                         err));
    if (!list || ndim > UZ_MAX_BLOCK_DIMS)
        return bad(r, "a rank has no proper pieces", err);
    UZ_TRY(uz_shape_numel((unsigned)ndim, shape, &rank->numel, err));
    UZ_TRY(uz_arena_alloc(r->rules->arena, (uint64_t)list->n + 1, sizeof *pieces, &pieces, err));
    for (size_t i = 0; i < list->n; i++)
        UZ_TRY(read_piece(r, list->items[i], index, &pieces[i], err));
    rank->n_pieces = list->n;
    rank->pieces = pieces;
    return check_sum(r, rank, err);
}

/* Ranks are numbers in a pickle and texts in JSON. */
static bool rank_number(const struct uz_node *key, uint64_t *rank)
{
    if (key->kind != UZ_NODE_STR)
        return uz_node_u64(key, rank);
    *rank = 0;
    for (size_t i = 0; i < key->u.text.nbytes; i++) {
        char c = key->u.text.data[i];
        if (c < '0' || c > '9' || *rank > MAX_RANKS)
            return false;
        *rank = *rank * 10 + (uint64_t)(c - '0');
    }
    return key->u.text.nbytes > 0;
}

static int read_ranks(const struct reader *r, const struct uz_node *node, struct uz_error *err)
{
    const struct uz_dict *dict = uz_node_dict(uz_node_get(node, "ranks"));
    struct uz_tp_affine_rank *ranks;
    bool *seen;
    if (!dict || dict->n == 0 || dict->n > MAX_RANKS)
        return bad(r, "it has no proper ranks", err);
    UZ_TRY(uz_arena_alloc(r->rules->arena, dict->n, sizeof *ranks, &ranks, err));
    UZ_TRY(uz_arena_alloc(r->rules->arena, dict->n, sizeof *seen, &seen, err));
    memset(seen, 0, dict->n * sizeof *seen);
    for (size_t i = 0; i < dict->n; i++) {
        uint64_t rank;
        if (!rank_number(dict->pairs[i].key, &rank) || rank >= dict->n || seen[rank])
            return bad(r, "its ranks are not 0, 1, ... without a gap", err);
        seen[rank] = true;
        ranks[rank] = (struct uz_tp_affine_rank){0};
        UZ_TRY(read_rank(r, dict->pairs[i].value, (uint32_t)rank, &ranks[rank], err));
    }
    r->affine->n_ranks = dict->n;
    r->affine->ranks = ranks;
    return UZ_OK;
}

static int read_param(struct uz_tp_rules *rules, const struct uz_pair *pair, struct uz_error *err)
{
    struct reader r = {.rules = rules, .pattern = &pair->key->u.text};
    size_t n;
    UZ_TRY(uz_tp_patterns_add(&rules->patterns[UZ_TP_CAT_AFFINE], rules->arena, r.pattern->data,
                              r.pattern->nbytes, rules->n_affines, err));
    UZ_TRY(UZ_APPEND(rules->affines, rules->n_affines, rules->cap_affines, &r.affine, err));
    UZ_TRY(uz_tp_numbers(rules, uz_node_get(pair->value, "logical_shape"), "logical_shape",
                         &r.affine->shape, &n, err));
    if (n > UZ_MAX_BLOCK_DIMS)
        return bad(&r, "it has too many dimensions", err);
    r.affine->ndim = (unsigned)n;
    return read_ranks(&r, pair->value, err);
}

int uz_tp_affine_read(struct uz_tp_rules *rules, const struct uz_node *map, struct uz_error *err)
{
    const struct uz_node *version_node = uz_node_get(map, "version");
    const struct uz_dict *params = uz_node_dict(uz_node_get(map, "params"));
    int64_t version = NEWEST_VERSION;
    if (!map || uz_node_is_none(map))
        return UZ_OK;
    if (version_node && !uz_node_int(version_node, &version))
        return uz_fail(err, UZ_CORRUPT, "affine_map has no proper version");
    if (version > NEWEST_VERSION)
        return uz_fail(err, UZ_UNSUPPORTED,
                       "affine_map is of format version %lld, the newest that is known is %d",
                       (long long)version, NEWEST_VERSION);
    for (size_t i = 0; params && i < params->n; i++) {
        if (params->pairs[i].key->kind != UZ_NODE_STR)
            return uz_fail(err, UZ_CORRUPT, "affine_map has a key that is no pattern");
        UZ_TRY(read_param(rules, &params->pairs[i], err));
    }
    return UZ_OK;
}
