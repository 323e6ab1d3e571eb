/* SPDX-License-Identifier: Apache-2.0 */
/* Few large reads instead of many small ones. */
#include "engine/gather.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/convert.h"

enum {
    DIRECT_NBYTES = 16 * 1024,  /* a plain copy this large is read straight to its place */
    DIRECT_ROW_NBYTES = 8192,   /* and so are rows from this size on */
    MAX_GAP_NBYTES = 64 * 1024, /* bytes read for nothing to save a read */
    MAX_READ_FOR_WANTED = 512,  /* bytes read for each that is wanted, before single reads pay */
    CAST_NBYTES = 512 * 1024    /* long runs are read and cast in blocks that stay in a cache */
};

enum { PAGE_NBYTES = 4096 };

/*
 * AMD's processors, up to Zen 4 at least, copy at a fifth of their speed (rep movsb, which the
 * system reads with) to where the address is less than that above the source's, within a page.
 */
enum { SLOW_NBYTES = 32, LINE_NBYTES = 64 };

int uz_gather_init(struct uz_gather *gather, const struct uz_model *model,
                   const struct uz_cast_ops *ops, uint64_t buffer_nbytes, unsigned n_fd_slots,
                   struct uz_error *err)
{
    void *pages;
    *gather = (struct uz_gather){.model = model, .ops = ops, .buffer_nbytes = buffer_nbytes};
    uz_fd_cache_init(&gather->sources, O_RDONLY, n_fd_slots);
    if (posix_memalign(&pages, PAGE_NBYTES, (size_t)buffer_nbytes + LINE_NBYTES) != 0)
        return uz_fail_nomem(err, buffer_nbytes);
    gather->scratch = pages;
    return UZ_OK;
}

void uz_gather_free(struct uz_gather *gather)
{
    if (!gather->model)
        return; /* never initialised */
    uz_fd_cache_close(&gather->sources);
    free(gather->scratch);
    free(gather->summands);
    *gather = (struct uz_gather){0};
}

/* Bytes from the first to the last that a copy reads. */
static uint64_t src_extent(const struct uz_copy *copy)
{
    return (copy->n_rows - 1) * copy->src_stride + copy->n_elems * uz_dtype_size(copy->from);
}

static int read_source(struct uz_gather *gather, uint32_t file, void *buf, size_t nbytes,
                       uint64_t offset, struct uz_error *err)
{
    const char *path = gather->model->files[file];
    int fd;
    UZ_TRY(uz_fd_cache_get(&gather->sources, file, path, &fd, err));
    UZ_TRY(uz_pread_all(fd, buf, nbytes, offset, path, err));
    uz_advise_read(&gather->advice, fd, offset, nbytes);
    return UZ_OK;
}

/* Where in the scratch buffer bytes from `src` of a file on go: as far from a line's beginning. */
static unsigned char *scratch_for(const struct uz_gather *gather, uint64_t src)
{
    return gather->scratch + src % LINE_NBYTES;
}

/* Puts a copy's rows into the chunk; `base` holds the source file's bytes from src_first on. */
static void place_rows(struct uz_gather *gather, const struct uz_copy *copy,
                       const unsigned char *base, uint64_t src_first)
{
    const unsigned char *src = base + (copy->src - src_first);
    unsigned char *dst = gather->out + copy->dst;
    const struct uz_conversion how = {
        .from = copy->from, .to = copy->to, .swap = copy->swap, .divisor = copy->divisor};
    for (uint64_t row = 0; row < copy->n_rows; row++)
        gather->n_overflows +=
            uz_convert_elems(gather->ops, how, dst + row * copy->dst_stride,
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

static int read_part(struct uz_gather *gather, const struct uz_copy *part, struct uz_error *err)
{
    unsigned char *scratch = scratch_for(gather, part->src);
    UZ_TRY(read_source(gather, part->file, scratch, (size_t)src_extent(part), part->src, err));
    place_rows(gather, part, scratch, part->src);
    return UZ_OK;
}

/* True if nothing lies between the rows of a copy. */
static bool is_dense(const struct uz_copy *copy)
{
    return copy->n_rows == 1 || copy->src_stride == copy->n_elems * uz_dtype_size(copy->from);
}

/*
 * A copy by parts: as many rows, or elements, as the scratch buffer can hold, or if all that lies
 * between is wanted, as stay in a cache.
 */
static int read_large(struct uz_gather *gather, const struct uz_copy *copy, struct uz_error *err)
{
    uint64_t row_nbytes = copy->n_elems * uz_dtype_size(copy->from);
    uint64_t rows_at_once = 1;
    uint64_t elems_at_once = copy->n_elems;
    uint64_t block = CAST_NBYTES < gather->buffer_nbytes ? CAST_NBYTES : gather->buffer_nbytes;
    uint64_t room = is_dense(copy) ? block : gather->buffer_nbytes;
    if (row_nbytes > block)
        elems_at_once = block / uz_dtype_size(copy->from);
    else if (copy->src_stride > 0 && copy->src_stride <= room - row_nbytes)
        rows_at_once = (room - row_nbytes) / copy->src_stride + 1;
    for (uint64_t row = 0; row < copy->n_rows; row += rows_at_once) {
        uint64_t n_rows = copy->n_rows - row < rows_at_once ? copy->n_rows - row : rows_at_once;
        for (uint64_t elem = 0; elem < copy->n_elems; elem += elems_at_once) {
            uint64_t left = copy->n_elems - elem;
            struct uz_copy part =
                part_of(copy, row, n_rows, elem, left < elems_at_once ? left : elems_at_once);
            UZ_TRY(read_part(gather, &part, err));
        }
    }
    return UZ_OK;
}

/* Rows of a copy that begin in bytes [begin, end) of the source file, placed from the scratch. */
static void place_rows_between(struct uz_gather *gather, const struct uz_copy *copy, uint64_t begin,
                               uint64_t end)
{
    uint64_t row = copy->src < begin ? (begin - copy->src - 1) / copy->src_stride + 1 : 0;
    uint64_t row_end = copy->src < end ? (end - copy->src - 1) / copy->src_stride + 1 : 0;
    if (row_end > copy->n_rows)
        row_end = copy->n_rows;
    if (row >= row_end)
        return;
    struct uz_copy part = part_of(copy, row, row_end - row, 0, copy->n_elems);
    place_rows(gather, &part, scratch_for(gather, begin), begin);
}

/*
 * Copies [i, end) of one file whose short rows lie scattered over the same bytes, as the rows of a
 * transposed tensor do: the bytes are read once, block by block, and each block serves them all.
 */
static int read_interleaved(struct uz_gather *gather, size_t i, size_t end, uint64_t last,
                            uint64_t row_nbytes, struct uz_error *err)
{
    const struct uz_copy *copies = gather->copies;
    for (uint64_t begin = copies[i].src; begin < last;) {
        uint64_t nbytes =
            last - begin < gather->buffer_nbytes ? last - begin : gather->buffer_nbytes;
        uint64_t next = begin + nbytes == last ? last : begin + nbytes - row_nbytes + 1;
        UZ_TRY(read_source(gather, copies[i].file, scratch_for(gather, begin), (size_t)nbytes,
                           begin, err));
        for (size_t k = i; k < end; k++)
            place_rows_between(gather, &copies[k], begin, next);
        begin = next;
    }
    return UZ_OK;
}

/*
 * Tries that for the copies from i on. *end stays i if it does not pay: when too few of the bytes
 * in between are wanted, rows are read one by one. (A stride beyond INT64_MAX is a step backwards.)
 */
static int try_interleaved(struct uz_gather *gather, size_t i, size_t *end, struct uz_error *err)
{
    const struct uz_copy *copies = gather->copies;
    uint64_t first = copies[i].src, last = first, wanted = 0, row_nbytes = 0;
    size_t next = i;
    *end = i;
    for (; next < gather->n_copies; next++) {
        const struct uz_copy *copy = &copies[next];
        uint64_t extent, nbytes = copy->n_elems * uz_dtype_size(copy->from);
        if (copy->file != copies[i].file || copy->n_rows < 2 || copy->src_stride == 0 ||
            copy->src_stride > INT64_MAX || nbytes > gather->buffer_nbytes / 2 ||
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
    return read_interleaved(gather, i, next, last, row_nbytes, err);
}

static bool is_direct(const struct uz_copy *copy)
{
    uint64_t row_nbytes = copy->n_elems * uz_dtype_size(copy->from);
    if (copy->from != copy->to || copy->swap || uz_divides(copy->divisor))
        return false;
    if (copy->n_rows == 1)
        return row_nbytes >= DIRECT_NBYTES;
    return is_dense(copy) && row_nbytes >= DIRECT_ROW_NBYTES;
}

/* Reads plain bytes straight to their place, unless that would be slow (of rows: the first). */
static int read_direct(struct uz_gather *gather, const struct uz_copy *copy, struct uz_error *err)
{
    unsigned char *dst = gather->out + copy->dst;
    const char *path = gather->model->files[copy->file];
    size_t row_nbytes = (size_t)(copy->n_elems * uz_dtype_size(copy->from));
    uint64_t above = ((uintptr_t)dst - copy->src) % PAGE_NBYTES;
    int fd;
    if (above > 0 && above < SLOW_NBYTES)
        return read_large(gather, copy, err);
    if (copy->n_rows == 1)
        return read_source(gather, copy->file, dst, row_nbytes, copy->src, err);
    UZ_TRY(uz_fd_cache_get(&gather->sources, copy->file, path, &fd, err));
    UZ_TRY(
        uz_pread_rows(fd, dst, row_nbytes, copy->n_rows, copy->dst_stride, copy->src, path, err));
    uz_advise_read(&gather->advice, fd, copy->src, row_nbytes * copy->n_rows);
    return UZ_OK;
}

/* True if strides are such that the bytes between first and last row may be read in one go. */
static bool fits_scratch(const struct uz_gather *gather, const struct uz_copy *copy)
{
    uint64_t extent;
    if (__builtin_mul_overflow(copy->n_rows - 1, copy->src_stride, &extent) ||
        extent > gather->buffer_nbytes)
        return false;
    return src_extent(copy) <= gather->buffer_nbytes;
}

/*
 * Reads copies [i, *end) of one file, whose source bytes lie close together, with one read; *end is
 * set by how many fit.
 */
static int read_together(struct uz_gather *gather, size_t i, size_t *end, struct uz_error *err)
{
    const struct uz_copy *copies = gather->copies;
    uint64_t first = copies[i].src;
    uint64_t last = first + src_extent(&copies[i]);
    size_t next = i + 1;
    for (; next < gather->n_copies; next++) {
        const struct uz_copy *copy = &copies[next];
        if (copy->file != copies[i].file || is_direct(copy) || !fits_scratch(gather, copy) ||
            copy->src > last + MAX_GAP_NBYTES)
            break;
        uint64_t copy_end = copy->src + src_extent(copy);
        uint64_t new_last = copy_end > last ? copy_end : last;
        if (new_last - first > gather->buffer_nbytes)
            break;
        last = new_last;
    }
    unsigned char *scratch = scratch_for(gather, first);
    UZ_TRY(read_source(gather, copies[i].file, scratch, (size_t)(last - first), first, err));
    for (size_t k = i; k < next; k++)
        place_rows(gather, &copies[k], scratch, first);
    *end = next;
    return UZ_OK;
}

static void place_zeros(const struct uz_gather *gather, const struct uz_copy *copy)
{
    for (uint64_t row = 0; row < copy->n_rows; row++)
        memset(gather->out + copy->dst + row * copy->dst_stride, 0,
               (size_t)copy->n_elems * uz_dtype_size(copy->to));
}

/* Copies by source: file, then byte. */
static int by_source(const void *a, const void *b)
{
    const struct uz_copy *x = a, *y = b;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return x->src < y->src ? -1 : x->src > y->src;
}

int uz_gather_copies(struct uz_gather *gather, struct uz_copy *copies, size_t n, unsigned char *out,
                     struct uz_error *err)
{
    gather->copies = copies;
    gather->n_copies = n;
    gather->out = out;
    if (n > 1)
        qsort(copies, n, sizeof *copies, by_source);
    for (size_t i = 0; i < n;) {
        const struct uz_copy *copy = &copies[i];
        if (copy->file == UZ_NONE) {
            place_zeros(gather, copy);
            i++;
        } else if (is_direct(copy)) {
            UZ_TRY(read_direct(gather, copy, err));
            i++;
        } else if (is_dense(copy) &&
                   copy->n_rows * copy->n_elems > CAST_NBYTES / uz_dtype_size(copy->from)) {
            UZ_TRY(read_large(gather, copy, err));
            i++;
        } else if (!fits_scratch(gather, copy)) {
            size_t end;
            UZ_TRY(try_interleaved(gather, i, &end, err));
            if (end == i)
                UZ_TRY(read_large(gather, &copies[end++], err));
            i = end;
        } else {
            UZ_TRY(read_together(gather, i, &i, err));
        }
    }
    return UZ_OK;
}
