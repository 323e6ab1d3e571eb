/* SPDX-License-Identifier: Apache-2.0 */
/* Elements of a tensor that is the mean of several. */
#ifndef UZ_ENGINE_MEAN_H
#define UZ_ENGINE_MEAN_H

#include "engine/gather.h"
#include "layout/model.h"

/* Bytes of memory that each thread takes. */
enum { UZ_MEAN_NBYTES = 1 << 20 };

/*
 * Puts elements [lo, hi) of a tensor that has layers of UZ_LAYER_MEAN to `out`, as dtype `to`: its
 * own and the layers' elements are added to 0 one after another and divided by their number, in
 * the stored dtype. `copies` is scratch. UZ_UNSUPPORTED, by name, for a dtype without arithmetic.
 */
int uz_gather_mean(struct uz_gather *gather, struct uz_copies *copies, uint32_t tensor, uint64_t lo,
                   uint64_t hi, enum uz_dtype to, unsigned char *out, struct uz_error *err);

#endif
