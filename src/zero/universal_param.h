/* SPDX-License-Identifier: Apache-2.0 */
/* One folder zero/<name> of a universal checkpoint: a parameter and its optimizer states. */
#ifndef UZ_ZERO_UNIVERSAL_PARAM_H
#define UZ_ZERO_UNIVERSAL_PARAM_H

#include "torch/file.h"

/* One file of the folder: fp32.pt, exp_avg.pt, ... */
struct uz_universal_state {
    char *name; /* of the state: the file's name without ".pt" */
    char *path;
    bool wanted;
    /* Valid if wanted: */
    struct uz_view view;
    bool whole; /* from a dictionary, so it has the parameter's shape; else flat */
    /*
     * The shape is the file's own matter, not that of param_shapes: padding of a vocabulary was
     * stripped, or the experts of all ranks were joined.
     */
    bool own_shape;
};

struct uz_universal_param {
    struct uz_universal_state *states; /* sorted by name; without step.pt */
    size_t n_states, cap_states;
    bool has_step;
    double step;
};

/*
 * True if a folder inside another can be called by the name: no part of it is empty, "." or "..",
 * and none holds a NUL.
 */
bool uz_universal_name_is_safe(const char *name, size_t nbytes);

/*
 * Lists the folder and reads where the tensors of fp32 and of the wanted state are (`state`: a
 * name, "all", or NULL), and the step. A file that holds no tensor is UZ_CORRUPT. Free with
 * uz_universal_param_free, after failures too. Safe to call from several threads.
 */
int uz_universal_param_read(struct uz_universal_param *param, const char *folder, const char *state,
                            const struct uz_limits *limits, struct uz_error *err);

/*
 * Where the tensor of one state's open file is: {"param": tensor, ...}, or from plain ZeRO-3 a flat
 * tensor. `state` has its path.
 */
int uz_universal_state_read(struct uz_universal_state *state, struct uz_torch_file *file,
                            struct uz_error *err);

void uz_universal_param_free(struct uz_universal_param *param);

/* The weight itself; NULL if the folder has no fp32.pt. */
const struct uz_universal_state *uz_universal_weight(const struct uz_universal_param *param);

#endif
