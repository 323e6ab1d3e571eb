/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and makes integers, floats and tensors of one element. */
#include "torch/scalar.h"

static int fail_kind(struct uz_torch_file *file, const char *what, struct uz_error *err)
{
    return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(file), UZ_NO_OFFSET, "%s is no number",
                      what);
}

static int read_tensor(struct uz_torch_file *file, const struct uz_node *node, const char *what,
                       struct uz_scalar *number, struct uz_error *err)
{
    struct uz_view view;
    UZ_TRY(uz_torch_tensor(file, node, what, &view, err));
    const size_t size = uz_dtype_size(view.dtype);
    if (view.numel != 1 || size > sizeof number->bytes)
        return fail_kind(file, what, err);
    number->dtype = view.dtype;
    number->ndim = view.ndim;
    UZ_TRY(uz_torch_read(file, &view.storage, view.first * size, number->bytes, size, err));
    for (size_t i = 0; view.storage.big_endian && i < size / 2; i++) {
        const unsigned char byte = number->bytes[i];
        number->bytes[i] = number->bytes[size - 1 - i];
        number->bytes[size - 1 - i] = byte;
    }
    return UZ_OK;
}

int uz_scalar_read(struct uz_torch_file *file, const struct uz_node *node, const char *what,
                   struct uz_scalar *number, struct uz_error *err)
{
    *number = (struct uz_scalar){.kind = node->kind};
    if (uz_torch_is_tensor(node))
        return read_tensor(file, node, what, number, err);
    if (node->kind == UZ_NODE_INT)
        number->integer = node->u.integer;
    else if (node->kind == UZ_NODE_FLOAT)
        number->real = node->u.real;
    else
        return fail_kind(file, what, err);
    return UZ_OK;
}

const struct uz_node *uz_scalar_make(struct uz_maker *maker, const struct uz_scalar *number,
                                     const struct uz_node *storage)
{
    uint64_t shape[UZ_MAX_NDIM];
    if (number->kind == UZ_NODE_INT)
        return uz_make_int(maker, number->integer);
    if (number->kind == UZ_NODE_FLOAT)
        return uz_make_real(maker, number->real);
    for (unsigned j = 0; j < number->ndim; j++)
        shape[j] = 1;
    return uz_make_tensor(maker, storage, 0, number->ndim, shape);
}
