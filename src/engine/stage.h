/* SPDX-License-Identifier: Apache-2.0 */
/* The staging folder: outputs get their names only when all of them are whole. */
#ifndef UZ_ENGINE_STAGE_H
#define UZ_ENGINE_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "out/target.h"

enum uz_sync {
    UZ_SYNC_NONE, /* leave it to the system when bytes reach the disk */
    UZ_SYNC_DATA, /* contents are durable before a file gets its name */
    UZ_SYNC_FULL, /* and the names are durable before the command ends */
};

/* True for a file name that belongs to the outputs' family, so that a stale one must go. */
typedef bool (*uz_family_fn)(const char *name);

struct uz_stage_options {
    const char *dir;     /* the output folder, made if it is not there */
    const char *staging; /* name of the staging folder inside it */
    uz_family_fn family; /* NULL: only files of the outputs' own names are replaced */
    bool force;          /* replace outputs that exist */
    enum uz_sync sync;
};

struct uz_stage;

/*
 * Checks a target without touching it: `dir` may be made or written, and nothing stands in the way
 * (else UZ_ARG naming it).
 */
int uz_stage_check(const struct uz_stage_options *options, const struct uz_out *out,
                   struct uz_error *err);

/* UZ_IO with both numbers if the target's file system has no room for the output. */
int uz_stage_check_room(const struct uz_stage_options *options, const struct uz_out *out,
                        struct uz_error *err);

/*
 * Makes the output folder and, in it, the staging folder, which is locked against a second run;
 * what an interrupted run left there is removed. Creates all files of `out` with their sizes.
 */
int uz_stage_open(struct uz_stage **stage, const struct uz_stage_options *options,
                  const struct uz_out *out, struct uz_error *err);

/* Paths of the staged files, one for each file of the output. */
char *const *uz_stage_paths(const struct uz_stage *stage);

/*
 * Makes the staged files durable, gives them their names one by one, removes stale files of the
 * family, the last file (the index) last. Foreign files are not touched.
 */
int uz_stage_commit(struct uz_stage *stage, struct uz_error *err);

/* Removes what was not committed, the output folder too if it was made for nothing. NULL is fine.
 */
void uz_stage_close(struct uz_stage *stage);

#endif
