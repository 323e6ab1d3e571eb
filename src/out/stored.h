/* SPDX-License-Identifier: Apache-2.0 */
/* Storages of the output as tensors: each made of parts of the source's tensors, and of zeros. */
#ifndef UZ_OUT_STORED_H
#define UZ_OUT_STORED_H

#include "layout/model.h"

/*
 * What output files store is not what the source calls a tensor: a partition holds parts of many
 * parameters and padding. So the output gets a model of its own, whose tensors are the storages of
 * its files, and whose pieces are those of the source, cut and moved. A plan is made of that model.
 */
struct uz_stored {
    struct uz_model model;
    const struct uz_model *source; /* borrowed */
    uint32_t zeros;                /* place of the padding */
    uint32_t open;                 /* the storage that is being filled */
    uint64_t at, numel;            /* elements of it that are filled, and that it has */
    uint64_t n_zeros;              /* elements of padding in the last one that was closed */
};

/*
 * Starts with no storages; places and files of the finished source keep their numbers. Free with
 * uz_stored_free, after failures too.
 */
int uz_stored_start(struct uz_stored *stored, const struct uz_model *source,
                    const struct uz_limits *limits, struct uz_error *err);
void uz_stored_free(struct uz_stored *stored);

/* Opens a storage of numel elements: tensor number *tensor. `name` (new) is for messages. */
int uz_stored_open(struct uz_stored *stored, const char *name, enum uz_dtype dtype, uint64_t numel,
                   uint32_t *tensor, struct uz_error *err);

/*
 * Puts elements [lo, lo + n_elems) of a source tensor, whose dtype is the storage's, from its
 * element `at` on: not before the end of what was put last. What lies between is zero.
 */
int uz_stored_put(struct uz_stored *stored, uint64_t at, uint32_t tensor, uint64_t lo,
                  uint64_t n_elems, struct uz_error *err);

/* Ends the storage; what is left of it is zero. */
int uz_stored_close(struct uz_stored *stored, struct uz_error *err);

/* A storage that is `place` of file number `file` as it is: numel elements of it. */
int uz_stored_whole(struct uz_stored *stored, const char *name, enum uz_dtype dtype, uint64_t numel,
                    const struct uz_place *place, uint32_t *tensor, struct uz_error *err);

#endif
