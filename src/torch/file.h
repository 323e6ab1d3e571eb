/* SPDX-License-Identifier: Apache-2.0 */
/* A PyTorch file (torch.save): its value graph and the places of its storages. */
#ifndef UZ_TORCH_FILE_H
#define UZ_TORCH_FILE_H

#include <unzero/dtype.h>
#include <unzero/limits.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/packing.h"
#include "torch/node.h"
#include "torch/seen.h"

#define UZ_MAX_NDIM 64

struct uz_torch_file;

/* Where a storage is: enough to read it later with the file closed. */
struct uz_storage {
    uint64_t key;    /* number of this storage within the file: equal keys share memory */
    uint64_t offset; /* byte in the file if UZ_PACKED_STORED, else 0 */
    uint64_t nbytes; /* bytes of data */
    uint64_t entry;  /* which stream of the file it is in (see torch/stream.h), if packed */
    enum uz_packing packing;
    bool big_endian;
    uint64_t stream_nbytes; /* UZ_PACKED_ZSTD: memory that reading the file as a stream takes */
};

/* A storage as a pickle names it. */
struct uz_storage_ref {
    struct uz_storage storage;
    const struct uz_node *class_node, *location;
    enum uz_dtype dtype;    /* of the class; INVALID: untyped bytes, or no plain number */
    size_t itemsize;        /* bytes of the class's elements */
    uint64_t numel;         /* of those elements in the storage */
    uint64_t first, nbytes; /* bytes of it that may be used: all but in files from before 0.4 */
};

/* A tensor: a strided view of a storage, proven to lie inside it. */
struct uz_view {
    enum uz_dtype dtype;
    unsigned ndim;
    uint64_t shape[UZ_MAX_NDIM];
    uint64_t stride[UZ_MAX_NDIM]; /* in elements */
    uint64_t first;               /* element of the storage where the tensor begins */
    uint64_t numel;
    bool contiguous; /* row-major without gaps (dimensions of one element do not count) */
    struct uz_storage storage;
};

/*
 * Opens a file, recognises the container by its bytes (zip, that of PyTorch before 1.6, either of
 * them compressed whole with zstd), checks it, and reads its value graph. What is compressed whole
 * is decoded as far as that; damage behind is found by who reads it, to the end: see
 * torch/stream.h. The caller closes it. One thread at a time may use it. Errors name the file and
 * the byte (of the content, decompressed).
 */
int uz_torch_open(struct uz_torch_file **out, const char *path, const struct uz_limits *limits,
                  struct uz_error *err);

/*
 * The same, but a file whose pickle has been seen is only checked as a container: *was_seen, and
 * its value is NULL. What was seen is told by uz_torch_saw, after the value was found good.
 */
int uz_torch_open_unseen(struct uz_torch_file **out, const char *path,
                         const struct uz_limits *limits, struct uz_seen *seen, bool *was_seen,
                         struct uz_error *err);

/* Remembers the pickle of an open file, if it is one of a plain archive. */
void uz_torch_saw(const struct uz_torch_file *file, struct uz_seen *seen);

/* NULL is allowed. Nodes and texts of the file are gone after it. */
void uz_torch_close(struct uz_torch_file *file);

/* The value that was saved; lives as long as the file is open. */
const struct uz_node *uz_torch_root(const struct uz_torch_file *file);

/*
 * All classes and functions that the file's pickles name, GLOBAL nodes in the order of the stream:
 * what unpickling would import, whether or not the value has it in the end. One name may occur
 * several times.
 */
const struct uz_seq *uz_torch_globals(const struct uz_torch_file *file);

/* Name of the archive's root folder: the file's stem when it was saved. NULL: no zip archive. */
const char *uz_torch_archive_root(const struct uz_torch_file *file);

/* True if the file is compressed whole: it was read only as far as its value. */
bool uz_torch_is_packed(const struct uz_torch_file *file);

/* Path the file was opened by. */
const char *uz_torch_path(const struct uz_torch_file *file);

/* True if the node stands where a tensor can: any of PyTorch's rebuild calls, known or not. */
bool uz_torch_is_tensor(const struct uz_node *node);

/*
 * Resolves a tensor and its storage. UZ_UNSUPPORTED for rebuild functions, dtypes and views
 * (complex, quantised, sparse, conj or neg bit) that are not plain data; UZ_CORRUPT for a view that
 * leaves its storage, or a storage entry that is absent or too short. `what` names the tensor in
 * messages.
 */
int uz_torch_tensor(struct uz_torch_file *file, const struct uz_node *node, const char *what,
                    struct uz_view *view, struct uz_error *err);

/*
 * Resolves the persistent id of a storage, of any class whose size is known. Fails as
 * uz_torch_tensor does; `what` names the tensor in messages.
 */
int uz_torch_storage(struct uz_torch_file *file, const struct uz_node *node, const char *what,
                     struct uz_storage_ref *ref, struct uz_error *err);

/*
 * What two names of one piece of memory in a file have in common -- storage, offset, sizes and
 * strides -- as bytes that can be compared; they live in the arena.
 */
int uz_view_memory_key(struct uz_arena *arena, const struct uz_view *view, const char **key,
                       size_t *nbytes, struct uz_error *err);

/* A shape: torch.Size, tuple or list of sizes. `what` names it in messages. */
int uz_torch_shape(const struct uz_torch_file *file, const struct uz_node *node, const char *what,
                   unsigned *ndim, uint64_t shape[UZ_MAX_NDIM], struct uz_error *err);

/* Bytes [first, first + nbytes) of a storage's content, in the byte order of the file. */
int uz_torch_read(struct uz_torch_file *file, const struct uz_storage *storage, uint64_t first,
                  void *buf, size_t nbytes, struct uz_error *err);

/*
 * The value of a number that may be stored as INT, FLOAT or a tensor of one element (the `step` of
 * optimizers): reads the element from the file.
 */
int uz_torch_number(struct uz_torch_file *file, const struct uz_node *node, const char *what,
                    double *value, struct uz_error *err);

#endif
