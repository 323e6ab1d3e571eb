/* SPDX-License-Identifier: Apache-2.0 */
/* The classes of storages by the names PyTorch gives them. */
#ifndef UZ_TORCH_STORAGE_CLASS_H
#define UZ_TORCH_STORAGE_CLASS_H

#include <unzero/dtype.h>

#include "torch/node.h"

/* Name in the module `torch` ("FloatStorage"), NULL if only an UntypedStorage holds such elements.
 */
const char *uz_storage_class(enum uz_dtype dtype);

/*
 * The dtype of a storage's class; UZ_DTYPE_INVALID for UntypedStorage, which has none of its own,
 * and for what is no class of storages: *known tells them apart.
 */
enum uz_dtype uz_storage_class_dtype(const struct uz_node *class, bool *known);

#endif
