/* SPDX-License-Identifier: Apache-2.0 */
/* Joins the local tensors of model-parallel ranks into logical tensors. */
#ifndef UZ_ZERO_GRID_JOIN_H
#define UZ_ZERO_GRID_JOIN_H

#include "base/notes.h"
#include "layout/model.h"
#include "zero/grid.h"
#include "zero/tp_rules.h"

struct uz_grid_sources {
    struct uz_grid grid;
    /*
     * Finished models of all model-parallel ranks in order, and with has_layers behind them of each
     * tensor rank what its layer files hold (pipe_layers.h).
     */
    const struct uz_model *const *slices;
    bool has_layers;
    bool all_copies;                  /* list further low-precision copies, too (read.h) */
    struct uz_tp_rules *const *rules; /* of each pipeline stage; NULL entries: none are recorded */
    const char *tp_map;               /* the user's file of rules, or NULL */
    const struct uz_limits *limits;
};

/*
 * Fills the empty model, which is not finished yet. Each name becomes one tensor: stages of a
 * pipeline hold different ones, and what two hold under one name is tied and must be equal; tensor
 * ranks' shards are joined as the rules tell, optimizer states and low-precision copies like their
 * parameters. *own_rules, which the caller frees, are those that took the place of recorded ones: a
 * user's, or a family's; NULL: there are none.
 */
int uz_grid_join(struct uz_model *model, const struct uz_grid_sources *sources,
                 struct uz_tp_rules **own_rules, struct uz_notes *notes, struct uz_error *err);

#endif
