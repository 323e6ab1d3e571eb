/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: the files of an output, and where in them which elements go. */
#ifndef UZ_OUT_TARGET_H
#define UZ_OUT_TARGET_H

#include <stddef.h>
#include <stdint.h>

#include <unzero/dtype.h>

/* Elements [lo, lo + n_elems) of a tensor, stored without gaps from byte `offset` of a file on. */
struct uz_target {
    uint32_t tensor;
    enum uz_dtype dtype;
    uint64_t lo, n_elems;
    uint64_t offset;
};

/*
 * A file: `head`, then its targets one after another without gaps; every target begins at a
 * multiple of its element size counted from the end of the head. Without targets it is the head.
 */
struct uz_out_file {
    char *name; /* within the output folder */
    char *head;
    uint64_t head_nbytes;
    uint64_t nbytes; /* of the whole file */
    size_t first_target, n_targets;
    size_t n_tensors; /* those without elements, which need no target, included */
};

/* An output: files in the order of their numbers; the index, if any, is the last. */
struct uz_out {
    struct uz_out_file *files;
    size_t n_files, cap_files;
    struct uz_target *targets; /* by file, then offset; those without elements are left out */
    size_t n_targets, cap_targets;
    uint64_t data_nbytes; /* of all targets */
};

void uz_out_free(struct uz_out *out);

#endif
