/* SPDX-License-Identifier: Apache-2.0 */
/* The insides of an open PyTorch file, shared by file.c and tensor.c only. */
#ifndef UZ_TORCH_FILE_IMPL_H
#define UZ_TORCH_FILE_IMPL_H

#include "base/mem.h"
#include "torch/file.h"
#include "torch/zip.h"

struct uz_torch_file {
    char *path;
    int fd;
    struct uz_zip *zip;
    char *archive_root;
    struct uz_arena *arena; /* holds the value graph */
    const struct uz_node *root;
    uint64_t pickle_offset; /* byte of the file where data.pkl begins; 0 if it is deflated */
    bool big_endian;
    struct uz_limits limits;
};

#endif
