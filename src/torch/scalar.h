/* SPDX-License-Identifier: Apache-2.0 */
/* A number that stands by itself, as optimizers count steps: kept with its type. */
#ifndef UZ_TORCH_SCALAR_H
#define UZ_TORCH_SCALAR_H

#include "torch/file.h"
#include "torch/node_make.h"

struct uz_scalar {
    enum uz_node_kind kind; /* INT, FLOAT; OBJECT: a tensor; NONE (0): there is no number */
    int64_t integer;
    double real;
    enum uz_dtype dtype; /* of a tensor, whose `ndim` dimensions are all of one element */
    unsigned ndim;
    unsigned char bytes[8]; /* its element, little-endian */
};

/* UZ_UNSUPPORTED if the node is something else; `what` names it in messages. */
int uz_scalar_read(struct uz_torch_file *file, const struct uz_node *node, const char *what,
                   struct uz_scalar *number, struct uz_error *err);

/* The value again; `storage` is a tensor's persistent id, whose storage holds `bytes`. */
const struct uz_node *uz_scalar_make(struct uz_maker *maker, const struct uz_scalar *number,
                                     const struct uz_node *storage);

#endif
