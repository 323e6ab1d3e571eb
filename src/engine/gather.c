/* SPDX-License-Identifier: Apache-2.0 */
/* Gather order: few large reads for each chunk, then one write. */
#include <stdlib.h>

#include "base/file.h"
#include "engine/convert.h"
#include "engine/worker.h"

enum {
    DIRECT_NBYTES = 16 * 1024,  /* a plain copy this large is read straight to its place */
    MAX_GAP_NBYTES = 64 * 1024, /* bytes read for nothing to save a read */
    MAX_READ_FOR_WANTED = 512   /* bytes read for each that is wanted, before single reads pay */
};

/* Bytes from the first to the last that a copy reads. */
static uint64_t src_extent(const struct uz_copy *copy)
{
    return (copy->n_rows - 1) * copy->src_stride + copy->n_elems * uz_dtype_size(copy->from);
}

static int read_source(struct uz_worker *worker, uint32_t file, void *buf, size_t nbytes,
                       uint64_t offset, struct uz_error *err)
{
    const char *path = worker->plan->model->files[file];
    int fd;
    UZ_TRY(uz_fd_cache_get(&worker->sources, file, path, &fd, err));
    return uz_pread_all(fd, buf, nbytes, offset, path, err);
}

/* Puts a copy's rows into the chunk; `base` holds the source file's bytes from src_first on. */
static void place_rows(struct uz_worker *worker, const struct uz_copy *copy,
                       const unsigned char *base, uint64_t src_first)
{
    const unsigned char *src = base + (copy->src - src_first);
    unsigned char *dst = worker->out + copy->dst;
    const struct uz_conversion how = {.from = copy->from, .to = copy->to, .swap = copy->swap};
    for (uint64_t row = 0; row < copy->n_rows; row++)
        worker->n_overflows +=
            uz_convert_elems(worker->ops, how, dst + row * copy->dst_stride,
                             src + row * copy->src_stride, (size_t)copy->n_elems);
}

/* A part of a copy: some rows, or some elements of one row. */
static struct uz_copy part_of(const struct uz_copy *copy, uint64_t row, uint64_t n_rows,
                              uint64_t elem, uint64_t n_elems)
{
    struct uz_copy part = *copy;
    part.src += row * copy->src_stride + elem * uz_dtype_size(copy->from);
    part.dst += row * copy->dst_stride + elem * uz_dtype_size(copy->to);
    part.n_rows = n_rows;
    part.n_elems = n_elems;
    return part;
}

static int read_part(struct uz_worker *worker, const struct uz_copy *part, struct uz_error *err)
{
    UZ_TRY(
        read_source(worker, part->file, worker->scratch, (size_t)src_extent(part), part->src, err));
    place_rows(worker, part, worker->scratch, part->src);
    return UZ_OK;
}

/* A copy that the scratch buffer can't hold at once: as many rows, or elements, as it can. */
static int read_large(struct uz_worker *worker, const struct uz_copy *copy, struct uz_error *err)
{
    uint64_t row_nbytes = copy->n_elems * uz_dtype_size(copy->from);
    uint64_t rows_at_once = 1;
    uint64_t elems_at_once = copy->n_elems;
    if (row_nbytes > worker->buffer_nbytes)
        elems_at_once = worker->buffer_nbytes / uz_dtype_size(copy->from);
    else if (copy->src_stride > 0 && copy->src_stride <= worker->buffer_nbytes - row_nbytes)
        rows_at_once = (worker->buffer_nbytes - row_nbytes) / copy->src_stride + 1;
    for (uint64_t row = 0; row < copy->n_rows; row += rows_at_once) {
        uint64_t n_rows = copy->n_rows - row < rows_at_once ? copy->n_rows - row : rows_at_once;
        for (uint64_t elem = 0; elem < copy->n_elems; elem += elems_at_once) {
            uint64_t left = copy->n_elems - elem;
            struct uz_copy part =
                part_of(copy, row, n_rows, elem, left < elems_at_once ? left : elems_at_once);
            UZ_TRY(read_part(worker, &part, err));
        }
    }
    return UZ_OK;
}

/* Rows of a copy that begin in bytes [begin, end) of the source file, placed from the scratch. */
static void place_rows_between(struct uz_worker *worker, const struct uz_copy *copy, uint64_t begin,
                               uint64_t end)
{
    uint64_t row = copy->src < begin ? (begin - copy->src - 1) / copy->src_stride + 1 : 0;
    uint64_t row_end = copy->src < end ? (end - copy->src - 1) / copy->src_stride + 1 : 0;
    if (row_end > copy->n_rows)
        row_end = copy->n_rows;
    if (row >= row_end)
        return;
    struct uz_copy part = part_of(copy, row, row_end - row, 0, copy->n_elems);
    place_rows(worker, &part, worker->scratch, begin);
}

/*
 * Copies [i, end) of one file whose short rows lie scattered over the same bytes, as the rows of a
 * transposed tensor do: the bytes are read once, block by block, and each block serves them all.
 */
static int read_interleaved(struct uz_worker *worker, size_t i, size_t end, uint64_t last,
                            uint64_t row_nbytes, struct uz_error *err)
{
    const struct uz_copy *copies = worker->chunk.copies;
    for (uint64_t begin = copies[i].src; begin < last;) {
        uint64_t nbytes =
            last - begin < worker->buffer_nbytes ? last - begin : worker->buffer_nbytes;
        uint64_t next = begin + nbytes == last ? last : begin + nbytes - row_nbytes + 1;
        UZ_TRY(read_source(worker, copies[i].file, worker->scratch, (size_t)nbytes, begin, err));
        for (size_t k = i; k < end; k++)
            place_rows_between(worker, &copies[k], begin, next);
        begin = next;
    }
    return UZ_OK;
}

/*
 * Tries that for the copies from i on. *end stays i if it does not pay: when too few of the bytes
 * in between are wanted, rows are read one by one. (A stride beyond INT64_MAX is a step backwards.)
 */
static int try_interleaved(struct uz_worker *worker, size_t i, size_t *end, struct uz_error *err)
{
    const struct uz_copy *copies = worker->chunk.copies;
    uint64_t first = copies[i].src, last = first, wanted = 0, row_nbytes = 0;
    size_t next = i;
    *end = i;
    for (; next < worker->chunk.n_copies; next++) {
        const struct uz_copy *copy = &copies[next];
        uint64_t extent, nbytes = copy->n_elems * uz_dtype_size(copy->from);
        if (copy->file != copies[i].file || copy->n_rows < 2 || copy->src_stride == 0 ||
            copy->src_stride > INT64_MAX || nbytes > worker->buffer_nbytes / 2 ||
            (next > i && copy->src >= last) ||
            __builtin_mul_overflow(copy->n_rows - 1, copy->src_stride, &extent))
            break;
        last = copy->src + extent + nbytes > last ? copy->src + extent + nbytes : last;
        wanted += copy->n_rows * nbytes;
        row_nbytes = nbytes > row_nbytes ? nbytes : row_nbytes;
    }
    if (next == i || (last - first) / MAX_READ_FOR_WANTED > wanted)
        return UZ_OK;
    *end = next;
    return read_interleaved(worker, i, next, last, row_nbytes, err);
}

static bool is_direct(const struct uz_copy *copy)
{
    return copy->from == copy->to && !copy->swap && copy->n_rows == 1 &&
           copy->n_elems * uz_dtype_size(copy->from) >= DIRECT_NBYTES;
}

/* True if strides are such that the bytes between first and last row may be read in one go. */
static bool fits_scratch(const struct uz_worker *worker, const struct uz_copy *copy)
{
    uint64_t extent;
    if (__builtin_mul_overflow(copy->n_rows - 1, copy->src_stride, &extent) ||
        extent > worker->buffer_nbytes)
        return false;
    return src_extent(copy) <= worker->buffer_nbytes;
}

/*
 * Reads copies [i, *end) of one file, whose source bytes lie close together, with one read; *end is
 * set by how many fit.
 */
static int read_together(struct uz_worker *worker, size_t i, size_t *end, struct uz_error *err)
{
    const struct uz_copy *copies = worker->chunk.copies;
    uint64_t first = copies[i].src;
    uint64_t last = first + src_extent(&copies[i]);
    size_t next = i + 1;
    for (; next < worker->chunk.n_copies; next++) {
        const struct uz_copy *copy = &copies[next];
        if (copy->file != copies[i].file || is_direct(copy) || !fits_scratch(worker, copy) ||
            copy->src > last + MAX_GAP_NBYTES)
            break;
        uint64_t copy_end = copy->src + src_extent(copy);
        uint64_t new_last = copy_end > last ? copy_end : last;
        if (new_last - first > worker->buffer_nbytes)
            break;
        last = new_last;
    }
    UZ_TRY(
        read_source(worker, copies[i].file, worker->scratch, (size_t)(last - first), first, err));
    for (size_t k = i; k < next; k++)
        place_rows(worker, &copies[k], worker->scratch, first);
    *end = next;
    return UZ_OK;
}

/* Copies by source: file, then byte. */
static int by_source(const void *a, const void *b)
{
    const struct uz_copy *x = a, *y = b;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return x->src < y->src ? -1 : x->src > y->src;
}

static int read_copies(struct uz_worker *worker, struct uz_error *err)
{
    struct uz_chunk *chunk = &worker->chunk;
    if (chunk->n_copies > 1)
        qsort(chunk->copies, chunk->n_copies, sizeof *chunk->copies, by_source);
    for (size_t i = 0; i < chunk->n_copies;) {
        const struct uz_copy *copy = &chunk->copies[i];
        if (is_direct(copy)) {
            UZ_TRY(read_source(worker, copy->file, worker->out + copy->dst,
                               (size_t)(copy->n_elems * uz_dtype_size(copy->from)), copy->src,
                               err));
            i++;
        } else if (!fits_scratch(worker, copy)) {
            size_t end;
            UZ_TRY(try_interleaved(worker, i, &end, err));
            if (end == i)
                UZ_TRY(read_large(worker, &chunk->copies[end++], err));
            i = end;
        } else {
            UZ_TRY(read_together(worker, i, &i, err));
        }
    }
    return UZ_OK;
}

int uz_worker_gather(struct uz_worker *worker, uint64_t index, struct uz_error *err)
{
    struct uz_chunk *chunk = &worker->chunk;
    UZ_TRY(uz_plan_chunk(worker->plan, index, chunk, err));
    UZ_TRY(read_copies(worker, err));
    for (size_t i = 0; i < chunk->n_parts; i++) {
        const struct uz_target_part *part = &chunk->parts[i];
        UZ_TRY(uz_checksums_add(&worker->checksums, part->target, part->first,
                                worker->out + part->begin, (size_t)(part->end - part->begin), err));
    }
    for (size_t i = 0; i < chunk->n_spans; i++) {
        const struct uz_span *span = &chunk->spans[i];
        const char *path = worker->paths[chunk->file];
        int fd;
        UZ_TRY(uz_fd_cache_get(&worker->outputs, chunk->file, path, &fd, err));
        UZ_TRY(uz_pwrite_all(fd, worker->out + span->begin, (size_t)(span->end - span->begin),
                             chunk->offset + span->begin, path, err));
        uz_worker_wrote(worker, span->end - span->begin);
    }
    return UZ_OK;
}
