/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the arithmetic of layouts against plain loops over elements. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "layout/linkage.h"
#include "layout/model.h"
#include "layout/shape_text.h"
#include "layout/split.h"
#include "layout/tile.h"
#include "random_pieces.h"

/* ---- Fragments, splits, orders ---- */

/* The fragment by looking at every element of the parameter. */
static bool plain_fragment(uint64_t offset, uint64_t numel, uint64_t start, uint64_t size,
                           struct uz_hp_fragment *want)
{
    uint64_t n = 0;
    for (uint64_t e = 0; e < numel; e++) {
        uint64_t place = offset + e;
        if (place < start || place >= start + size)
            continue;
        if (n++ == 0) {
            want->lp.start = e;
            want->hp.start = place - start;
        }
    }
    want->lp.numel = want->hp.numel = n;
    return n > 0;
}

static void check_fragment(uint64_t offset, uint64_t numel, uint64_t start, uint64_t size)
{
    struct uz_hp_fragment got = {{0, 0}, {0, 0}}, want = {{0, 0}, {0, 0}};
    bool found = uz_hp_fragment(offset, numel, start, size, &got);
    bool wanted = plain_fragment(offset, numel, start, size, &want);
    bool same = found == wanted && (!wanted || memcmp(&got, &want, sizeof got) == 0);
    CHECK_F(same, "parameter %llu + %llu, partition %llu + %llu: found %d, want %d",
            (unsigned long long)offset, (unsigned long long)numel, (unsigned long long)start,
            (unsigned long long)size, found, wanted);
}

static void test_fragments(void)
{
    for (uint64_t offset = 0; offset < 6; offset++)
        for (uint64_t numel = 0; numel < 5; numel++)
            for (uint64_t start = 0; start < 8; start++)
                for (uint64_t size = 0; size < 5; size++)
                    check_fragment(offset, numel, start, size);
    for (unsigned i = 0; i < 5000; i++)
        check_fragment(rng_below(300), rng_below(200), rng_below(300), rng_below(200));
}

/* The fragments of all partitions are the parameter, in order. */
static void test_fragments_of_a_group(void)
{
    for (unsigned i = 0; i < 300; i++) {
        uint64_t numels[12], paddings[12], offsets[12], total = 0;
        uint64_t n = rng_range(1, 12), world = rng_range(1, 9);
        for (uint64_t k = 0; k < n; k++) {
            numels[k] = rng_one_in(4) ? rng_below(3) : rng_below(90);
            paddings[k] = rng_one_in(2) ? 0 : rng_below(20);
        }
        bool padded = rng_one_in(2);
        CHECK_EQ_I64(
            uz_flat_group_offsets(n, numels, padded ? paddings : NULL, offsets, &total, NULL),
            UZ_OK);
        uint64_t sum = 0, part = (total + world - 1) / world;
        for (uint64_t k = 0; k < n; k++) {
            uint64_t done = 0;
            CHECK_EQ_U64(offsets[k], sum);
            sum += numels[k] + (padded ? paddings[k] : 0);
            for (uint64_t rank = 0; rank < world; rank++) {
                struct uz_hp_fragment f;
                if (!uz_hp_fragment(offsets[k], numels[k], rank * part, part, &f))
                    continue;
                CHECK_EQ_U64(f.lp.start, done);
                CHECK_EQ_U64(rank * part + f.hp.start, offsets[k] + done);
                done += f.lp.numel;
            }
            CHECK_EQ_U64(done, numels[k]);
        }
        CHECK_EQ_U64(total, sum);
    }
}

static void test_offsets_overflow(void)
{
    struct uz_error err;
    uint64_t offsets[3], total = 77;
    const uint64_t just[] = {INT64_MAX - 1, 1}, over[] = {INT64_MAX, 1};
    const uint64_t wraps[] = {UINT64_MAX, 2, 1}, small[] = {1, 1}, paddings[] = {1, UINT64_MAX};
    CHECK_EQ_I64(uz_flat_group_offsets(2, just, NULL, offsets, &total, &err), UZ_OK);
    CHECK_EQ_U64(total, INT64_MAX);
    CHECK_EQ_I64(uz_flat_group_offsets(2, over, NULL, offsets, &total, &err), UZ_CORRUPT);
    CHECK_EQ_I64(uz_flat_group_offsets(3, wraps, NULL, offsets, &total, &err), UZ_CORRUPT);
    CHECK_EQ_I64(uz_flat_group_offsets(2, small, paddings, offsets, &total, &err), UZ_CORRUPT);
    CHECK_EQ_I64(uz_flat_group_offsets(0, NULL, NULL, offsets, &total, &err), UZ_OK);
    CHECK_EQ_U64(total, 0);
}

static void test_partition_padding(void)
{
    for (uint64_t total = 0; total < 40; total++)
        for (uint64_t part = 0; part < 12; part++)
            for (uint64_t rank = 0; rank < 6; rank++) {
                uint64_t want = 0;
                for (uint64_t e = rank * part; e < (rank + 1) * part; e++)
                    want += e >= total;
                CHECK_EQ_U64(uz_partition_padding(total, part, rank), want);
            }
}

/* One element after another goes to the rank that has room. */
static void check_ceil_split(uint64_t numel, uint64_t world)
{
    uint64_t part = 0, next = 0;
    while (part * world < numel)
        part++;
    for (uint64_t rank = 0; rank < world; rank++) {
        uint64_t start = 77, n = 77, want = 0;
        while (want < part && next + want < numel)
            want++;
        uz_ceil_split(numel, world, rank, &start, &n);
        CHECK_F(start == next && n == want, "%llu over %llu, rank %llu: [%llu, +%llu)",
                (unsigned long long)numel, (unsigned long long)world, (unsigned long long)rank,
                (unsigned long long)start, (unsigned long long)n);
        next += want;
    }
    CHECK_EQ_U64(next, numel);
}

static void test_ceil_split(void)
{
    uint64_t start, n;
    for (uint64_t numel = 0; numel < 40; numel++)
        for (uint64_t world = 1; world < 12; world++)
            check_ceil_split(numel, world);
    for (unsigned i = 0; i < 200; i++)
        check_ceil_split(rng_below(3000), rng_range(1, 1100));
    uz_ceil_split((uint64_t)1 << 60, 3, 2, &start, &n); /* no product may wrap */
    CHECK_EQ_U64(start + n, (uint64_t)1 << 60);
    uz_ceil_split(INT64_MAX, UINT32_MAX, UINT32_MAX - 1, &start, &n);
    CHECK_EQ_U64(start + n, INT64_MAX);
}

static void test_round_robin(void)
{
    uint64_t got[64], want[64];
    for (uint64_t n = 0; n <= 40; n++)
        for (uint64_t dp = 1; dp <= 45; dp++) {
            uint64_t place = 0;
            for (uint64_t bucket = 0; bucket < dp; bucket++)
                for (uint64_t i = 0; i < n; i++)
                    if (i % dp == bucket)
                        want[place++] = i;
            uz_round_robin_order(n, dp, got);
            CHECK_EQ_MEM(got, want, n * sizeof *got);
        }
}

/* ---- Pieces ---- */

/* Storages in memory; what no piece names is marked. */
enum { JUNK = 0xdead };
static uint32_t *storages[RP_MAX_STORAGES];

static uint32_t value_of(uint64_t element)
{
    return (uint32_t)(element * 2654435761u ^ 0x5a5a);
}

static void fill_storages(const struct rp_tensor *t)
{
    for (size_t i = 0; i < t->n_storages; i++) {
        storages[i] = malloc(t->storage_numel[i] * sizeof **storages);
        if (!storages[i])
            abort();
        for (uint64_t k = 0; k < t->storage_numel[i]; k++)
            storages[i][k] = JUNK;
    }
    for (size_t i = 0; i < t->n_pieces; i++)
        for (uint64_t k = 0; k < t->pieces[i].n_elems; k++)
            storages[t->pieces[i].storage][rp_src(&t->pieces[i], k)] =
                value_of(rp_dst(&t->pieces[i], k));
}

static void free_storages(const struct rp_tensor *t)
{
    for (size_t i = 0; i < t->n_storages; i++)
        free(storages[i]);
}

/* Runs cut to a window: ascending, inside, and just the elements that the piece has there. */
static void check_runs(const struct uz_piece *piece, uint64_t lo, uint64_t hi)
{
    struct uz_runs runs;
    struct uz_run run;
    uint64_t k = 0, n_wrong = 0;
    uz_runs_begin(&runs, piece, lo, hi);
    while (k < piece->n_elems && rp_dst(piece, k) < lo)
        k++;
    while (uz_runs_next(&runs, &run)) {
        n_wrong += run.n_elems == 0;
        for (uint64_t e = 0; e < run.n_elems; e++, k++)
            n_wrong += k >= piece->n_elems || run.dst + e >= hi ||
                       rp_dst(piece, k) != run.dst + e || rp_src(piece, k) != run.src + e;
    }
    CHECK_EQ_U64(n_wrong, 0);
    CHECK_F(k >= piece->n_elems || rp_dst(piece, k) >= hi, "runs end too early");
}

/* Copies tiles as an engine does and compares the region with the truth. */
static void check_region(const struct rp_tensor *t, uint64_t lo, uint64_t hi, uint64_t dst_first,
                         struct uz_tiles *tiles)
{
    uint64_t n_wrong = 0, n_copied = 0;
    tiles->n = 0;
    CHECK_EQ_I64(uz_compose(t->pieces, t->n_pieces, lo, hi, dst_first, 7, tiles, NULL), UZ_OK);
    for (size_t i = 0; i < tiles->n; i++) {
        const struct uz_tile *tile = &tiles->items[i];
        n_wrong += tile->tag != 7 || tile->n_elems == 0 || tile->n_rows == 0;
        for (uint64_t row = 0; row < tile->n_rows; row++)
            for (uint64_t e = 0; e < tile->n_elems; e++, n_copied++) {
                uint64_t src = tile->src + row * tile->src_stride + e;
                uint64_t dst = tile->dst + row * tile->dst_stride + e;
                bool inside = tile->storage < t->n_storages &&
                              src < t->storage_numel[tile->storage] && dst >= dst_first &&
                              dst < dst_first + (hi - lo);
                n_wrong +=
                    !inside || storages[tile->storage][src] != value_of(lo + (dst - dst_first));
            }
    }
    /* each right, and as many as the region has: since no element is copied twice, all */
    CHECK_EQ_U64(n_wrong, 0);
    CHECK_EQ_U64(n_copied, hi - lo);
}

static void check_tensor(const struct rp_tensor *t)
{
    struct uz_tiles tiles = {0};
    uint64_t n_wrong = 0;
    CHECK_EQ_I64(uz_pieces_cover(t->pieces, t->n_pieces, t->numel, "t", NULL), UZ_OK);
    fill_storages(t);
    check_region(t, 0, t->numel, 0, &tiles);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t lo = rng_range(0, t->numel), hi = rng_range(lo, t->numel);
        if (i < 4 && hi - lo > 9)
            hi = lo + rng_below(9);
        check_region(t, lo, hi, rng_below(100), &tiles);
        if (t->n_pieces > 0)
            check_runs(&t->pieces[rng_below(t->n_pieces)], lo, hi);
    }
    for (size_t i = 0; i < t->n_pieces; i++) {
        uint64_t first = UINT64_MAX, end = 0, got_first, got_end;
        for (uint64_t k = 0; k < t->pieces[i].n_elems; k++) {
            uint64_t dst = rp_dst(&t->pieces[i], k);
            first = dst < first ? dst : first;
            end = dst + 1 > end ? dst + 1 : end;
        }
        uz_piece_span(&t->pieces[i], &got_first, &got_end);
        n_wrong += got_first != first || got_end != end;
    }
    CHECK_EQ_U64(n_wrong, 0);
    free_storages(t);
    uz_tiles_free(&tiles);
}

static void check_many(unsigned n, unsigned flags)
{
    static struct rp_tensor t;
    for (unsigned i = 0; i < n; i++) {
        rp_make(&t, flags);
        check_tensor(&t);
    }
}

static void test_plain_partitions(void)
{
    check_many(300, RP_PLAIN | RP_EMPTY);
}

static void test_sub_boxes(void)
{
    check_many(600, RP_EMPTY);
}

static void test_strided_storages(void)
{
    check_many(600, RP_PLAIN | RP_STRIDED | RP_EMPTY);
}

/* A whole row-major run of rows at one stride must become one tile, or plans grow with bytes. */
static void test_one_tile_for_a_column(void)
{
    const uint64_t shape[] = {100, 3}, dst[] = {10, 1}, src[] = {3, 1};
    const struct uz_shard_map map = {
        .ndim = 2, .dst_first = 4, .shape = shape, .dst_stride = dst, .src_stride = src};
    const struct uz_piece piece = {.storage = 5, .n_elems = 300, .src = 11, .map = &map};
    struct uz_tiles tiles = {0};
    CHECK_EQ_I64(uz_compose(&piece, 1, 0, 1000, 0, 0, &tiles, NULL), UZ_OK);
    if (CHECK_EQ_U64(tiles.n, 1)) {
        const struct uz_tile *tile = tiles.items;
        CHECK(tile->storage == 5 && tile->src == 11 && tile->dst == 4 && tile->n_elems == 3 &&
              tile->n_rows == 100 && tile->src_stride == 3 && tile->dst_stride == 10);
    }
    uz_tiles_free(&tiles);
}

/* Pieces with and without a map may stand side by side. */
static void test_mixed_pieces(void)
{
    const uint64_t shape[] = {4, 2}, dst[] = {4, 1}, src[] = {2, 1};
    const struct uz_shard_map left = {
        .ndim = 2, .shape = shape, .dst_stride = dst, .src_stride = src};
    struct uz_shard_map right = left;
    struct rp_tensor t = {.numel = 19, .n_storages = 5, .n_pieces = 5};
    right.dst_first = 3;
    for (unsigned i = 0; i < 5; i++) {
        t.storage_numel[i] = 8;
        t.pieces[i].storage = i;
    }
    t.pieces[0].n_elems = 1;
    t.pieces[1] = (struct uz_piece){.storage = 1, .n_elems = 8, .map = &right};
    right.dst_first = 1;
    t.pieces[2] = (struct uz_piece){.storage = 2, .lo = 3, .n_elems = 2};
    t.pieces[3] = (struct uz_piece){.storage = 3, .lo = 7, .n_elems = 2};
    t.pieces[4] = (struct uz_piece){.storage = 4, .lo = 11, .n_elems = 2};
    /* rows at 1, 5, 9 and 13 by the map; 3-4, 7-8, 11-12 between them; then up to 15 */
    t.numel = 15;
    check_tensor(&t);
}

/* ---- Gaps and overlaps ---- */

/* How often each element is held, and what the message must then say. */
static void plain_cover(const struct rp_tensor *t, uint64_t numel, char *want, size_t size)
{
    uint64_t span = t->numel > numel ? t->numel : numel;
    unsigned *counts = calloc(span + 1, sizeof *counts);
    uint64_t last = 0;
    if (!counts)
        abort();
    for (size_t i = 0; i < t->n_pieces; i++)
        for (uint64_t k = 0; k < t->pieces[i].n_elems; k++) {
            uint64_t dst = rp_dst(&t->pieces[i], k);
            counts[dst]++;
            last = dst + 1 > last ? dst + 1 : last;
        }
    want[0] = '\0';
    for (uint64_t e = 0; e < last && !want[0]; e++)
        if (counts[e] == 0)
            (void)snprintf(want, size, "t: no shard holds its elements %" PRIu64 " to ", e);
        else if (counts[e] > 1)
            (void)snprintf(want, size, "t: two shards hold its element %" PRIu64, e);
    if (!want[0] && last != numel)
        (void)snprintf(want, size, "t: the shards hold %" PRIu64 " of its elements", last);
    free(counts);
}

/* Breaks the cover in one way. */
static void break_cover(struct rp_tensor *t, uint64_t *numel)
{
    size_t i = rng_below(t->n_pieces);
    switch (rng_below(5)) {
    case 0:
        t->pieces[i] = t->pieces[--t->n_pieces];
        break;
    case 1:
        t->pieces[t->n_pieces++] = t->pieces[i];
        break;
    case 2:
        t->pieces[i].n_elems -= t->pieces[i].n_elems > 1;
        break;
    case 3: /* begins a little later */
        t->pieces[i].lo += t->pieces[i].n_elems > 1;
        t->pieces[i].n_elems -= t->pieces[i].n_elems > 1;
        break;
    default:
        *numel += rng_range(1, 3);
    }
    qsort(t->pieces, t->n_pieces, sizeof *t->pieces, rp_by_begin);
}

static void test_gaps_and_overlaps(void)
{
    static struct rp_tensor t;
    unsigned n_broken = 0;
    for (unsigned i = 0; i < 1500; i++) {
        char want[128];
        struct uz_error err;
        rp_make(&t, i % 3 ? RP_PLAIN | RP_STRIDED : RP_PLAIN);
        uint64_t numel = t.numel;
        if (t.n_pieces == RP_MAX_PIECES)
            continue;
        break_cover(&t, &numel);
        plain_cover(&t, numel, want, sizeof want);
        uz_error_clear(&err);
        int rc = uz_pieces_cover(t.pieces, t.n_pieces, numel, "t", &err);
        CHECK_EQ_I64(rc, want[0] ? UZ_MISMATCH : UZ_OK);
        CHECK_F(!strncmp(err.message, want, strlen(want)), "got `%s`, want `%s`", err.message,
                want);
        n_broken += want[0] != '\0';
    }
    CHECK_F(n_broken > 1000, "only %u covers were broken", n_broken);
}

/* ---- Models ---- */

static bool add_named(struct uz_model *model, const char *name, uint64_t numel, uint32_t *index)
{
    return uz_model_add_tensor(model, name, strlen(name), UZ_ROLE_PARAM, UZ_DTYPE_F32, 1, &numel,
                               index, NULL) == UZ_OK;
}

static void test_model_order(void)
{
    struct uz_model model;
    struct uz_limits limits;
    uint32_t index[4], found = 77;
    const uint64_t rank[] = {7, 3, 7, 1};
    const char *const names[] = {"a", "b", "c", "d"}, *const want[] = {"d", "b", "a", "c"};
    uz_limits_default(&limits);
    CHECK_EQ_I64(uz_model_init(&model, &limits, NULL), UZ_OK);
    for (uint32_t i = 0; i < 4; i++)
        CHECK(add_named(&model, names[i], i + 1, &index[i]));
    for (uint32_t i = 4; i-- > 0;) { /* each in two pieces, added backwards */
        struct uz_piece piece = {.tensor = index[i], .lo = 1, .n_elems = i, .src = 50 + i};
        CHECK_EQ_I64(uz_model_add_piece(&model, &piece, NULL), UZ_OK);
        piece = (struct uz_piece){.tensor = index[i], .n_elems = 1, .src = i};
        CHECK_EQ_I64(uz_model_add_piece(&model, &piece, NULL), UZ_OK);
    }
    CHECK_EQ_I64(uz_model_add_alias(&model, "tied", 4, index[2], 0, NULL), UZ_OK);
    for (uint32_t i = 0; i < 4; i++)
        model.tensors[index[i]].order = rank[i];
    CHECK_EQ_I64(uz_model_finish(&model, NULL), UZ_OK);
    for (uint32_t i = 0; i < 4; i++) {
        const struct uz_tensor *tensor = &model.tensors[i];
        const struct uz_piece *piece = &model.pieces[tensor->first_piece];
        CHECK_EQ_STR(tensor->name, want[i]);
        CHECK(uz_model_find(&model, want[i], 1, &found) && found == i);
        CHECK_EQ_U64(tensor->n_pieces, tensor->numel > 1 ? 2 : 1);
        CHECK_EQ_U64(piece->tensor, i);
        CHECK_EQ_U64(piece->src, tensor->numel - 1);
    }
    CHECK_EQ_STR(model.tensors[model.aliases[0].tensor].name, "c");
    CHECK(!uz_model_find(&model, "tied", 4, &found));
    uz_model_free(&model);
}

static void test_model_names(void)
{
    struct uz_model model;
    struct uz_limits limits;
    struct uz_error err;
    uint32_t index;
    const uint64_t shape = 1;
    uz_limits_default(&limits);
    limits.max_name_bytes = 8;
    limits.max_tensors = 3;
    CHECK_EQ_I64(uz_model_init(&model, &limits, NULL), UZ_OK);
    CHECK(add_named(&model, "12345678", 1, &index));
    CHECK(add_named(&model, "\xc3\xa4/..", 1, &index));
    const struct {
        const char *name;
        size_t nbytes;
        int want;
    } cases[] = {{"12345678", 8, UZ_CORRUPT},
                 {"123456789", 9, UZ_LIMIT},
                 {"a\0b", 3, UZ_CORRUPT},
                 {"a\xff", 2, UZ_CORRUPT},
                 {"\xc0\x80", 2, UZ_CORRUPT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        CHECK_EQ_I64(uz_model_add_tensor(&model, cases[i].name, cases[i].nbytes, UZ_ROLE_PARAM,
                                         UZ_DTYPE_F32, 1, &shape, &index, &err),
                     cases[i].want);
    CHECK_EQ_I64(uz_model_add_alias(&model, "123456789", 9, 0, 0, &err), UZ_LIMIT);
    CHECK(add_named(&model, "", 0, &index));
    CHECK_EQ_I64(
        uz_model_add_tensor(&model, "x", 1, UZ_ROLE_PARAM, UZ_DTYPE_F32, 1, &shape, &index, &err),
        UZ_LIMIT);
    CHECK_EQ_I64(uz_model_finish(&model, &err), UZ_MISMATCH); /* no pieces */
    uz_model_free(&model);
}

static void test_shapes(void)
{
    char text[64], cut[6];
    uint64_t numel = 77;
    const uint64_t big[] = {(uint64_t)1 << 40, (uint64_t)1 << 40}, edge[] = {(uint64_t)1 << 60};
    const uint64_t less[] = {((uint64_t)1 << 60) - 1}, none[] = {(uint64_t)1 << 63, 0, 3};
    const uint64_t some[] = {67, 24};
    CHECK_EQ_I64(uz_shape_numel(0, NULL, &numel, NULL), UZ_OK);
    CHECK_EQ_U64(numel, 1);
    CHECK_EQ_I64(uz_shape_numel(2, big, &numel, NULL), UZ_CORRUPT);
    CHECK_EQ_I64(uz_shape_numel(1, edge, &numel, NULL), UZ_CORRUPT);
    CHECK_EQ_I64(uz_shape_numel(1, less, &numel, NULL), UZ_OK);
    CHECK_EQ_U64(numel, less[0]);
    CHECK_EQ_I64(uz_shape_numel(3, none, &numel, NULL), UZ_OK);
    CHECK_EQ_U64(numel, 0);
    CHECK_EQ_STR(uz_shape_text(text, sizeof text, 2, some, 1608), "[67, 24] (1608 elements)");
    CHECK_EQ_STR(uz_shape_text(text, sizeof text, 0, NULL, 1), "[] (1 elements)");
    CHECK_EQ_STR(uz_shape_text(cut, sizeof cut, 2, some, 1608), "[67, ");
}

/* The two ways to book padding, from files of DeepSpeed 0.14.5, 0.16.3 and 0.19.8. */
static void test_partition_books(void)
{
    static const struct {
        uint64_t total, world, rank;
        struct uz_partition_books each, last;
    } rows[] = {
        {9, 4, 0, {4, 0}, {4, 0}},     {9, 4, 1, {4, 0}, {4, 0}},  {9, 4, 2, {1, 3}, {4, 0}},
        {9, 4, 3, {0, 4}, {1, 7}},     {1, 3, 0, {1, 1}, {2, 0}},  {1, 3, 1, {0, 2}, {2, 0}},
        {1, 3, 2, {0, 2}, {0, 5}},     {17, 4, 2, {5, 1}, {6, 0}}, {17, 4, 3, {0, 6}, {5, 7}},
        {278, 3, 2, {90, 4}, {90, 4}}, {5, 1, 0, {5, 1}, {5, 1}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t size = uz_partition_size(rows[i].total, rows[i].world);
        struct uz_partition_books each = uz_books_of_each_rank(rows[i].total, size, rows[i].rank);
        struct uz_partition_books last =
            uz_books_of_last_rank(rows[i].total, size, rows[i].world, rows[i].rank);
        CHECK_EQ_U64(each.numel, rows[i].each.numel);
        CHECK_EQ_U64(each.padding, rows[i].each.padding);
        CHECK_EQ_U64(last.numel, rows[i].last.numel);
        CHECK_EQ_U64(last.padding, rows[i].last.padding);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"partition books", test_partition_books},
        {"fragments against a loop over elements", test_fragments},
        {"fragments of a whole group", test_fragments_of_a_group},
        {"offsets that overflow", test_offsets_overflow},
        {"partition padding", test_partition_padding},
        {"ceil splits", test_ceil_split},
        {"round robin", test_round_robin},
        {"plain partitions", test_plain_partitions},
        {"partitions of sub-boxes", test_sub_boxes},
        {"strided storages", test_strided_storages},
        {"rows at one stride are one tile", test_one_tile_for_a_column},
        {"mapped and plain pieces together", test_mixed_pieces},
        {"gaps and overlaps", test_gaps_and_overlaps},
        {"order of a model", test_model_order},
        {"names of a model", test_model_names},
        {"shapes", test_shapes},
        CU_TEST_INFO_NULL,
    };
    rng_init();
    return check_run("layout", tests);
}
