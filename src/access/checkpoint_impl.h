/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of an open checkpoint. */
#ifndef UZ_ACCESS_CHECKPOINT_IMPL_H
#define UZ_ACCESS_CHECKPOINT_IMPL_H

#include <pthread.h>

#include <unzero/checkpoint.h>

#include "engine/fetch.h"
#include "engine/spool.h"
#include "zero/read.h"

/* Where a view's elements come from; the cookie of its source. */
struct uz_origin {
    struct uz_checkpoint *checkpoint;
    uint32_t number; /* of a partition, or of a tensor */
    struct uz_view_source source;
};

/* The tensor that is a state of a parameter. */
struct uz_state_of {
    uint32_t param, state, tensor;
};

struct uz_checkpoint {
    struct uz_model model;
    struct uz_zero_info zero;
    struct uz_notes notes;
    struct uz_spool *spool;
    struct uz_checkpoint_info info;
    size_t n_weights;           /* tensors that are no states: the first of the model */
    struct uz_state_of *states; /* sorted by parameter and state */
    size_t n_states;
    uint32_t *sorted;             /* partitions by rank, group and state */
    uint32_t *at_place;           /* place in `sorted` of the partition in a storage; UZ_NONE */
    struct uz_origin *partitions; /* of each partition */
    pthread_mutex_t lock;         /* of fetch */
    bool has_lock;
    struct uz_fetch fetch;
};

/* The sources of views: elements of a partition, and of a tensor's low-precision copy. */
int uz_read_partition(void *origin, uint64_t first, uint64_t n_elems, void *out,
                      struct uz_error *err);
int uz_read_lp(void *origin, uint64_t first, uint64_t n_elems, void *out, struct uz_error *err);

#endif
