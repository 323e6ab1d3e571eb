/* SPDX-License-Identifier: Apache-2.0 */
/* Which pickles have been read before: the ranks' model states are mostly copies of a few. */
#ifndef UZ_TORCH_SEEN_H
#define UZ_TORCH_SEEN_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* GPUs of one machine, whose number stands in the pickles of its ranks, and some more. */
enum { UZ_MAX_SEEN = 64 };

/* XXH3-128 of a pickle: for telling copies, not for proving them against who makes collisions. */
struct uz_pickle_digest {
    uint64_t low, high;
};

/* Any number of threads may ask and add; once it is full, nothing is added. */
struct uz_seen {
    pthread_mutex_t lock;
    size_t n;
    struct uz_pickle_digest digests[UZ_MAX_SEEN];
};

int uz_seen_init(struct uz_seen *seen, struct uz_error *err);
void uz_seen_free(struct uz_seen *seen);

struct uz_pickle_digest uz_pickle_digest(const void *pickle, uint64_t nbytes);

bool uz_seen_has(struct uz_seen *seen, const struct uz_pickle_digest *digest);
void uz_seen_add(struct uz_seen *seen, const struct uz_pickle_digest *digest);

#endif
