/* SPDX-License-Identifier: Apache-2.0 */
/* The insides of an inspection, shared by the inspect_*.c files only. */
#ifndef UZ_CHECK_INSPECTION_H
#define UZ_CHECK_INSPECTION_H

#include "base/notes.h"
#include "check/census.h"
#include "input/open.h"
#include "zero/topology.h"

struct uz_inspection {
    struct uz_inspect_summary summary;
    struct uz_input_options options;
    struct uz_census census;
    struct uz_arena *arena; /* texts of what follows */
    struct uz_topology topology;
    struct uz_model model;
    bool has_model;
    struct uz_input_info info;
    struct uz_notes notes;
    struct uz_param_group *groups;
    size_t n_groups, cap_groups;
    const char **client_keys;
    size_t n_client_keys, cap_client_keys;
    struct uz_inspect_tensor *tensors;
    size_t n_tensors, cap_tensors;
    struct uz_file_fault *faults;
    size_t n_faults, cap_faults;
};

/* A copy in the inspection's arena. */
int uz_inspect_keep(struct uz_inspection *in, const char *text, const char **kept,
                    struct uz_error *err);

/* Notes that a file cannot be read, or not all of it. */
int uz_inspect_fault(struct uz_inspection *in, const char *file, const struct uz_error *why,
                     struct uz_error *err);

/* What the first model states, and the first optimizer shard, tell of all. */
int uz_inspect_model_states(struct uz_inspection *in, struct uz_torch_file *file,
                            struct uz_error *err);
int uz_inspect_optimizer(struct uz_inspection *in, struct uz_torch_file *file,
                         struct uz_error *err);

/* The table of tensors from the model, which was read. */
int uz_inspect_list_model(struct uz_inspection *in, struct uz_error *err);

/* The tensors of model states, a layer or an expert, as the file has them. */
int uz_inspect_list_file(struct uz_inspection *in, struct uz_torch_file *file, const char *name,
                         struct uz_error *err);

#endif
