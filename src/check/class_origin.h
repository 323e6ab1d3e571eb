/* SPDX-License-Identifier: Apache-2.0 */
/* Where the classes that a pickle names come from. */
#ifndef UZ_CHECK_CLASS_ORIGIN_H
#define UZ_CHECK_CLASS_ORIGIN_H

#include <unzero/inspect.h>

#include "torch/node.h"

/*
 * The origin of a GLOBAL node. Only names that are known to make plain data count as Python's or
 * PyTorch's: `__builtin__.eval` and `torch.hub.load` are foreign.
 */
enum uz_class_origin uz_class_origin(const struct uz_node *global);

#endif
