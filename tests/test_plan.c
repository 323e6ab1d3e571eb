/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of plans: chunks and streams write each byte of the output once, from the right place. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "out/safetensors.h"
#include "plan/plan.h"
#include "random_model.h"

static struct random_model m;

/* The target that byte `at` of output file `file` belongs to. */
static const struct uz_target *target_at(const struct uz_out *out, uint32_t file, uint64_t at)
{
    const struct uz_out_file *f = &out->files[file];
    for (size_t i = f->first_target; i < f->first_target + f->n_targets; i++) {
        const struct uz_target *t = &out->targets[i];
        if (at >= t->offset && at < t->offset + t->n_elems * uz_dtype_size(t->dtype))
            return t;
    }
    return NULL;
}

/* Is the element that comes from `src` of a source file the one that belongs to byte `at`? */
static bool right_element(const struct uz_out *out, uint32_t file, uint64_t at, enum uz_dtype from,
                          enum uz_dtype to, const unsigned char *src)
{
    const struct uz_target *t = target_at(out, file, at);
    if (!t || t->dtype != to || m.model.tensors[t->tensor].dtype != from ||
        (at - t->offset) % uz_dtype_size(to) != 0)
        return false;
    uint64_t element = t->lo + (at - t->offset) / uz_dtype_size(to);
    size_t size = uz_dtype_size(from);
    return !src || !memcmp(src, m.truth[t->tensor] + element * size, size);
}

/* Marks what a copy writes; the number of faults. */
static uint64_t mark_copy(const struct uz_out *out, const struct uz_chunk *chunk,
                          const struct uz_copy *copy, unsigned char *marks)
{
    size_t from = uz_dtype_size(copy->from), to = uz_dtype_size(copy->to);
    uint64_t n_wrong = copy->n_elems == 0 || copy->n_rows == 0 || copy->file >= RM_FILES;
    for (uint64_t row = 0; row < copy->n_rows && n_wrong == 0; row++)
        for (uint64_t e = 0; e < copy->n_elems; e++) {
            uint64_t src = copy->src + row * copy->src_stride + e * from;
            uint64_t dst = copy->dst + row * copy->dst_stride + e * to;
            if (src + from > m.used[copy->file] || dst + to > chunk->nbytes)
                return 1;
            n_wrong += !right_element(out, chunk->file, chunk->offset + dst, copy->from, copy->to,
                                      m.files[copy->file] + src);
            for (size_t b = 0; b < to; b++)
                marks[chunk->offset + dst + b]++;
        }
    return n_wrong;
}

/* Copies and spans of a chunk speak of the same bytes. */
static uint64_t mark_chunk(const struct uz_out *out, const struct uz_chunk *chunk,
                           unsigned char *marks)
{
    uint64_t n_wrong = 0, n_copied = 0, n_spanned = 0;
    for (size_t i = 0; i < chunk->n_copies; i++) {
        const struct uz_copy *copy = &chunk->copies[i];
        n_wrong += mark_copy(out, chunk, copy, marks);
        n_copied += copy->n_elems * copy->n_rows * uz_dtype_size(copy->to);
    }
    for (size_t i = 0; i < chunk->n_spans; i++) {
        const struct uz_span *span = &chunk->spans[i];
        n_wrong += span->begin >= span->end || span->end > chunk->nbytes ||
                   (i > 0 && span->begin <= chunk->spans[i - 1].end);
        n_spanned += span->end - span->begin;
        for (uint64_t b = span->begin; b < span->end; b++)
            n_wrong += marks[chunk->offset + b] != 1;
    }
    return n_wrong + (n_copied != n_spanned);
}

static uint64_t mark_streams(const struct uz_plan *plan, unsigned char **marks)
{
    uint64_t n_wrong = 0;
    size_t next = 0;
    for (size_t i = 0; i < plan->n_streams; i++) {
        const struct uz_stream *stream = &plan->streams[i];
        n_wrong += stream->first != next || stream->n == 0;
        next = stream->first + stream->n;
        for (size_t k = stream->first; k < next; k++) {
            const struct uz_stream_piece *piece = &plan->stream_pieces[k];
            size_t from = uz_dtype_size(piece->from), to = uz_dtype_size(piece->to);
            const struct uz_place *place = &m.model.places[piece->place];
            n_wrong += piece->place != stream->place || piece->n_elems == 0 ||
                       piece->src + piece->n_elems * from > place->nbytes ||
                       (k > stream->first && piece->src < plan->stream_pieces[k - 1].src);
            for (uint64_t e = 0; e < piece->n_elems; e++) {
                const unsigned char *src = m.files[place->packing ? 0 : place->file] +
                                           place->offset + piece->src + e * from;
                n_wrong += !right_element(plan->out, piece->file, piece->dst + e * to, piece->from,
                                          piece->to, place->packing ? NULL : src);
                for (size_t b = 0; b < to; b++)
                    marks[piece->file][piece->dst + e * to + b]++;
            }
        }
    }
    return n_wrong + (next != plan->n_stream_pieces);
}

static void check_plan(const struct uz_out *out, uint64_t chunk_nbytes)
{
    struct uz_plan plan;
    struct uz_chunk chunk = {0};
    struct uz_error err;
    unsigned char **marks = rm_alloc(out->n_files * sizeof *marks);
    uint64_t n_wrong = 0, n_data = 0;
    if (!CHECK_EQ_I64(uz_plan_build(&plan, &m.model, out, chunk_nbytes, &err), UZ_OK))
        abort();
    for (size_t i = 0; i < out->n_files; i++) {
        marks[i] = calloc(1, out->files[i].nbytes + 1);
        rm_must(marks[i] != NULL, "calloc");
    }
    for (uint64_t i = 0; i < plan.n_chunks; i++) {
        if (!CHECK_EQ_I64(uz_plan_chunk(&plan, i, &chunk, &err), UZ_OK))
            break;
        bool first = i == plan.first_chunk[chunk.file];
        n_wrong += first && chunk.offset != out->files[chunk.file].head_nbytes;
        n_wrong += chunk.nbytes == 0 || chunk.nbytes > chunk_nbytes;
        n_wrong += mark_chunk(out, &chunk, marks[chunk.file]);
    }
    n_wrong += mark_streams(&plan, marks);
    for (size_t i = 0; i < out->n_files; i++) {
        for (uint64_t b = 0; b < out->files[i].nbytes; b++) {
            bool data = out->files[i].n_targets > 0 && b >= out->files[i].head_nbytes;
            n_wrong += marks[i][b] != data;
            n_data += data;
        }
        free(marks[i]);
    }
    CHECK_EQ_U64(n_wrong, 0);
    CHECK_EQ_U64(plan.nbytes, n_data);
    free(marks);
    uz_chunk_free(&chunk);
    uz_plan_free(&plan);
}

static void check_random(bool strided, bool deflated)
{
    static const uint64_t chunks[] = {64, 128, 4096, 1 << 20};
    for (unsigned i = 0; i < 20; i++) {
        struct uz_items items;
        struct uz_out out;
        const struct uz_safetensors_options options = {
            .max_shard_bytes = rng_one_in(3) ? 0 : rng_range(1, 10000), .max_header_bytes = 100000};
        rm_make(&m, strided, deflated);
        rm_must(!uz_items_select(&items, &m.model, (enum uz_dtype_policy)rng_below(4), false, NULL),
                "items");
        rm_must(!uz_safetensors_layout(&out, &items, &m.model, &options, NULL), "layout");
        check_plan(&out, chunks[i % 4]);
        check_plan(&out, 64 * rng_range(1, 300));
        uz_out_free(&out);
        uz_items_free(&items);
        rm_free(&m);
    }
}

static void test_plain(void)
{
    check_random(false, false);
}

static void test_strided(void)
{
    check_random(true, false);
}

static void test_deflated(void)
{
    check_random(true, true);
}

/* ---- What cannot be planned ---- */

/* The status of planning one tensor of 4 x 5 fp32 elements that a piece describes. */
static int plan_one(uint64_t src, const struct uz_shard_map *map, bool deflated,
                    struct uz_error *err)
{
    struct uz_limits limits;
    struct uz_model model;
    struct uz_plan plan = {0};
    const uint64_t shape[] = {4, 5};
    const struct uz_place place = {.nbytes = 100,
                                   .packing = deflated ? UZ_PACKED_DEFLATE : UZ_PACKED_STORED};
    struct uz_target target = {.dtype = UZ_DTYPE_F32, .n_elems = 20};
    struct uz_out_file file = {.nbytes = 80, .n_targets = 1, .n_tensors = 1};
    const struct uz_out out = {
        .files = &file, .n_files = 1, .targets = &target, .n_targets = 1, .data_nbytes = 80};
    struct uz_piece piece = {.n_elems = 20, .src = src, .map = map};
    uint32_t index;
    uz_limits_default(&limits);
    uz_error_clear(err);
    rm_must(!uz_model_init(&model, &limits, NULL), "model");
    rm_must(!uz_model_add_file(&model, "f.pt", &index, NULL), "file");
    rm_must(!uz_model_add_place(&model, &place, &piece.storage, NULL), "place");
    rm_must(!uz_model_add_tensor(&model, "t", 1, UZ_ROLE_PARAM, UZ_DTYPE_F32, 2, shape,
                                 &piece.tensor, NULL),
            "tensor");
    rm_must(!uz_model_add_piece(&model, &piece, NULL), "piece");
    rm_must(!uz_model_finish(&model, NULL), "finish");
    int rc = uz_plan_build(&plan, &model, &out, 64, err);
    uz_plan_free(&plan);
    uz_model_free(&model);
    return rc;
}

static void test_refusals(void)
{
    const uint64_t shape[] = {4, 5}, dst[] = {5, 1}, src[] = {1, 4};
    const struct uz_shard_map map = {
        .ndim = 2, .shape = shape, .dst_stride = dst, .src_stride = src};
    struct uz_error err;
    CHECK_EQ_I64(plan_one(5, NULL, false, &err), UZ_OK);
    CHECK_EQ_I64(plan_one(6, NULL, false, &err), UZ_CORRUPT);
    CHECK_EQ_STR(err.file, "f.pt");
    CHECK_EQ_I64(plan_one(UINT64_MAX - 3, NULL, false, &err), UZ_CORRUPT);
    CHECK_EQ_I64(plan_one(6, NULL, true, &err), UZ_CORRUPT);
    CHECK_EQ_I64(plan_one(5, NULL, true, &err), UZ_OK);
    CHECK_EQ_I64(plan_one(0, &map, false, &err), UZ_OK);
    CHECK_EQ_I64(plan_one(0, &map, true, &err), UZ_UNSUPPORTED);
    CHECK_EQ_STR(err.file, "f.pt");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"plans of plain pieces", test_plain},
        {"plans of strided pieces", test_strided},
        {"plans with compressed storages", test_deflated},
        {"what cannot be planned", test_refusals},
        CU_TEST_INFO_NULL,
    };
    rng_init();
    scratch_make();
    return check_run("plan", tests);
}
