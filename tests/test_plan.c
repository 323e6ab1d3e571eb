/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of plans: chunks and stream jobs write each byte of the output once, from the right place.
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "out/safetensors.h"
#include "plan/plan.h"
#include "random_model.h"
#include "random_out.h"

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
                          enum uz_dtype to, bool swap, const unsigned char *src)
{
    unsigned char bytes[8];
    const struct uz_target *t = target_at(out, file, at);
    if (!t || t->dtype != to || m.model.tensors[t->tensor].dtype != from ||
        (at - t->offset) % uz_dtype_size(to) != 0)
        return false;
    uint64_t element = t->lo + (at - t->offset) / uz_dtype_size(to);
    size_t size = uz_dtype_size(from);
    memcpy(bytes, src, size);
    if (swap)
        rm_swap(bytes, size, size);
    return !memcmp(bytes, m.truth[t->tensor] + element * size, size);
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
                                      copy->swap, m.files[copy->file] + src);
            for (size_t b = 0; b < to; b++)
                marks[chunk->offset + dst + b]++;
        }
    return n_wrong;
}

/* Parts say which bytes of which target the spans hold, where someone wants to know. */
static uint64_t check_parts(const struct uz_out *out, const struct uz_chunk *chunk,
                            uint64_t n_spanned)
{
    uint64_t n_wrong = 0, n_bytes = 0, end = 0;
    for (size_t i = 0; i < chunk->n_parts; i++) {
        const struct uz_target_part *part = &chunk->parts[i];
        n_wrong += part->begin < end || part->end <= part->begin ||
                   target_at(out, chunk->file, chunk->offset + part->begin) !=
                       &out->targets[part->target] ||
                   target_at(out, chunk->file, chunk->offset + part->end - 1) !=
                       &out->targets[part->target] ||
                   out->targets[part->target].offset + part->first != chunk->offset + part->begin;
        n_bytes += part->end - part->begin;
        end = part->end;
    }
    return n_wrong + (n_bytes != (out->files[chunk->file].n_crcs > 0 ? n_spanned : 0));
}

/* Copies, spans and parts of a chunk speak of the same bytes. */
static uint64_t mark_chunk(const struct uz_out *out, const struct uz_chunk *chunk,
                           unsigned char *marks)
{
    uint64_t n_wrong = 0, n_copied = 0, n_spanned = 0;
    for (size_t i = 0; i < chunk->copies.n; i++) {
        const struct uz_copy *copy = &chunk->copies.items[i];
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
    return n_wrong + (n_copied != n_spanned) + check_parts(out, chunk, n_spanned);
}

/* Marks what a stream piece writes; the number of faults. */
static uint64_t mark_piece(const struct uz_plan *plan, const struct uz_stream_piece *piece,
                           unsigned char **marks)
{
    const struct uz_target *target = &plan->out->targets[piece->target];
    enum uz_dtype dtype = m.model.tensors[target->tensor].dtype;
    size_t from = uz_dtype_size(dtype), to = uz_dtype_size(target->dtype);
    const struct uz_place *place = &m.model.places[piece->place];
    const unsigned char *src =
        (place->packing ? rm_packed_bytes(&m, place) : m.files[place->file] + place->offset) +
        piece->src;
    uint64_t n_wrong = piece->n_elems == 0 || piece->src % from != 0;
    if (piece->src + piece->n_elems * from > place->nbytes)
        return 1;
    for (uint64_t e = 0; e < piece->n_elems; e++) {
        uint64_t at = target->offset + piece->dst + e * to;
        n_wrong += target_at(plan->out, piece->file, at) != target ||
                   !right_element(plan->out, piece->file, at, dtype, target->dtype,
                                  place->big_endian, src + e * from);
        for (size_t b = 0; b < to; b++)
            marks[piece->file][at + b]++;
    }
    return n_wrong;
}

/* A pass is over one entry, or one file that is compressed whole. */
static bool same_pass(const struct uz_place *a, const struct uz_place *b)
{
    return a->file == b->file && a->packing == b->packing &&
           (a->packing == UZ_PACKED_DEFLATE ? a->entry == b->entry
            : a->packing == UZ_PACKED_ZSTD  ? true
                                            : a == b);
}

/* Jobs hold all storages, storages all pieces, each once and in order. */
static uint64_t mark_streams(const struct uz_plan *plan, unsigned char **marks)
{
    uint64_t n_wrong = 0;
    size_t next_storage = 0, next = 0;
    for (size_t i = 0; i < plan->n_stream_jobs; i++) {
        const struct uz_stream_job *job = &plan->stream_jobs[i];
        const struct uz_place *job_place = &m.model.places[job->place];
        n_wrong += job->first != next_storage || job->n == 0 ||
                   (job->n > 1 && job_place->packing != UZ_PACKED_ZSTD);
        next_storage += job->n;
        for (size_t k = 0; k < i; k++)
            n_wrong += same_pass(job_place, &m.model.places[plan->stream_jobs[k].place]);
        for (size_t k = job->first; k < next_storage; k++) {
            const struct uz_stream_storage *storage = &plan->stream_storages[k];
            n_wrong += storage->first != next || storage->n == 0 ||
                       (k > job->first && storage->entry <= plan->stream_storages[k - 1].entry);
            next += storage->n;
            for (size_t p = storage->first; p < next; p++) {
                const struct uz_stream_piece *piece = &plan->stream_pieces[p];
                const struct uz_place *place = &m.model.places[piece->place];
                n_wrong += !same_pass(place, job_place) || place->entry != storage->entry ||
                           (p > storage->first && piece->src < plan->stream_pieces[p - 1].src);
                n_wrong += mark_piece(plan, piece, marks);
            }
        }
    }
    return n_wrong + (next != plan->n_stream_pieces) + (next_storage != plan->n_stream_storages);
}

enum { PAGE_NBYTES = 4096 }; /* where chunks begin, but for a file's first */

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
        n_wrong += !first && chunk_nbytes % PAGE_NBYTES == 0 && chunk.offset % PAGE_NBYTES >= 8;
        n_wrong += mark_chunk(out, &chunk, marks[chunk.file]);
    }
    n_wrong += mark_streams(&plan, marks);
    for (size_t i = 0; i < out->n_files; i++) {
        for (uint64_t b = 0; b < out->files[i].nbytes; b++) {
            bool data = target_at(out, (uint32_t)i, b) != NULL;
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

static void check_random(unsigned flags)
{
    static const uint64_t chunks[] = {64, 128, 4096, 1 << 20};
    for (unsigned i = 0; i < 20; i++) {
        struct uz_items items;
        struct uz_out out;
        const struct uz_files_options options = {
            .max_shard_bytes = rng_one_in(3) ? 0 : rng_range(1, 10000), .max_header_bytes = 100000};
        rm_make(&m, flags);
        rm_must(!uz_items_select(
                    &items, &m.model,
                    &(const struct uz_items_options){.policy = (enum uz_dtype_policy)rng_below(4)},
                    NULL, NULL),
                "items");
        if (i % 2)
            rm_must(!uz_safetensors_layout(&out, &items, &m.model, &options, NULL), "layout");
        else
            ro_make(&out, &items, &m.model);
        check_plan(&out, chunks[i % 4]);
        check_plan(&out, 64 * rng_range(1, 300));
        uz_out_free(&out);
        uz_items_free(&items);
        rm_free(&m);
    }
}

static void test_plain(void)
{
    check_random(0);
}

static void test_strided(void)
{
    check_random(RM_STRIDED | RM_SWAPPED);
}

static void test_deflated(void)
{
    check_random(RM_STRIDED | RM_DEFLATED);
}

static void test_zstd(void)
{
    check_random(RM_STRIDED | RM_SWAPPED | RM_DEFLATED | RM_ZSTD);
}

/* ---- What cannot be planned ---- */

/* The status of planning one tensor of n x n fp32 elements that a piece describes. */
static int plan_one(uint64_t n, uint64_t src, bool transposed, enum uz_packing packing,
                    struct uz_error *err)
{
    struct uz_limits limits;
    struct uz_model model;
    struct uz_plan plan = {0};
    const uint64_t shape[] = {n, n}, dst_stride[] = {n, 1}, src_stride[] = {1, n};
    const struct uz_shard_map map = {
        .ndim = 2, .shape = shape, .dst_stride = dst_stride, .src_stride = src_stride};
    const struct uz_place place = {.nbytes = 4 * (n * n + 5), .packing = packing};
    struct uz_target target = {.dtype = UZ_DTYPE_F32, .n_elems = n * n};
    struct uz_out_file file = {.nbytes = 4 * n * n, .n_targets = 1, .n_tensors = 1};
    const struct uz_out out = {
        .files = &file, .n_files = 1, .targets = &target, .n_targets = 1, .data_nbytes = 4 * n * n};
    struct uz_piece piece = {.n_elems = n * n, .src = src, .map = transposed ? &map : NULL};
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
    if (rc == UZ_OK)
        CHECK_EQ_U64(plan.n_stream_pieces, !packing ? 0 : transposed ? n * n : 1);
    uz_plan_free(&plan);
    uz_model_free(&model);
    return rc;
}

static void test_refusals(void)
{
    struct uz_error err;
    CHECK_EQ_I64(plan_one(4, 5, false, UZ_PACKED_STORED, &err), UZ_OK);
    CHECK_EQ_I64(plan_one(4, 6, false, UZ_PACKED_STORED, &err), UZ_CORRUPT);
    CHECK_EQ_STR(err.file, "f.pt");
    CHECK_EQ_I64(plan_one(4, UINT64_MAX - 3, false, UZ_PACKED_STORED, &err), UZ_CORRUPT);
    CHECK_EQ_I64(plan_one(4, 0, true, UZ_PACKED_STORED, &err), UZ_OK);
    for (int packing = UZ_PACKED_DEFLATE; packing <= UZ_PACKED_ZSTD; packing++) {
        enum uz_packing how = (enum uz_packing)packing;
        CHECK_EQ_I64(plan_one(4, 6, false, how, &err), UZ_CORRUPT);
        CHECK_EQ_I64(plan_one(4, 5, false, how, &err), UZ_OK);
        CHECK_EQ_I64(plan_one(4, 5, true, how, &err), UZ_OK);
        CHECK_EQ_I64(plan_one(4, 6, true, how, &err), UZ_CORRUPT);
        CHECK_EQ_STR(err.file, "f.pt");
        /* 2^20 rows, and a few more */
        CHECK_EQ_I64(plan_one(1024, 0, true, how, &err), UZ_OK);
        CHECK_EQ_I64(plan_one(1025, 0, true, how, &err), UZ_UNSUPPORTED);
        CHECK(strstr(err.message, "decompress") != NULL);
        CHECK_EQ_STR(err.file, "f.pt");
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"plans of plain pieces", test_plain},
        {"plans of strided pieces", test_strided},
        {"plans with compressed storages", test_deflated},
        {"plans with files compressed whole", test_zstd},
        {"what cannot be planned", test_refusals},
        CU_TEST_INFO_NULL,
    };
    rng_init();
    scratch_make();
    return check_run("plan", tests);
}
