/* SPDX-License-Identifier: Apache-2.0 */
/* Collects what verify finds, from any thread. */
#ifndef UZ_CHECK_FINDINGS_H
#define UZ_CHECK_FINDINGS_H

#include <pthread.h>

#include <unzero/verify.h>

#include "base/error.h"
#include "base/mem.h"

enum uz_find {
#define UZ_FINDING(SYMBOL, code, name, severity, advice) UZ_FIND_##SYMBOL,
#include "check/findings.def"
#undef UZ_FINDING
    UZ_FIND_COUNT
};

/* What a finding is about; zeros stand for nothing but ranks and offset: start from UZ_NOWHERE. */
struct uz_where {
    const char *file;
    const char *tensor;
    int64_t dp, mp;
    uint64_t offset;
};

#define UZ_NOWHERE                                                                                 \
    (struct uz_where)                                                                              \
    {                                                                                              \
        .dp = -1, .mp = -1, .offset = UZ_NO_OFFSET                                                 \
    }

struct uz_findings {
    struct uz_finding *items;
    size_t n, cap;
    struct uz_arena *texts; /* owns what items show */
    pthread_mutex_t lock;
};

/* To be freed, after failures too. */
int uz_findings_init(struct uz_findings *findings, struct uz_error *err);
void uz_findings_free(struct uz_findings *findings);

/* Adds a finding; strings are copied and escaped. Fails only without memory. */
int uz_find(struct uz_findings *findings, enum uz_find what, const struct uz_where *where,
            struct uz_error *err, const char *fmt, ...) UZ_PRINTF(5, 6);

/*
 * Turns a failure into a finding about `where` and gives UZ_OK; statuses that are no property of
 * the checkpoint (no memory, cancelled, wrong argument) stay failures. `what` is for UZ_CORRUPT and
 * UZ_MISMATCH; what cannot be read, is of another kind or unsupported has findings of its own.
 */
int uz_find_failure(struct uz_findings *findings, enum uz_find what, const struct uz_where *where,
                    const struct uz_error *failure, struct uz_error *err);

/* True if there is a finding of that severity or above. */
bool uz_findings_reach(struct uz_findings *findings, enum uz_severity severity);

/* False if there is a finding that something could not be looked at. */
bool uz_findings_whole(struct uz_findings *findings);

/* True if there is a finding of severity ERROR about the file. */
bool uz_findings_blame(struct uz_findings *findings, const char *file);

/* The most severe first, then by code, file, ranks and tensor; the same one twice is dropped. */
void uz_findings_sort(struct uz_findings *findings);

#endif
