/* SPDX-License-Identifier: Apache-2.0 */
/* Copies between views, block by block where one is not in memory. */
#include "layout/view.h"

#include <limits.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/cast.h"

enum { BLOCK_NBYTES = 32768 };

struct uz_tensor_view uz_view_narrow(const struct uz_tensor_view *view, uint64_t start,
                                     uint64_t numel)
{
    struct uz_tensor_view part = *view;
    part.numel = numel;
    if (part.data)
        part.data = (char *)part.data + start * uz_dtype_size(view->dtype);
    else
        part.first += start;
    return part;
}

/* Which kernel casts; false if none does. Equal dtypes need none. */
static bool find_cast(enum uz_dtype from, enum uz_dtype to, enum uz_cast_id *id)
{
#define UZ_CAST_ROW(FROM, TO, from_name, to_name)                                                  \
    if (from == UZ_DTYPE_##FROM && to == UZ_DTYPE_##TO) {                                          \
        *id = UZ_CAST_##FROM##_TO_##TO;                                                            \
        return true;                                                                               \
    }
#include "kernels/cast.def"
#undef UZ_CAST_ROW
    return false;
}

static bool has_values(const struct uz_tensor_view *view)
{
    return view->data || view->source || view->numel == 0;
}

int uz_view_check_copy(const struct uz_tensor_view *to, const struct uz_tensor_view *from,
                       struct uz_error *err)
{
    enum uz_cast_id id;
    uint64_t nbytes;
    if (to->numel != from->numel)
        return uz_fail(err, UZ_ARG, "%llu elements cannot be copied to %llu",
                       (unsigned long long)from->numel, (unsigned long long)to->numel);
    if (!uz_mul_u64(to->numel, 8, &nbytes) || nbytes > PTRDIFF_MAX)
        return uz_fail(err, UZ_ARG, "%llu elements are too many for memory",
                       (unsigned long long)to->numel);
    if (!has_values(to) || !has_values(from))
        return uz_fail(err, UZ_ARG, "the elements are not at hand: the view has no data");
    if (!to->data && to->source && !to->source->write)
        return uz_fail(err, UZ_ARG, "the elements cannot be written");
    if (uz_dtype_size(to->dtype) > 0 &&
        (to->dtype == from->dtype || find_cast(from->dtype, to->dtype, &id)))
        return UZ_OK;
    return uz_fail(err, UZ_UNSUPPORTED, "there is no cast from %s to %s",
                   uz_dtype_name(from->dtype), uz_dtype_name(to->dtype));
}

/* Both in memory. */
static void copy_memory(const struct uz_tensor_view *to, const struct uz_tensor_view *from,
                        uint64_t *n_overflows)
{
    enum uz_cast_id id;
    if (find_cast(from->dtype, to->dtype, &id))
        *n_overflows += uz_cast_ops_for(UINT_MAX)->fn[id](to->data, from->data, (size_t)to->numel);
    else if (to->numel > 0)
        memmove(to->data, from->data, (size_t)to->numel * uz_dtype_size(to->dtype));
}

static int read_view(const struct uz_tensor_view *view, void *out, struct uz_error *err)
{
    return view->source->read(view->source->cookie, view->first, view->numel, out, err);
}

static int write_view(const struct uz_tensor_view *view, const void *elems, struct uz_error *err)
{
    return view->source->write(view->source->cookie, view->first, view->numel, elems, err);
}

/* A block of at most BLOCK_NBYTES on both sides, through buffers where it is not in memory. */
static int copy_block(struct uz_tensor_view to, struct uz_tensor_view from, uint64_t *n_overflows,
                      struct uz_error *err)
{
    _Alignas(8) unsigned char in[BLOCK_NBYTES], out[BLOCK_NBYTES];
    const struct uz_tensor_view target = to;
    if (!from.data) {
        UZ_TRY(read_view(&from, in, err));
        from.data = in;
    }
    if (!to.data)
        to.data = out;
    copy_memory(&to, &from, n_overflows);
    return target.data ? UZ_OK : write_view(&target, out, err);
}

int uz_view_copy(const struct uz_tensor_view *to, const struct uz_tensor_view *from,
                 uint64_t *n_overflows, struct uz_error *err)
{
    UZ_TRY(uz_view_check_copy(to, from, err));
    if (to->numel == 0)
        return UZ_OK;
    if (to->data && from->data) {
        copy_memory(to, from, n_overflows);
        return UZ_OK;
    }
    if (to->data && to->dtype == from->dtype)
        return read_view(from, to->data, err);
    if (from->data && to->dtype == from->dtype)
        return write_view(to, from->data, err);
    const uint64_t block = BLOCK_NBYTES / 8;
    for (uint64_t at = 0; at < to->numel; at += block) {
        uint64_t n = to->numel - at < block ? to->numel - at : block;
        UZ_TRY(
            copy_block(uz_view_narrow(to, at, n), uz_view_narrow(from, at, n), n_overflows, err));
    }
    return UZ_OK;
}
