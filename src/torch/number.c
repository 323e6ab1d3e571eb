/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that may be stored as a plain value or as a tensor of one element. */
#include <math.h>
#include <string.h>

#include "torch/file_impl.h"

/* The value of fp16 bits; exact, as every fp16 is a double. */
static double half_value(uint64_t bits)
{
    unsigned exponent = bits >> 10 & 0x1f, fraction = bits & 0x3ff;
    double value;
    if (exponent == 0x1f)
        value = fraction ? (double)NAN : (double)INFINITY;
    else if (exponent == 0)
        value = ldexp(fraction, -24);
    else
        value = ldexp(1024 + fraction, (int)exponent - 25);
    return bits & 0x8000 ? -value : value;
}

static double float_value(uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    float value;
    memcpy(&value, &low, sizeof value);
    return (double)value;
}

/* False for dtypes whose values are not looked at. */
static bool decode(enum uz_dtype dtype, uint64_t bits, double *value)
{
    switch (dtype) {
    case UZ_DTYPE_BOOL:
        *value = bits != 0;
        return true;
    case UZ_DTYPE_U8:
    case UZ_DTYPE_U16:
    case UZ_DTYPE_U32:
    case UZ_DTYPE_U64:
        *value = (double)bits;
        return true;
    case UZ_DTYPE_I8:
        *value = (int8_t)bits;
        return true;
    case UZ_DTYPE_I16:
        *value = (int16_t)bits;
        return true;
    case UZ_DTYPE_I32:
        *value = (int32_t)bits;
        return true;
    case UZ_DTYPE_I64:
        *value = (double)(int64_t)bits;
        return true;
    case UZ_DTYPE_F16:
        *value = half_value(bits);
        return true;
    case UZ_DTYPE_BF16:
        *value = float_value(bits << 16);
        return true;
    case UZ_DTYPE_F32:
        *value = float_value(bits);
        return true;
    case UZ_DTYPE_F64:
        memcpy(value, &bits, sizeof *value);
        return true;
    default:
        return false;
    }
}

int uz_torch_read(struct uz_torch_file *file, const struct uz_storage *storage, uint64_t first,
                  void *buf, size_t nbytes, struct uz_error *err)
{
    if (file->zip)
        return uz_zip_read_at(file->zip, storage->entry, first, buf, nbytes, err);
    if (file->forward)
        return uz_forward_read(file->forward, storage->entry, first, buf, nbytes, err);
    const struct uz_legacy_storage *old = uz_legacy_storage(file->legacy, storage->entry);
    if (first > old->nbytes || nbytes > old->nbytes - first)
        return uz_fail_at(err, UZ_CORRUPT, uz_content_path(file->content), old->offset,
                          "a storage is too short");
    return uz_content_read(file->content, buf, nbytes, old->offset + first, err);
}

static int tensor_number(struct uz_torch_file *file, const struct uz_node *node, const char *what,
                         double *value, struct uz_error *err)
{
    struct uz_view view;
    uint8_t data[8];
    UZ_TRY(uz_torch_tensor(file, node, what, &view, err));
    if (view.numel != 1)
        return uz_fail_at(err, UZ_CORRUPT, uz_content_path(file->content), node->offset,
                          "%s: a tensor of %llu elements stands where a number must", what,
                          (unsigned long long)view.numel);
    size_t itemsize = uz_dtype_size(view.dtype);
    int rc = uz_torch_read(file, &view.storage, view.first * itemsize, data, itemsize, err);
    if (rc < 0)
        return uz_context(err, rc, "%s", what);
    uint64_t bits = 0;
    for (size_t i = 0; i < itemsize; i++)
        bits = bits << 8 | data[view.storage.big_endian ? i : itemsize - 1 - i];
    if (!decode(view.dtype, bits, value))
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_content_path(file->content), node->offset,
                          "%s: a number of dtype %s", what, uz_dtype_name(view.dtype));
    return UZ_OK;
}

int uz_torch_number(struct uz_torch_file *file, const struct uz_node *node, const char *what,
                    double *value, struct uz_error *err)
{
    int64_t integer;
    char kind[300];
    if (uz_torch_is_tensor(node))
        return tensor_number(file, node, what, value, err);
    if (node && node->kind == UZ_NODE_FLOAT) {
        *value = node->u.real;
        return UZ_OK;
    }
    if (uz_node_int(node, &integer)) {
        *value = (double)integer;
        return UZ_OK;
    }
    return uz_fail_at(err, UZ_CORRUPT, uz_content_path(file->content),
                      node ? node->offset : UZ_NO_OFFSET, "%s: %s stands where a number must", what,
                      uz_node_describe(node, kind, sizeof kind));
}
