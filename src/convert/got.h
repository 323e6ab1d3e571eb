/* SPDX-License-Identifier: Apache-2.0 */
/* The insides of a tensor that was found; shared by the files that give it away. */
#ifndef UZ_CONVERT_GOT_H
#define UZ_CONVERT_GOT_H

#include <unzero/get.h>

#include "engine/fetch.h"
#include "engine/spool.h"
#include "input/open.h"
#include "layout/slice.h"

enum { UZ_GOT_BLOCK_NBYTES = 1 << 20 }; /* read at a time */

struct uz_got {
    struct uz_model model;
    struct uz_input_info source;
    struct uz_notes notes;
    struct uz_spool *spool;
    unsigned threads;
    uint32_t tensor;
    struct uz_slice slice;
    struct uz_got_info info;
    struct uz_fetch fetch; /* of the caller's thread */
};

/* uz_got_read through another thread's fetch. */
int uz_got_read_with(const struct uz_got *got, struct uz_fetch *fetch, uint64_t first,
                     uint64_t n_elems, void *out, struct uz_error *err);

#endif
