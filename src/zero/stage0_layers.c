/* SPDX-License-Identifier: Apache-2.0 */
/* Opens all stages and layer files of a pipeline without ZeRO, each once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "zero/grid.h"
#include "zero/stage0_layers.h"

enum { NAME_NBYTES = 4096 };

int uz_stage0_layers_refuse(const struct uz_stage0_layers *layers, const char *why,
                            struct uz_error *err)
{
    return uz_fail_at(err, UZ_UNSUPPORTED, layers->topology->dir, UZ_NO_OFFSET,
                      "a pipeline without ZeRO (stage 0) keeps masters and states without names, "
                      "and which layers they are of cannot be told: %s; --source lp exports the "
                      "low-precision weights",
                      why);
}

/* ---- What all stages have ---- */

static int note_buffers(struct uz_stage0_layers *l, const struct uz_torch_file *file,
                        struct uz_error *err)
{
    const struct uz_seq *list = uz_node_list(uz_node_get(uz_torch_root(file), "buffer_names"));
    for (size_t i = 0; list && i < list->n; i++) {
        const struct uz_text *text = &list->items[i]->u.text;
        const char *name;
        if (list->items[i]->kind != UZ_NODE_STR)
            continue;
        UZ_TRY(uz_arena_strndup(l->arena, text->data, text->nbytes, &name, err));
        UZ_TRY(uz_map_add(l->buffers, name, text->nbytes, 0, NULL, err));
    }
    return UZ_OK;
}

static int count_masters(struct uz_stage0_layers *l, uint32_t stage, struct uz_torch_file *file,
                         struct uz_error *err)
{
    struct uz_masters masters;
    int rc = uz_masters_read(&masters, file, err);
    for (size_t g = 0; rc == UZ_OK && g < masters.n_groups; g++)
        if (!uz_add_u64(l->totals[stage], masters.totals[g], &l->totals[stage]))
            rc = uz_fail_at(err, UZ_CORRUPT, uz_torch_path(file), UZ_NO_OFFSET,
                            "has more than 2^64 masters");
    if (rc == UZ_OK && stage > 0 && masters.form != l->form)
        rc = uz_fail_at(err, UZ_MISMATCH, uz_torch_path(file), UZ_NO_OFFSET,
                        "holds masters in another form than the first pipeline stage");
    l->form = masters.form;
    uz_masters_free(&masters);
    return rc;
}

static int read_stages(struct uz_stage0_layers *l, struct uz_error *err)
{
    size_t n;
    const struct uz_shard_file *ranks = uz_topology_shards(l->topology, UZ_SHARD_MODEL, &n);
    l->n_stages = (uint32_t)n / l->n_tp;
    if (n % l->n_tp != 0)
        return uz_fail_at(err, UZ_MISMATCH, l->topology->dir, UZ_NO_OFFSET,
                          "there are model states of %zu model-parallel ranks, but layer files of "
                          "%u tensor ranks",
                          n, l->n_tp);
    UZ_TRY(uz_alloc(&l->totals, l->n_stages, sizeof *l->totals, err));
    for (uint32_t stage = 0; stage < l->n_stages; stage++) {
        struct uz_torch_file *file;
        const struct uz_shard_file *rank = &ranks[stage * l->n_tp + l->tp];
        char *path = uz_shard_path(l->topology, rank);
        if (!path)
            return uz_fail_nomem(err, strlen(rank->name));
        int rc = uz_torch_open(&file, path, l->limits, err);
        free(path);
        UZ_TRY(rc);
        rc = note_buffers(l, file, err);
        if (rc == UZ_OK)
            rc = count_masters(l, stage, file, err);
        uz_torch_close(file);
        UZ_TRY(rc);
    }
    return UZ_OK;
}

/* ---- What all layers have ---- */

static int add_entry(struct uz_stage0_layers *l, size_t shard, struct uz_torch_file *file,
                     const struct uz_pair *pair, struct uz_error *err)
{
    struct uz_stage0_entry *entry;
    char name[NAME_NBYTES];
    const struct uz_text *key = &pair->key->u.text;
    if (pair->key->kind != UZ_NODE_STR || key->nbytes > sizeof name - 16)
        return uz_fail_at(err, UZ_CORRUPT, uz_torch_path(file), UZ_NO_OFFSET,
                          "has a key that is no name");
    snprintf(name, sizeof name, "%u.%.*s", l->shards[shard].layer, (int)key->nbytes, key->data);
    if (!uz_torch_is_tensor(pair->value) || uz_map_get(l->buffers, name, strlen(name), NULL))
        return UZ_OK;
    UZ_TRY(UZ_APPEND(l->entries, l->n, l->cap, &entry, err));
    entry->shard = shard;
    UZ_TRY(uz_arena_strndup(l->arena, name, strlen(name), &entry->name, err));
    UZ_TRY(uz_torch_tensor(file, pair->value, entry->name, &entry->view, err));
    entry->weight = l->form == UZ_MASTERS_FLAT ? entry->view.numel : 1;
    if (entry->view.numel == 0 && l->form != UZ_MASTERS_NONE)
        l->n--; /* it has no master */
    return UZ_OK;
}

static int read_layers(struct uz_stage0_layers *l, struct uz_error *err)
{
    for (size_t i = 0; i < l->n_shards; i++) {
        struct uz_torch_file *file;
        char *path = uz_shard_path(l->topology, &l->shards[i]);
        if (!path)
            return uz_fail_nomem(err, strlen(l->shards[i].name));
        int rc = uz_torch_open(&file, path, l->limits, err);
        free(path);
        UZ_TRY(rc);
        const struct uz_dict *pairs = uz_node_dict(uz_torch_root(file));
        for (size_t k = 0; rc == UZ_OK && pairs && k < pairs->n; k++)
            rc = add_entry(l, i, file, &pairs->pairs[k], err);
        uz_torch_close(file);
        UZ_TRY(rc);
    }
    return UZ_OK;
}

/* ---- What follows from the numbers ---- */

/* Places of all entries, and of all masters beyond them. */
static int count_ties(struct uz_stage0_layers *l, struct uz_error *err)
{
    uint64_t all = 0, masters = 0;
    for (size_t i = 0; i < l->n; i++)
        if (!uz_add_u64(all, l->entries[i].weight, &all))
            return uz_stage0_layers_refuse(l, "there are more than 2^64 elements", err);
    for (uint32_t stage = 0; stage < l->n_stages; stage++)
        if (!uz_add_u64(masters, l->totals[stage], &masters))
            return uz_stage0_layers_refuse(l, "there are more than 2^64 masters", err);
    l->any_frozen = masters < all;
    l->n_tied = l->any_frozen ? 0 : masters - all;
    if (l->n_tied > l->totals[l->n_stages - 1] || (l->n_tied > 0 && l->n_stages == 1))
        return uz_stage0_layers_refuse(l, "there are more masters than parameters", err);
    if (l->n_tp > 1 && (l->any_frozen || l->n_tied > 0))
        return uz_fail_at(err, UZ_UNSUPPORTED, l->topology->dir, UZ_NO_OFFSET,
                          "a pipeline without ZeRO (stage 0) with several tensor ranks is not "
                          "supported if layers are tied or frozen: how tensor ranks are joined is "
                          "recorded under the names of tied layers, and which are tied is not");
    return UZ_OK;
}

int uz_stage0_layers_read(struct uz_stage0_layers *l, const struct uz_topology *topology,
                          uint32_t tp, const struct uz_limits *limits, struct uz_error *err)
{
    *l = (struct uz_stage0_layers){
        .topology = topology,
        .tp = tp,
        .n_tp = uz_grid_layer_ranks(topology),
        .limits = limits,
        .buffers = uz_map_new(),
        .arena = uz_arena_new(limits->max_pickle_arena),
    };
    if (!l->buffers || !l->arena)
        return uz_fail_nomem(err, sizeof(void *));
    l->shards = uz_topology_shards_of(topology, UZ_SHARD_LAYER, tp, &l->n_shards);
    UZ_TRY(read_stages(l, err));
    UZ_TRY(read_layers(l, err));
    return count_ties(l, err);
}

void uz_stage0_layers_free(struct uz_stage0_layers *l)
{
    uz_map_free(l->buffers);
    uz_arena_free(l->arena);
    free(l->entries);
    free(l->totals);
    *l = (struct uz_stage0_layers){0};
}
