/* SPDX-License-Identifier: Apache-2.0 */
/* PyTorch's storage classes, by the names that pickles have for them. */
#ifndef UZ_TORCH_STORAGE_CLASS_H
#define UZ_TORCH_STORAGE_CLASS_H

#include <stdbool.h>
#include <stddef.h>

#include <unzero/dtype.h>

#include "torch/node.h"

/*
 * The dtype of a storage class; UZ_DTYPE_INVALID for untyped bytes, and for classes of what is no
 * plain number (complex, quantised), which *known tells apart: it is false for these.
 */
enum uz_dtype uz_storage_class_dtype(const struct uz_node *class_node, bool *known);

/* Bytes of an element (1 for untyped ones), also where dtypes are not read; *known: is there one.*/
size_t uz_storage_class_size(const struct uz_node *class_node, bool *known);

/* The class in the module `torch` that holds a dtype; NULL if only UntypedStorage does. */
const char *uz_storage_class(enum uz_dtype dtype);

#endif
