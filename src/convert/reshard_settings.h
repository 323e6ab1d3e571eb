/* SPDX-License-Identifier: Apache-2.0 */
/* The target of a resharding: from a configuration of DeepSpeed to what decides the layout. */
#ifndef UZ_CONVERT_RESHARD_SETTINGS_H
#define UZ_CONVERT_RESHARD_SETTINGS_H

#include "base/notes.h"
#include "convert/reshard_source.h"
#include "out/zero_layout.h"
#include "torch/node_make.h"

struct uz_reshard_target {
    struct uz_zero_settings zero;
    struct uz_maker maker;          /* holds the configuration that the shards get */
    const struct uz_node *config;   /* ds_config of the shards; NULL: the source has none */
    const struct uz_node *clipping; /* where gradients are clipped; NULL: DeepSpeed's default */
};

/* What is asked for. */
struct uz_reshard_wish {
    uint64_t world;
    int stage;             /* 0: the configuration's */
    const char *ds_config; /* a JSON file; NULL: the source's own */
};

/*
 * Reads the configuration. What it leaves to be found out ("auto") is that of the source. UZ_ARG
 * for contradictions, UZ_UNSUPPORTED by name for configurations whose shards are not written.
 * Batch sizes that contradict the new world are a warning. Free with uz_reshard_target_free, after
 * failures too; zeroed before.
 */
int uz_reshard_target_read(struct uz_reshard_target *target, const struct uz_reshard_wish *wish,
                           const struct uz_reshard_source *source, const struct uz_limits *limits,
                           struct uz_notes *notes, struct uz_error *err);
void uz_reshard_target_free(struct uz_reshard_target *target);

/* Does a configuration of DeepSpeed (NULL: none is recorded) train in bf16? */
bool uz_config_has_bf16(const struct uz_node *config);

#endif
