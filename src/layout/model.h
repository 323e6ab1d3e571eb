/* SPDX-License-Identifier: Apache-2.0 */
/* The logical tensors of a checkpoint with their source pieces: what readers make and plans use. */
#ifndef UZ_LAYOUT_MODEL_H
#define UZ_LAYOUT_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <unzero/dtype.h>
#include <unzero/limits.h>

#include "base/error.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/packing.h"
#include "layout/piece.h"

#define UZ_NONE UINT32_MAX

/* Bytes of elements in a file. */
struct uz_place {
    uint32_t file; /* index into files; UZ_NONE: in none, all elements are zero (padding) */
    enum uz_packing packing;
    bool big_endian;        /* order of the bytes in an element */
    uint64_t offset;        /* byte of the file where element 0 lies; 0 if packed */
    uint64_t nbytes;        /* bytes that belong to it */
    uint64_t entry;         /* which stream of the file it is in, if packed */
    uint64_t stream_nbytes; /* memory that going through its file takes, if that is packed whole */
};

/* What a tensor is to the model, which decides the dtype it gets in an output. */
enum uz_role {
    UZ_ROLE_PARAM,  /* has a high-precision master, which is what the pieces hold */
    UZ_ROLE_FROZEN, /* a parameter without a master: frozen, or of zero elements */
    UZ_ROLE_BUFFER, /* not a parameter: running statistics, counters */
    UZ_ROLE_STATE,  /* an optimizer state of a parameter: a tensor of the parameter's shape */
};

/* "parameter", "frozen", "buffer", "state" */
const char *uz_role_name(enum uz_role role);

/* Number of the state that a weight is of itself: uz_model.states[UZ_STATE_WEIGHT] is "fp32". */
enum { UZ_STATE_WEIGHT = 0 };

/* What a further set of pieces of a tensor is to it. */
enum uz_layer_op {
    UZ_LAYER_EQUAL, /* copies of some of its elements, which must be equal bit for bit */
    UZ_LAYER_MEAN,  /* other values of all of its elements: the tensor is the mean of all */
    UZ_LAYER_LP,    /* low-precision copies beside lp_pieces, for those who change a tensor */
};

/*
 * A further set of pieces. The values of a tensor are those of its own pieces, or with layers of
 * UZ_LAYER_MEAN the sum of theirs and the layers', in that order and in the stored dtype, divided
 * by the number of summands. Layers of UZ_LAYER_EQUAL are for the proof (check/replicas.h).
 */
struct uz_layer {
    uint32_t tensor;
    enum uz_layer_op op;
    uint32_t base;    /* EQUAL: the layer it is a copy of, UZ_NONE for the tensor's own pieces */
    const char *rank; /* whose pieces they are, for messages: "tensor rank 1" */
    const char *base_rank;          /* and whose those are that they must be equal to */
    uint64_t first_piece, n_pieces; /* of layer_pieces, sorted */
};

struct uz_tensor {
    const char *name; /* of the parameter or buffer; a state has that of its parameter */
    enum uz_role role;
    uint32_t state;      /* index into uz_model.states; UZ_STATE_WEIGHT unless the role is STATE */
    uint32_t param;      /* of a STATE: the tensor that is its parameter; else the tensor itself */
    uint64_t order;      /* place in the module; set by readers, else the order of adding */
    enum uz_dtype dtype; /* of the elements in the pieces */
    enum uz_dtype lp_dtype; /* of the low-precision copy, UZ_DTYPE_INVALID if unknown */
    unsigned ndim;
    const uint64_t *shape;
    uint64_t numel;
    uint32_t lp; /* lp_pieces [lp, lp + n_lp), sorted, cover the low-precision copy; or UZ_NONE */
    uint32_t n_lp;
    uint32_t first_layer, n_layers;
    bool is_mean;         /* has layers of UZ_LAYER_MEAN */
    bool hides_copies;    /* files hold more copies of it than its pieces and layers tell of */
    uint64_t first_piece; /* pieces [first_piece, first_piece + n_pieces), sorted, cover it */
    uint64_t n_pieces;
};

/* A second name of a tensor: tied weights. */
struct uz_alias {
    const char *name;
    uint32_t tensor;
    uint64_t order; /* place in the module, comparable with that of tensors */
};

/*
 * A flat tensor of one rank: its partition of a group's weights, or of one of their states. Pieces
 * whose storage is `place` lie in it.
 */
struct uz_partition {
    uint32_t mp, rank; /* model-parallel and data-parallel rank */
    uint32_t group;    /* parameter group; ZeRO 3: sub-group */
    uint32_t state;    /* index into uz_model.states */
    uint32_t place;    /* the storage, which holds nothing else of the model */
    uint64_t first;    /* element of the storage where it begins */
    uint64_t numel;    /* that are stored */
    enum uz_dtype dtype;
    uint64_t start; /* ZeRO 1, 2: its first element's place in the flat group; ZeRO 3: 0 */
};

/*
 * Built up by a reader with the functions below, then finished and never changed again: any number
 * of threads may read it. Names, shapes and maps live in its arena.
 */
struct uz_model {
    char **files; /* paths */
    size_t n_files, cap_files;
    struct uz_place *places; /* the storages that pieces name */
    size_t n_places, cap_places;
    struct uz_tensor *tensors; /* in output order once finished */
    size_t n_tensors, cap_tensors;
    struct uz_piece *pieces;
    size_t n_pieces, cap_pieces;
    struct uz_piece *lp_pieces;
    size_t n_lp_pieces, cap_lp_pieces;
    struct uz_layer *layers; /* in the order of tensors once finished */
    size_t n_layers, cap_layers;
    struct uz_piece *layer_pieces;
    size_t n_layer_pieces, cap_layer_pieces;
    struct uz_partition *partitions;
    size_t n_partitions, cap_partitions;
    struct uz_alias *aliases;
    size_t n_aliases, cap_aliases;
    const char **states; /* names of the states that tensors are of; "fp32" is the weight itself */
    size_t n_states, cap_states;
    struct uz_arena *arena;
    struct uz_map *names; /* tensor name -> index; states are not in it */
    uint64_t max_tensors;
    uint64_t max_name_bytes;
};

int uz_model_init(struct uz_model *model, const struct uz_limits *limits, struct uz_error *err);
void uz_model_free(struct uz_model *model);

/* Adds a file by path (copied); its index in *file. */
int uz_model_add_file(struct uz_model *model, const char *path, uint32_t *file,
                      struct uz_error *err);

/* Adds a storage; its index in *place. */
int uz_model_add_place(struct uz_model *model, const struct uz_place *place, uint32_t *index,
                       struct uz_error *err);

/*
 * Adds a tensor without pieces. The name must be UTF-8 without NUL and new (else UZ_CORRUPT: the
 * same name twice); name and shape are copied. Its index in *tensor.
 */
int uz_model_add_tensor(struct uz_model *model, const char *name, size_t name_nbytes,
                        enum uz_role role, enum uz_dtype dtype, unsigned ndim,
                        const uint64_t *shape, uint32_t *tensor, struct uz_error *err);

/* Number of the optimizer state called `name` (copied, added if it is new) in *state. */
int uz_model_add_state(struct uz_model *model, const char *name, size_t name_nbytes,
                       uint32_t *state, struct uz_error *err);

/* Adds state number `state` of the parameter `param`, without pieces; its index in *tensor. */
int uz_model_add_state_tensor(struct uz_model *model, uint32_t param, uint32_t state,
                              enum uz_dtype dtype, uint32_t *tensor, struct uz_error *err);

/* Adds a piece of a tensor, in any order; without elements it is dropped. */
int uz_model_add_piece(struct uz_model *model, const struct uz_piece *piece, struct uz_error *err);

/* Tells what a storage is a partition of. */
int uz_model_add_partition(struct uz_model *model, const struct uz_partition *partition,
                           struct uz_error *err);

/* Sets the whole low-precision copy of a tensor. */
int uz_model_set_lp(struct uz_model *model, uint32_t tensor, enum uz_dtype dtype,
                    const struct uz_piece *piece, struct uz_error *err);

/*
 * Adds a piece of a tensor's low-precision copy; all of one tensor must be added one after another,
 * and cover it.
 */
int uz_model_add_lp_piece(struct uz_model *model, uint32_t tensor, enum uz_dtype dtype,
                          const struct uz_piece *piece, struct uz_error *err);

/* Adds a layer without pieces, whose texts live as long as the model; its number, for `base` of
 * others, in *index. */
int uz_model_add_layer(struct uz_model *model, const struct uz_layer *layer, uint32_t *index,
                       struct uz_error *err);

/* Adds a piece of the layer that was added last. */
int uz_model_add_layer_piece(struct uz_model *model, const struct uz_piece *piece,
                             struct uz_error *err);

/*
 * A map for a whole tensor that is stored with strides (in elements). Lives as long as the model.
 */
int uz_model_strided_map(struct uz_model *model, unsigned ndim, const uint64_t *shape,
                         const uint64_t *src_stride, const struct uz_shard_map **map,
                         struct uz_error *err);

int uz_model_add_alias(struct uz_model *model, const char *name, size_t name_nbytes,
                       uint32_t tensor, uint64_t order, struct uz_error *err);

/* True and the index of the tensor with that name. */
bool uz_model_find(const struct uz_model *model, const char *name, size_t name_nbytes,
                   uint32_t *tensor);

/*
 * Sorts tensors by state (the weights first) and order, pieces by tensor and place, aliases by
 * order, and proves that each tensor is covered exactly, by its own pieces and by every layer of
 * UZ_LAYER_MEAN.
 */
int uz_model_finish(struct uz_model *model, struct uz_error *err);

/*
 * Adds a tensor to a finished model that is not found by its name (which is for messages, and
 * copied), and its only piece, whose tensor is set here: something that is written beside what the
 * model is about.
 */
int uz_model_append(struct uz_model *model, const char *name, enum uz_dtype dtype, unsigned ndim,
                    const uint64_t *shape, const struct uz_piece *piece, uint32_t *tensor,
                    struct uz_error *err);

/* True if a storage can only be read from front to back. */
bool uz_model_is_packed(const struct uz_model *model);

bool uz_same_shape(unsigned ndim_a, const uint64_t *a, unsigned ndim_b, const uint64_t *b);

/* Product of the shape in *numel; UZ_CORRUPT when it or its bytes do not fit 63 bits. */
int uz_shape_numel(unsigned ndim, const uint64_t *shape, uint64_t *numel, struct uz_error *err);

#endif
