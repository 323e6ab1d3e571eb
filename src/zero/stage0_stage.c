/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pipeline in stage 0: which layers are on which stage is recorded nowhere, but each stage has
 * layers that follow one another, and one master for each of their parameters. So if no parameter
 * is frozen, the numbers of masters tell the layers. What is left over are masters of layers that
 * are tied: the last stage has them again, in front of its own (DeepSpeed: runtime/pipe/module.py
 * registers tied modules first). If some are frozen any stage may have any parameter, and values
 * tell which.
 */
#include <stdlib.h>
#include <string.h>

#include "zero/reading.h"
#include "zero/source.h"

/* The entries that take `wanted` places from entry `first` on; they must end with a layer. */
static int take(const struct uz_stage0_layers *l, size_t first, uint64_t wanted, size_t *end,
                struct uz_error *err)
{
    uint64_t sum = 0;
    for (*end = first; *end < l->n && sum < wanted; ++*end)
        sum += l->entries[*end].weight;
    if (sum != wanted)
        return uz_stage0_layers_refuse(l, "the stages' masters are not those of whole layers", err);
    if (*end > first && *end < l->n && l->entries[*end].shard == l->entries[*end - 1].shard)
        return uz_stage0_layers_refuse(l, "a stage's masters end amid a layer", err);
    return UZ_OK;
}

/* The stage's own entries are [*first, *end). */
static int find_own(const struct uz_stage0_layers *l, uint32_t own, size_t *first, size_t *end,
                    struct uz_error *err)
{
    *end = 0;
    for (uint32_t stage = 0; stage <= own; stage++) {
        uint64_t wanted = l->totals[stage] - (stage == l->n_stages - 1 ? l->n_tied : 0);
        *first = *end;
        UZ_TRY(take(l, *first, wanted, end, err));
    }
    if (own < l->n_stages - 1)
        return UZ_OK;
    if (*end != l->n)
        return uz_stage0_layers_refuse(l, "the stages' masters are not those of all layers", err);
    if (l->n_tied > 0)
        *first = 0; /* any layer before may be the tied one: values tell */
    return UZ_OK;
}

/* A parameter of the stage; whether it has a master is found out later. */
static int add_candidate(struct uz_model *model, const struct uz_stage0_entry *entry, uint32_t file,
                         struct uz_error *err)
{
    const struct uz_view *view = &entry->view;
    struct uz_piece piece;
    uint32_t tensor;
    UZ_TRY(uz_model_add_tensor(model, entry->name, strlen(entry->name), UZ_ROLE_FROZEN, view->dtype,
                               view->ndim, view->shape, &tensor, err));
    UZ_TRY(uz_source_whole(model, file, view, tensor, &piece, err));
    return uz_model_set_lp(model, tensor, view->dtype, &piece, err);
}

static int add_candidates(struct uz_model *model, const struct uz_stage0_layers *l, size_t first,
                          size_t end, struct uz_error *err)
{
    uint32_t file = 0;
    for (size_t i = first; i < end; i++) {
        const struct uz_stage0_entry *entry = &l->entries[i];
        if (i == first || entry->shard != l->entries[i - 1].shard) {
            char *path = uz_shard_path(l->topology, &l->shards[entry->shard]);
            if (!path)
                return uz_fail_nomem(err, strlen(l->shards[entry->shard].name));
            int rc = uz_model_add_file(model, path, &file, err);
            free(path);
            UZ_TRY(rc);
        }
        UZ_TRY(add_candidate(model, entry, file, err));
    }
    return UZ_OK;
}

int uz_reading_read_stage0_layers(struct uz_reading *r, struct uz_error *err)
{
    if (r->layers)
        return UZ_OK;
    UZ_TRY(uz_alloc(&r->layers, 1, sizeof *r->layers, err));
    r->owns_layers = true;
    uint32_t tp = r->mp % uz_grid_layer_ranks(r->topology);
    return uz_stage0_layers_read(r->layers, r->topology, tp, &r->options->input.limits, err);
}

int uz_reading_add_stage0_layers(struct uz_reading *r, struct uz_error *err)
{
    UZ_TRY(uz_reading_read_stage0_layers(r, err));
    const struct uz_stage0_layers *l = r->layers;
    size_t first = 0, end = l->n;
    if (l->any_frozen && l->form == UZ_MASTERS_NONE)
        return uz_stage0_layers_refuse(l, "some parameters are frozen", err);
    if (!l->any_frozen)
        UZ_TRY(find_own(l, r->mp / l->n_tp, &first, &end, err));
    return add_candidates(r->model, l, first, end, err);
}
