/* SPDX-License-Identifier: Apache-2.0 */
/* Elements of a logical tensor in memory: for whoever looks at values instead of writing files. */
#ifndef UZ_ENGINE_FETCH_H
#define UZ_ENGINE_FETCH_H

#include "engine/gather.h"
#include "layout/model.h"

/* What one thread needs. */
struct uz_fetch {
    struct uz_gather gather;
    struct uz_copies copies;
};

/*
 * `model` is finished, checked with uz_fetch_check, and borrowed. buffer_nbytes: for what lies
 * scattered; 1 MiB or more reads well. n_fd_slots: see uz_fd_slots_for. Free with uz_fetch_free,
 * after failures too.
 */
int uz_fetch_init(struct uz_fetch *fetch, const struct uz_model *model, uint64_t buffer_nbytes,
                  unsigned n_fd_slots, struct uz_error *err);

/* One that was zeroed and never initialised is allowed. */
void uz_fetch_free(struct uz_fetch *fetch);

/*
 * Checks what fetching relies on, once for all threads: every piece and every low-precision copy
 * lies inside its storage (else UZ_CORRUPT), and no storage is packed (else UZ_ARG: spool first,
 * see engine/spool.h).
 */
int uz_fetch_check(const struct uz_model *model, struct uz_error *err);

/*
 * Puts elements [lo, lo + n_elems) of a tensor to `out`, row-major, in the machine's byte order, as
 * dtype `to`: the tensor's own, or both castable. Reads only what is asked for; ask for a MiB at a
 * time.
 */
int uz_fetch_elems(struct uz_fetch *fetch, uint32_t tensor, uint64_t lo, uint64_t n_elems,
                   enum uz_dtype to, void *out, struct uz_error *err);

/* The same of the tensor's low-precision copy, which it must have (tensor->lp is not UZ_NONE). */
int uz_fetch_lp(struct uz_fetch *fetch, uint32_t tensor, uint64_t lo, uint64_t n_elems,
                enum uz_dtype to, void *out, struct uz_error *err);

/*
 * Elements [first, first + n_elems) of a storage that holds elements of `dtype`, in the machine's
 * byte order. UZ_CORRUPT if the storage has less.
 */
int uz_fetch_stored(struct uz_fetch *fetch, uint32_t place, uint64_t first, uint64_t n_elems,
                    enum uz_dtype dtype, void *out, struct uz_error *err);

#endif
