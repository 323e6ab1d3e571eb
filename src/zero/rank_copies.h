/* SPDX-License-Identifier: Apache-2.0 */
/* ZeRO 3: what every rank's model states hold again. */
#ifndef UZ_ZERO_RANK_COPIES_H
#define UZ_ZERO_RANK_COPIES_H

#include "zero/reading.h"

/*
 * A buffer (and what else is whole in `module`) is written by every rank, and read back by every
 * rank from its own file. Adds what ranks 1 and higher hold as layers of the tensors that rank 0
 * told of; the ranks' files were read. UZ_MISMATCH if a copy has another shape or dtype.
 */
int uz_reading_add_rank_copies(struct uz_reading *reading, struct uz_error *err);

#endif
