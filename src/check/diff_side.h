/* SPDX-License-Identifier: Apache-2.0 */
/* One side of a diff: its tensors by name. */
#ifndef UZ_CHECK_DIFF_SIDE_H
#define UZ_CHECK_DIFF_SIDE_H

#include <unzero/diff.h>

#include "base/notes.h"
#include "engine/spool.h"
#include "input/open.h"

/* A name that a tensor has. */
struct uz_side_name {
    const char *name;
    uint32_t tensor;
    bool paired; /* the other side has it, too */
};

struct uz_side {
    struct uz_model model;
    bool has_model;
    struct uz_input_info info;
    struct uz_spool *spool;
    struct uz_arena *arena;
    struct uz_side_name *names; /* all names of all tensors that are compared, in order */
    size_t n_names, cap_names;
    struct uz_map *by_name; /* -> index of names */
};

/*
 * Opens a path, unpacks what is compressed, and lists the names that the rules leave. `other` is
 * NULL for side A; for side B it is that side, and rules only leave names out: those that A has, in
 * the end, stay in any case. Free it, after failures too.
 */
int uz_side_open(struct uz_side *side, const char *path, const struct uz_diff_options *options,
                 const struct uz_side *other, struct uz_notes *notes, struct uz_error *err);

void uz_side_free(struct uz_side *side);

#endif
