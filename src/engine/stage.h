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
 * (else UZ_ARG naming it). In the way are, without `force`, files with a name of the outputs or of
 * the family; and always what no file can replace: a folder with an output's name, a device, a
 * pipe. A folder with another name of the family is foreign, as all other names are.
 */
int uz_stage_check(const struct uz_stage_options *options, const struct uz_out *out,
                   struct uz_error *err);

/* UZ_IO with both numbers if the target's file system has no room for the output. */
int uz_stage_check_room(const struct uz_stage_options *options, const struct uz_out *out,
                        struct uz_error *err);

/*
 * Makes the output folder and, in it, the staging folder, which is locked against a second run.
 * Creates all files of `out` with their sizes.
 *
 * What an interrupted run left in the staging folder is removed, but for old files that a run moved
 * aside (NAME.replaced) and that was killed before its commit came to an end. They get their names
 * back first; then they are in the way as any old file is: UZ_ARG without `force`. (The check
 * touches nothing, so it does not foresee that.) If new files of such a run stand under those
 * names, only a run with `force` gets so far; the old ones take their place, since old and new
 * files must not mix. A commit had come to its end if no new file is left in the staging folder and
 * there are files under final names: what it replaced is removed then.
 */
int uz_stage_open(struct uz_stage **stage, const struct uz_stage_options *options,
                  const struct uz_out *out, struct uz_error *err);

/* Paths of the staged files, one for each file of the output. */
char *const *uz_stage_paths(const struct uz_stage *stage);

/*
 * Makes the staged files durable and gives them their names; foreign files are not touched.
 *
 * One file that replaces one takes its place in a single step. Otherwise the old files (outputs'
 * names and the family's) are moved into the staging folder as NAME.replaced, the index first, and
 * the new ones get their names, the last file (the index) last. If any step fails, all are undone
 * and the output folder is as it was; if that fails too, the error says so, and what was moved
 * aside stays in the staging folder, for uz_stage_open to put back. Old files are removed by
 * uz_stage_close. UZ_ARG if without `force` a file came into the way since uz_stage_open.
 */
int uz_stage_commit(struct uz_stage *stage, struct uz_error *err);

/* Removes what was not committed, the output folder too if it was made for nothing. NULL is fine.
 */
void uz_stage_close(struct uz_stage *stage);

#endif
