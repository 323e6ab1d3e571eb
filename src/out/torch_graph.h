/* SPDX-License-Identifier: Apache-2.0 */
/* A torch.save file of any values: those of a source file, changed and new ones. */
#ifndef UZ_OUT_TORCH_GRAPH_H
#define UZ_OUT_TORCH_GRAPH_H

#include "out/stored.h"
#include "out/target.h"
#include "torch/file.h"
#include "torch/node_make.h"

/* A storage of the file: its number here is its key. */
struct uz_graph_storage {
    uint32_t tensor;     /* of the output's model; unused without elements */
    enum uz_dtype dtype; /* of the elements in the file */
    uint64_t numel;
    const void *bytes;         /* not NULL: what the storage holds; there is no tensor */
    const struct uz_node *key; /* of a source's storage: its new number as a text */
};

/*
 * One file in the making. The values are nodes of `maker`, and of the open file `source` if there
 * is one; where these name storages, the source's are brought along, each once.
 */
struct uz_graph {
    const char *name; /* of the file, in the output's folder; borrowed */
    struct uz_maker maker;
    struct uz_stored *stored;
    struct uz_torch_file *source;
    const struct uz_limits *limits;
    struct uz_graph_storage *storages;
    size_t n_storages, cap_storages;
    struct uz_map *copied; /* bytes of a source storage's key -> number of the storage */
    uint32_t source_file;  /* number of the source's path in the output's model; or UZ_NONE */
    int status;            /* of what failed while a pickle was written */
    struct uz_error *err;
};

/* `name` and `source` (may be NULL) outlive it. Free with uz_graph_free, after failures too. */
int uz_graph_start(struct uz_graph *graph, const char *name, struct uz_stored *stored,
                   struct uz_torch_file *source, const struct uz_limits *limits,
                   struct uz_error *err);
void uz_graph_free(struct uz_graph *graph);

/*
 * Opens a new storage of numel elements of dtype `from` in the output's model, to be filled with
 * uz_stored_put and closed; in the file its elements are of dtype `to`. *persid is the node that
 * names it. UZ_UNSUPPORTED for dtypes that PyTorch has no storage class for. Without elements there
 * is nothing to fill or to close.
 */
int uz_graph_open_storage(struct uz_graph *graph, enum uz_dtype from, enum uz_dtype to,
                          uint64_t numel, const struct uz_node **persid, struct uz_error *err);

/* A new storage of elements that are known, little-endian; they outlive the graph. */
int uz_graph_bytes(struct uz_graph *graph, enum uz_dtype dtype, uint64_t numel, const void *bytes,
                   const struct uz_node **persid, struct uz_error *err);

/* Adds the file that holds `root` to the output. */
int uz_graph_finish(struct uz_graph *graph, const struct uz_node *root, struct uz_out *out,
                    struct uz_error *err);

#endif
