/* SPDX-License-Identifier: Apache-2.0 */
/* How failures about a tensor are told; shared by tensor.c and storage.c only. */
#ifndef UZ_TORCH_TENSOR_IMPL_H
#define UZ_TORCH_TENSOR_IMPL_H

#include "torch/file_impl.h"

/* A failure about the tensor, at the opcode that made `node`; a macro for uz_fail's reason. */
#define fail_tensor(file, node, what, status, err, ...)                                            \
    (uz_describe_tensor_failure((file), (node), (what), (status), (err), __VA_ARGS__),             \
     (int)(status))

void UZ_PRINTF(6, 7)
    uz_describe_tensor_failure(const struct uz_torch_file *file, const struct uz_node *node,
                               const char *what, int status, struct uz_error *err, const char *fmt,
                               ...);

#endif
