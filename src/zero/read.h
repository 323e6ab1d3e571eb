/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a ZeRO checkpoint directory into logical tensors with source pieces. */
#ifndef UZ_ZERO_READ_H
#define UZ_ZERO_READ_H

#include <stdbool.h>

#include <unzero/input.h>

#include "base/notes.h"
#include "layout/model.h"
#include "zero/metadata.h"
#include "zero/tp_rules.h"

struct uz_zero_options {
    struct uz_input_options input;
    const char *state; /* optimizer state to read beside the weights; "all"; NULL: none */
    /* What model-parallel rank `mp` holds, its shards as they are; else those of all are joined. */
    bool one_rank;
    uint32_t mp;
    /*
     * List all copies that files hold of a tensor, as layers, for those who change it: further
     * low-precision ones (UZ_LAYER_LP), and what every rank of ZeRO 3 keeps (UZ_LAYER_EQUAL, which
     * may differ all the same). Where that is not known the tensor hides_copies.
     */
    bool all_copies;
};

/* What was found, beside the tensors. */
struct uz_zero_info {
    char *tag;
    int stage;
    uint64_t dp_world_size;
    uint32_t tp, pp;             /* tensor ranks, pipeline stages; 0 for a universal checkpoint */
    struct uz_metadata metadata; /* of the first model-states file */
    bool has_step;
    double step; /* of the optimizer */
    /*
     * The file's own name -> fragment mapping follows another order than its buffers (DeepSpeed's
     * round-robin fault), or the optimizer's step does not fit the model's: whether fp32 and
     * low-precision weights belong together should be proven from the values.
     */
    bool round_robin;
    bool steps_differ;
    /* Experts are put together by numbers in names: values should prove that, too. */
    bool has_experts;
    /* Stage 0: which master is whose was found out from shapes and values. */
    bool masters_by_fit;
    bool is_universal; /* each tensor has a file of its own */
    /*
     * How the shards of tensor ranks were joined; of a pipeline, what each stage records. Empty for
     * a single rank, and if nothing tells it.
     */
    struct uz_tp_rule_sets tp_rules;
    /* Whatever is whole in `module` has copies on other ranks that the model does not tell of. */
    bool buffers_hide_copies;
};

/*
 * Opens CHECKPOINT (a root or a tag folder), reads all metadata, checks that the files belong
 * together, and fills the model (uninitialised before; free it with uz_model_free). Nothing of the
 * tensors' data is read but the optimizers' step counts. Layouts other than ZeRO 1, 2 and 3 with
 * data parallelism are refused by name (UZ_UNSUPPORTED). Warnings are appended to notes.
 */
int uz_zero_read(const char *path, const struct uz_zero_options *options, struct uz_model *model,
                 struct uz_zero_info *info, struct uz_notes *notes, struct uz_error *err);

/* The same in public words; borrows from info. All zero for an info of zeros. */
struct uz_source_info uz_zero_source(const struct uz_zero_info *info);

void uz_zero_info_free(struct uz_zero_info *info);

#endif
