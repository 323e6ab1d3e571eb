/* SPDX-License-Identifier: Apache-2.0 */
/* The table of storage classes. */
#include "torch/storage_class.h"

static const struct {
    const char *name;
    enum uz_dtype dtype;
} classes[] = {
    {"FloatStorage", UZ_DTYPE_F32}, {"BFloat16Storage", UZ_DTYPE_BF16},
    {"HalfStorage", UZ_DTYPE_F16},  {"DoubleStorage", UZ_DTYPE_F64},
    {"LongStorage", UZ_DTYPE_I64},  {"IntStorage", UZ_DTYPE_I32},
    {"ShortStorage", UZ_DTYPE_I16}, {"CharStorage", UZ_DTYPE_I8},
    {"ByteStorage", UZ_DTYPE_U8},   {"BoolStorage", UZ_DTYPE_BOOL},
};

enum { N_CLASSES = sizeof classes / sizeof classes[0] };

const char *uz_storage_class(enum uz_dtype dtype)
{
    for (size_t i = 0; i < N_CLASSES; i++)
        if (classes[i].dtype == dtype)
            return classes[i].name;
    return NULL;
}

enum uz_dtype uz_storage_class_dtype(const struct uz_node *class, bool *known)
{
    *known = true;
    for (size_t i = 0; i < N_CLASSES; i++)
        if (uz_node_is_global(class, "torch", classes[i].name))
            return classes[i].dtype;
    *known = uz_node_is_global(class, "torch.storage", "UntypedStorage") ||
             uz_node_is_global(class, "torch", "UntypedStorage");
    return UZ_DTYPE_INVALID;
}
