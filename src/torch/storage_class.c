/* SPDX-License-Identifier: Apache-2.0 */
/* The table of PyTorch's storage classes. */
#include "torch/storage_class.h"

struct row {
    const char *name;
    enum uz_dtype dtype; /* INVALID: bytes, or no plain number */
    bool is_plain;
    size_t nbytes;
};

static const struct row rows[] = {
    {"FloatStorage", UZ_DTYPE_F32, true, 4},
    {"BFloat16Storage", UZ_DTYPE_BF16, true, 2},
    {"HalfStorage", UZ_DTYPE_F16, true, 2},
    {"DoubleStorage", UZ_DTYPE_F64, true, 8},
    {"LongStorage", UZ_DTYPE_I64, true, 8},
    {"IntStorage", UZ_DTYPE_I32, true, 4},
    {"ShortStorage", UZ_DTYPE_I16, true, 2},
    {"CharStorage", UZ_DTYPE_I8, true, 1},
    {"ByteStorage", UZ_DTYPE_U8, true, 1},
    {"BoolStorage", UZ_DTYPE_BOOL, true, 1},
    {"UntypedStorage", UZ_DTYPE_INVALID, true, 1},
    {"ComplexFloatStorage", UZ_DTYPE_INVALID, false, 8},
    {"ComplexDoubleStorage", UZ_DTYPE_INVALID, false, 16},
    {"QInt8Storage", UZ_DTYPE_INVALID, false, 1},
    {"QUInt8Storage", UZ_DTYPE_INVALID, false, 1},
    {"QInt32Storage", UZ_DTYPE_INVALID, false, 4},
};

static const struct row *find(const struct uz_node *class_node)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (uz_node_is_global(class_node, "torch", rows[i].name) ||
            uz_node_is_global(class_node, "torch.storage", rows[i].name))
            return &rows[i];
    return NULL;
}

enum uz_dtype uz_storage_class_dtype(const struct uz_node *class_node, bool *known)
{
    const struct row *row = find(class_node);
    *known = row && row->is_plain;
    return *known ? row->dtype : UZ_DTYPE_INVALID;
}

size_t uz_storage_class_size(const struct uz_node *class_node, bool *known)
{
    const struct row *row = find(class_node);
    *known = row != NULL;
    return row ? row->nbytes : 0;
}

const char *uz_storage_class(enum uz_dtype dtype)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (dtype != UZ_DTYPE_INVALID && rows[i].dtype == dtype)
            return rows[i].name;
    return NULL;
}
