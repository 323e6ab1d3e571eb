/* SPDX-License-Identifier: Apache-2.0 */
/* Which part of which tensor of a checkpoint lies where. */
#ifndef UNZERO_MAP_H
#define UNZERO_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dtype.h"
#include "error.h"
#include "input.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What is wanted; start from uz_fragment_map_options_default. Strings are borrowed. */
struct uz_map_options {
    struct uz_input_options input; /**< how to read the checkpoint */
    const char *state; /**< optimizer state to map instead of the weights; NULL (default): none */
    /**
     * The tensor of that name or, if there is none, those whose name it matches as a regular
     * expression (Python's syntax, anywhere in the name). NULL (default): all.
     */
    const char *param;
};

#define UZ_MAP_NO_RANK UINT32_MAX

/** A tensor. */
struct uz_map_tensor {
    const char *name;
    const char *role;  /**< "parameter", "frozen", "buffer", "state" */
    const char *state; /**< the optimizer state, NULL for weights and buffers */
    enum uz_dtype dtype;
    unsigned ndim;
    const uint64_t *shape;
    uint64_t numel;
    size_t first_fragment, n_fragments; /**< its fragments, by the element they begin at */
};

/** A part of a tensor that lies in one storage: ZeRO's fragment. Elements count row-major. */
struct uz_map_fragment {
    size_t tensor;    /**< index of the tensor */
    size_t partition; /**< index of the partition it lies in */
    uint64_t first;   /**< element of the tensor where it begins */
    uint64_t n_elems;
    /** Its elements do not follow one another: it is a block of the tensor, first..last are its
     * ends */
    bool strided;
    uint64_t last;            /**< last element of the tensor in it */
    uint64_t partition_first; /**< element of the partition where it begins */
};

/** A storage in a file: in ZeRO a rank's partition of a flat group. */
struct uz_map_partition {
    const char *path; /**< of the file */
    uint32_t dp_rank; /**< by the file's name; UZ_MAP_NO_RANK if that tells none */
    uint32_t mp_rank; /**< model-parallel rank, likewise */
    enum uz_dtype dtype;
    uint64_t n_elems;    /**< elements it has room for, padding included */
    uint64_t offset;     /**< byte of the file where element 0 lies; UINT64_MAX if compressed */
    const char *packing; /**< "stored", "deflate", "zstd" */
    size_t n_fragments;  /**< entries in order from first_in_order on */
    size_t first_in_order;
};

/** The map. All arrays belong to it. */
struct uz_map_view {
    const struct uz_map_tensor *tensors; /**< in the order of the module */
    size_t n_tensors;
    const struct uz_map_fragment *fragments; /**< by tensor */
    size_t n_fragments;
    const struct uz_map_partition *partitions; /**< by file (as ranks go) and place in it */
    size_t n_partitions;
    const size_t *order; /**< indices of fragments by partition and element of it */
    struct uz_source_info source;
    const char *const *warnings;
    size_t n_warnings;
};

struct uz_fragment_map;

/** Sets the documented defaults. */
UZ_API void uz_fragment_map_options_default(struct uz_map_options *options);

/**
 * Reads the metadata of a checkpoint and makes its map, which the caller frees with
 * uz_fragment_map_free; *map is set only on success. UZ_ARG if no tensor is meant by `param`, or
 * for a regular expression that is wrong; else any status of reading. Once made a map does not
 * change: any number of threads may read it.
 */
UZ_API int uz_fragment_map_new(struct uz_fragment_map **map, const char *checkpoint,
                               const struct uz_map_options *options, struct uz_error *err);

/** What is in it. */
UZ_API const struct uz_map_view *uz_fragment_map_view(const struct uz_fragment_map *map);

/** NULL is allowed. */
UZ_API void uz_fragment_map_free(struct uz_fragment_map *map);

#ifdef __cplusplus
}
#endif
#endif
