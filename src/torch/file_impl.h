/* SPDX-License-Identifier: Apache-2.0 */
/* The insides of an open PyTorch file, shared by file.c and tensor.c only. */
#ifndef UZ_TORCH_FILE_IMPL_H
#define UZ_TORCH_FILE_IMPL_H

#include "base/mem.h"
#include "torch/content.h"
#include "torch/file.h"
#include "torch/forward.h"
#include "torch/legacy.h"
#include "torch/pickle.h"
#include "torch/zip.h"

struct uz_torch_file {
    struct uz_content *content;
    struct uz_zip *zip;         /* one of the containers: this one, */
    struct uz_forward *forward; /* or the same in a file that is compressed whole, */
    struct uz_legacy *legacy;   /* or that before PyTorch 1.6 */
    char *archive_root;         /* of the zip; NULL: there is none */
    struct uz_arena *arena;     /* holds the value graph */
    const struct uz_node *root;
    struct uz_pickle_lists lists; /* of a zip's pickle */
    uint64_t pickle_offset; /* byte of the content where data.pkl begins; 0 if it is deflated */
    uint64_t pickle_nbytes;
    struct uz_seen *seen; /* NULL, or the pickles whose values are not wanted again */
    bool has_digest;
    struct uz_pickle_digest digest;
    bool big_endian;
    struct uz_limits limits;
};

/* Bytes that reading the file as a stream takes (torch/stream.h), if it is compressed whole. */
uint64_t uz_torch_stream_memory(const struct uz_torch_file *file);

#endif
