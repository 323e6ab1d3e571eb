/* SPDX-License-Identifier: Apache-2.0 */
/* Gather order: elements from wherever they lie in files into memory. */
#ifndef UZ_ENGINE_GATHER_H
#define UZ_ENGINE_GATHER_H

#include "engine/advice.h"
#include "engine/fd_cache.h"
#include "kernels/cast.h"
#include "plan/copies.h"

/* What one thread needs; fields may be read. */
struct uz_gather {
    const struct uz_model *model; /* borrowed */
    const struct uz_cast_ops *ops;
    struct uz_fd_cache sources;
    struct uz_advice advice; /* none, unless it is set after uz_gather_init */
    uint64_t buffer_nbytes;
    unsigned char *scratch;  /* what was read and is not in its place yet; buffer_nbytes */
    unsigned char *summands; /* of means; allocated when first needed */
    uint64_t n_overflows;    /* finite values that became infinite, in all calls */
    struct uz_copy *copies;  /* of the call */
    size_t n_copies;
    unsigned char *out;
};

/* n_fd_slots: see uz_fd_slots_for. Free with uz_gather_free, after failures too. */
int uz_gather_init(struct uz_gather *gather, const struct uz_model *model,
                   const struct uz_cast_ops *ops, uint64_t buffer_nbytes, unsigned n_fd_slots,
                   struct uz_error *err);

/* One that was zeroed and never initialised is allowed. */
void uz_gather_free(struct uz_gather *gather);

/* Carries out n copies, which are sorted for that, into `out`. */
int uz_gather_copies(struct uz_gather *gather, struct uz_copy *copies, size_t n, unsigned char *out,
                     struct uz_error *err);

#endif
