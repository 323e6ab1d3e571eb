/* SPDX-License-Identifier: Apache-2.0 */
/* Do ranks that hold the same elements hold the same values? */
#ifndef UZ_CHECK_REPLICAS_H
#define UZ_CHECK_REPLICAS_H

#include <stdbool.h>
#include <stdint.h>

#include "layout/model.h"

/* True if uz_check_replicas or a mean (uz_tensor.is_mean) needs storages at any place. */
bool uz_model_has_layers(const struct uz_model *model);

/*
 * Compares every layer of UZ_LAYER_EQUAL with what it is a copy of, bit for bit (a NaN equals the
 * same NaN, 0 and -0 differ). UZ_MISMATCH names the tensor, both ranks, and the first element that
 * differs; of several that of the first tensor. Reads every copy once, on `threads` threads;
 * buffer_nbytes of memory, three times for each thread. The model is finished, its storages not
 * packed (see engine/spool.h).
 */
int uz_check_replicas(const struct uz_model *model, unsigned threads, uint64_t buffer_nbytes,
                      struct uz_error *err);

/* The same for the layers of one tensor. */
int uz_check_replicas_of(const struct uz_model *model, uint32_t tensor, unsigned threads,
                         uint64_t buffer_nbytes, struct uz_error *err);

#endif
