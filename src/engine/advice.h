/* SPDX-License-Identifier: Apache-2.0 */
/* What the system is told about pages that were read and written. */
#ifndef UZ_ENGINE_ADVICE_H
#define UZ_ENGINE_ADVICE_H

#include <stdbool.h>
#include <stdint.h>

/* Nothing of it changes results, and where the system does not listen nothing is lost but time. */
struct uz_advice {
    bool start_writeback; /* what is written will be synced: the disk may begin at once */
    bool drop; /* what was read and written is not to stay in memory, where it displaces others' */
};

/* After bytes [offset, offset + nbytes) of a file were read: mostly ascending from call to call. */
void uz_advise_read(const struct uz_advice *advice, int fd, uint64_t offset, uint64_t nbytes);

/* After they were written. */
void uz_advise_written(const struct uz_advice *advice, int fd, uint64_t offset, uint64_t nbytes);

/* When all of an output file is written. */
void uz_advise_complete(const struct uz_advice *advice, int fd);

#endif
