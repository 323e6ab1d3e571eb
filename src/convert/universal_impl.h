/* SPDX-License-Identifier: Apache-2.0 */
/* What lives while a universal checkpoint is made; shared by universal*.c. */
#ifndef UZ_CONVERT_UNIVERSAL_IMPL_H
#define UZ_CONVERT_UNIVERSAL_IMPL_H

#include <unzero/universal.h>

#include "convert/universal_source.h"
#include "engine/engine.h"
#include "out/saved.h"
#include "out/torch_graph.h"

struct uz_spool;

enum uz_universal_kind {
    UZ_UNIVERSAL_TENSOR, /* a parameter's weight or one of its states */
    UZ_UNIVERSAL_STEP,   /* step.pt of a parameter */
    UZ_UNIVERSAL_LONE,   /* fp32.pt of a key of `module` that is not trained */
};

/* A small file under zero/. */
struct uz_universal_file {
    enum uz_universal_kind kind;
    const char *name;   /* from the output folder on */
    uint32_t tensor;    /* of the model; STEP: the parameter's */
    const void *values; /* LONE that had to be widened here: fp32 elements; or NULL */
};

struct uz_universal_job {
    struct uz_universal_options options;
    char *checkpoint, *out_dir;
    struct uz_universal_source source;
    bool in_dicts;          /* tensors in their shapes, each in a dictionary, and not flat */
    bool has_steps;         /* step.pt is written */
    bool adds_info;         /* universal_checkpoint_info is added to the model states */
    struct uz_arena *arena; /* names of files */
    struct uz_universal_file *files;
    size_t n_files, cap_files;
    /* optimizer_state.pt and the model states: laid out once, with a model of their own */
    struct uz_stored stored;
    struct uz_out values;
    struct uz_engine_options engine;
    struct uz_spool *spool; /* what was compressed and is compared; or NULL */
    struct uz_notes notes;
    char *latest;        /* path of latest_universal */
    const char **states; /* names for the summary */
    struct uz_universal_summary summary;
};

/* Lists the files under zero/ in job->files: all of a parameter one after another. */
int uz_universal_list_files(struct uz_universal_job *job, struct uz_error *err);

/* True for states that the dialect has: DeepSpeed's converter knows two, without which it fails. */
bool uz_universal_is_wanted(const struct uz_universal_job *job, const char *state);

/* Adds files [first, end) of that list to `out`. */
int uz_universal_lay_out(const struct uz_universal_job *job, size_t first, size_t end,
                         struct uz_out *out, struct uz_error *err);

/* {..., "param": tensor}: the keys by which DeepSpeed's loader cuts the tensor for tensor ranks. */
int uz_universal_param_dict(const struct uz_universal_job *job, struct uz_maker *maker,
                            uint32_t tensor, const struct uz_node *param,
                            const struct uz_node **value, struct uz_error *err);

/* Experts that a parameter is one of (native), or a stack of (AutoEP); 0: it is none. */
uint64_t uz_universal_experts(const struct uz_universal_job *job, const char *name);

/* True if the tensor is written flat and by itself. */
bool uz_universal_is_flat(const struct uz_universal_job *job, uint32_t tensor);

/*
 * Elements of a tensor that are written; fewer than it has if the rest is padding of a vocabulary.
 * *rows is what becomes of its first dimension.
 */
int uz_universal_kept(const struct uz_universal_job *job, uint32_t tensor, uint64_t *rows,
                      uint64_t *numel, struct uz_error *err);

/* Lays out zero/optimizer_state.pt and the model states in job->values. */
int uz_universal_add_optimizer(struct uz_universal_job *job, struct uz_error *err);
int uz_universal_add_model_states(struct uz_universal_job *job, struct uz_error *err);

/* Deepspeed's dialect: lists the keys of the modules that have no fp32.pt yet. */
int uz_universal_list_lone(struct uz_universal_job *job, struct uz_error *err);

/* Appends a file to the list; `name` lives in job->arena. */
int uz_universal_add_file(struct uz_universal_job *job, enum uz_universal_kind kind,
                          uint32_t tensor, struct uz_error *err, const char *fmt, ...)
    UZ_PRINTF(5, 6);

#endif
