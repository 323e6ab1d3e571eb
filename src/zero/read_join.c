/* SPDX-License-Identifier: Apache-2.0 */
/* From the models of all ranks, and the layer files of a pipeline, to one. */
#include <stdlib.h>
#include <string.h>

#include "zero/grid_join.h"
#include "zero/pipe_layers.h"
#include "zero/read_impl.h"
#include "zero/tp_rules.h"

/* The rules for tensor parallelism that a stage's first rank records; NULL if there are none. */
static int read_rules(const struct uz_read *c, uint32_t pp, struct uz_tp_rules **rules,
                      struct uz_error *err)
{
    struct uz_torch_file *file;
    const char *path = c->slices[pp * c->grid.tp].model->files[0];
    UZ_TRY(uz_torch_open(&file, path, &c->options->input.limits, err));
    const struct uz_node *info = uz_node_get(uz_torch_root(file), "universal_checkpoint_info");
    const struct uz_dict *dict = uz_node_dict(info);
    int rc = UZ_OK;
    if (info && !uz_node_is_none(info) && !(dict && dict->n == 0))
        rc = uz_tp_rules_read(rules, info, "universal_checkpoint_info", &c->options->input.limits,
                              err);
    uz_torch_close(file);
    return rc < 0 ? uz_error_in_file(err, rc, path) : UZ_OK;
}

/* ---- Layer files ---- */

/* Names that stages list as buffers. */
struct buffers {
    struct uz_map *index;
    const char **names;
    size_t n, cap;
};

static int list_buffers(const struct uz_read *c, struct buffers *buffers, struct uz_error *err)
{
    buffers->index = uz_map_new();
    if (!buffers->index)
        return uz_fail_nomem(err, sizeof(void *));
    for (uint32_t i = 0; i < c->n_slices; i++)
        for (size_t k = 0; k < c->slices[i].n_buffers; k++) {
            const char *name = c->slices[i].buffers[k], **slot;
            bool present;
            UZ_TRY(uz_map_add(buffers->index, name, strlen(name), 0, &present, err));
            if (present)
                continue;
            UZ_TRY(UZ_APPEND(buffers->names, buffers->n, buffers->cap, &slot, err));
            *slot = name;
        }
    return UZ_OK;
}

/* The layer files' weights are all there is: by request, or in stage 0 without mixed precision. */
static bool has_no_masters(const struct uz_read *c)
{
    enum uz_layout layout = c->slices[0].layout;
    return layout == UZ_LAYOUT_LP ||
           (layout == UZ_LAYOUT_STAGE0 && c->slices[0].model->n_tensors == 0);
}

/* `stages` has room for one pointer a stage. */
static int read_layers_of(struct uz_read *c, uint32_t tp, const struct buffers *buffers,
                          const struct uz_model **stages, struct uz_error *err)
{
    const struct uz_pipe_layers layers = {
        .topology = &c->topology,
        .tp = tp,
        .stages = stages,
        .n_stages = c->grid.pp,
        .buffers = buffers->index,
        .buffer_names = buffers->names,
        .n_buffer_names = buffers->n,
        .lone_role = has_no_masters(c) ? UZ_ROLE_PARAM : UZ_ROLE_FROZEN,
        .limits = &c->options->input.limits,
        .notes = c->notes,
    };
    for (uint32_t pp = 0; pp < c->grid.pp; pp++) {
        const struct uz_reading *slice = &c->slices[pp * c->grid.tp + tp];
        stages[pp] = slice->has_shapes ? &slice->shapes : slice->model;
    }
    UZ_TRY(uz_model_init(&c->layers[tp], &c->options->input.limits, err));
    c->n_layers++;
    return uz_pipe_layers_read(&layers, &c->layers[tp], err);
}

static int read_layers(struct uz_read *c, struct uz_error *err)
{
    const struct uz_model **stages = NULL;
    struct buffers buffers = {0};
    int rc = list_buffers(c, &buffers, err);
    if (rc == UZ_OK)
        rc = uz_alloc(&c->layers, c->grid.tp, sizeof *c->layers, err);
    if (rc == UZ_OK)
        rc = uz_alloc(&stages, c->grid.pp, sizeof *stages, err);
    for (uint32_t tp = 0; rc == UZ_OK && tp < c->grid.tp; tp++)
        rc = read_layers_of(c, tp, &buffers, stages, err);
    free(stages);
    free(buffers.names);
    uz_map_free(buffers.index);
    return rc;
}

/* ---- The join ---- */

/* Rules that took the place of those that stages record. */
static void replace_rules(struct uz_tp_rule_sets *rules, struct uz_tp_rules *own)
{
    for (size_t i = 0; i < rules->n; i++) {
        uz_tp_rules_free(rules->of[i]);
        rules->of[i] = NULL;
    }
    rules->of[0] = own;
}

/* Joins what the ranks' models hold; `models` is room for pointers. */
static int join_own(struct uz_read *c, const struct uz_model **models, struct uz_error *err)
{
    struct uz_tp_rules *own = NULL;
    struct uz_grid_sources sources = {
        .grid = c->grid,
        .slices = models,
        .has_layers = c->has_layers,
        .all_copies = c->options->all_copies,
        .rules = c->tp_rules.of,
        .tp_map = c->options->input.tp_map,
        .limits = &c->options->input.limits,
    };
    if (c->has_layers)
        UZ_TRY(read_layers(c, err));
    for (uint32_t i = 0; i < c->n_slices; i++)
        models[i] = &c->own[i].model;
    for (uint32_t tp = 0; tp < c->n_layers; tp++)
        models[c->n_slices + tp] = &c->layers[tp];
    for (uint32_t pp = 0; pp < c->grid.pp; pp++)
        UZ_TRY(read_rules(c, pp, &c->tp_rules.of[pp], err));
    int rc = uz_grid_join(c->model, &sources, &own, c->notes, err);
    if (own)
        replace_rules(&c->tp_rules, own);
    UZ_TRY(rc);
    return uz_model_finish(c->model, err);
}

int uz_read_join(struct uz_read *c, struct uz_error *err)
{
    const struct uz_model **models = NULL;
    if (!c->own)
        return UZ_OK;
    int rc = uz_alloc(&models, c->n_slices + (uint64_t)c->grid.tp, sizeof *models, err);
    if (rc == UZ_OK)
        rc = uz_alloc(&c->tp_rules.of, c->grid.pp, sizeof *c->tp_rules.of, err);
    if (rc == UZ_OK) {
        c->tp_rules.n = c->grid.pp;
        rc = join_own(c, models, err);
    }
    free(models);
    return rc;
}
