/* SPDX-License-Identifier: Apache-2.0 */
/* Parses slices and walks through their runs. */
#include "layout/slice.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* One dimension as it is written; what is left out is not there. */
struct part {
    bool is_range, has_start, has_stop, has_step;
    int64_t start, stop, step;
};

static int bad(unsigned j, const char *text, size_t n, const char *why, struct uz_error *err)
{
    return uz_fail(err, UZ_ARG, "slice '%.*s' of dimension %u %s", (int)(n < 64 ? n : 64), text, j,
                   why);
}

/* A number, if there is one; *at moves behind it. */
static bool read_number(const char **at, const char *end, int64_t *value, bool *there)
{
    *there = *at < end && **at != ':';
    if (!*there)
        return true;
    char *stop;
    errno = 0;
    if ((**at < '0' || **at > '9') && **at != '-')
        return false;
    long long number = strtoll(*at, &stop, 10);
    if (errno || stop == *at || stop > end)
        return false;
    *value = number;
    *at = stop;
    return true;
}

static bool read_part(struct part *part, const char *at, const char *end)
{
    *part = (struct part){.step = 1};
    if (!read_number(&at, end, &part->start, &part->has_start))
        return false;
    if (at == end)
        return part->has_start;
    part->is_range = *at++ == ':';
    if (!part->is_range || !read_number(&at, end, &part->stop, &part->has_stop))
        return false;
    if (at == end)
        return true;
    return *at++ == ':' && read_number(&at, end, &part->step, &part->has_step) && at == end;
}

/* Python's rule: negative counts from the end, then it is cut to [0, size]. */
static uint64_t clamp(int64_t value, uint64_t size)
{
    if (value >= 0)
        return (uint64_t)value < size ? (uint64_t)value : size;
    uint64_t back = (uint64_t)0 - (uint64_t)value;
    return back < size ? size - back : 0;
}

static bool take_index(struct uz_slice *slice, unsigned j, int64_t index, uint64_t size)
{
    uint64_t back = index < 0 ? (uint64_t)0 - (uint64_t)index : 0;
    if (index < 0 ? back > size : (uint64_t)index >= size)
        return false;
    slice->start[j] = index < 0 ? size - back : (uint64_t)index;
    slice->step[j] = 1;
    slice->count[j] = 1;
    return true;
}

static void take_range(struct uz_slice *slice, unsigned j, const struct part *part, uint64_t size)
{
    uint64_t start = part->has_start ? clamp(part->start, size) : 0;
    uint64_t stop = part->has_stop ? clamp(part->stop, size) : size;
    uint64_t step = (uint64_t)part->step;
    slice->start[j] = start;
    slice->step[j] = step;
    slice->count[j] = stop > start ? (stop - start - 1) / step + 1 : 0;
    slice->out_shape[slice->out_ndim++] = slice->count[j];
}

/* What is written for dimension j, in n bytes. */
static int read_dimension(struct part *part, unsigned j, const char *text, size_t n,
                          struct uz_error *err)
{
    while (n > 0 && *text == ' ') {
        text++;
        n--;
    }
    while (n > 0 && text[n - 1] == ' ')
        n--;
    if (!read_part(part, text, text + n))
        return bad(j, text, n, "is neither an index nor start:stop:step", err);
    if (part->is_range && part->step < 1)
        return bad(j, text, n, "has a step that is not positive", err);
    return UZ_OK;
}

static int take_dimension(struct uz_slice *slice, unsigned j, const char *text, size_t n,
                          uint64_t size, struct uz_error *err)
{
    struct part part;
    UZ_TRY(read_dimension(&part, j, text, n, err));
    if (part.is_range)
        take_range(slice, j, &part, size);
    else if (!take_index(slice, j, part.start, size))
        return uz_fail(err, UZ_ARG, "slice '%.*s': dimension %u has %llu elements", (int)n, text, j,
                       (unsigned long long)size);
    return UZ_OK;
}

int uz_slice_check(const char *text, struct uz_error *err)
{
    const char *at = text && *text ? text : NULL;
    struct part part;
    for (unsigned j = 0; at; j++) {
        size_t n = strcspn(at, ",");
        UZ_TRY(read_dimension(&part, j, at, n, err));
        at = at[n] ? at + n + 1 : NULL;
    }
    return UZ_OK;
}

static bool is_whole(const struct uz_slice *slice, unsigned j, const uint64_t *shape)
{
    return slice->start[j] == 0 && slice->step[j] == 1 && slice->count[j] == shape[j];
}

/* Joins trailing whole dimensions, and the one before them, into runs. */
static void find_runs(struct uz_slice *slice, const uint64_t *shape)
{
    unsigned j = slice->ndim;
    slice->run_elems = slice->run_step = 1;
    while (j > 0 && is_whole(slice, j - 1, shape))
        slice->run_elems *= slice->count[--j];
    if (j > 0 && (slice->step[j - 1] == 1 || slice->run_elems == 1)) {
        j--;
        slice->run_step = slice->run_elems == 1 ? slice->step[j] * slice->stride[j] : 1;
        slice->run_elems *= slice->count[j];
    }
    slice->inner = j;
}

int uz_slice_parse(struct uz_slice *slice, const char *text, unsigned ndim, const uint64_t *shape,
                   struct uz_error *err)
{
    const char *at = text && *text ? text : NULL;
    *slice = (struct uz_slice){.ndim = ndim, .numel = 1};
    if (ndim > UZ_SLICE_MAX_NDIM)
        return uz_fail(err, UZ_LIMIT, "the tensor has %u dimensions", ndim);
    for (unsigned j = 0; j < ndim; j++) {
        size_t n = at ? strcspn(at, ",") : 1;
        UZ_TRY(take_dimension(slice, j, at ? at : ":", n, shape[j], err));
        at = at && at[n] ? at + n + 1 : NULL;
    }
    if (at)
        return uz_fail(err, UZ_ARG, "slice '%s' has more dimensions than the tensor, which has %u",
                       text, ndim);
    uint64_t stride = 1;
    for (unsigned j = ndim; j-- > 0;) {
        slice->stride[j] = stride;
        stride *= shape[j];
        slice->numel *= slice->count[j];
    }
    find_runs(slice, shape);
    return UZ_OK;
}

struct uz_slice_run uz_slice_run_at(const struct uz_slice *slice, uint64_t first)
{
    uint64_t in_run = first % slice->run_elems, outer = first / slice->run_elems;
    struct uz_slice_run run = {
        .first = in_run * slice->run_step,
        .n_elems = slice->run_elems - in_run,
        .step = slice->run_step,
    };
    for (unsigned j = slice->ndim; j-- > 0;) {
        uint64_t i = 0;
        if (j < slice->inner) {
            i = outer % slice->count[j];
            outer /= slice->count[j];
        }
        run.first += (slice->start[j] + i * slice->step[j]) * slice->stride[j];
    }
    return run;
}
