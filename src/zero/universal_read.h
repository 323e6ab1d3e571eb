/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a universal checkpoint: zero/<name>/<state>.pt beside copies of the model states. */
#ifndef UZ_ZERO_UNIVERSAL_READ_H
#define UZ_ZERO_UNIVERSAL_READ_H

#include "zero/reading.h"

/*
 * Fills the model of a reading that nothing was read of yet, and finishes it. `reading->first` is
 * the model states of the first of n_mp model-parallel ranks, whose tensors stand in zero/ whole.
 * With one rank, buffers, frozen parameters, low-precision copies and ties come from its model
 * states as they do for a ZeRO checkpoint; what 0.19.8 adds for them in zero/ -- widened copies of
 * the module -- is not used.
 */
int uz_universal_read(struct uz_reading *reading, uint32_t n_mp, struct uz_error *err);

#endif
