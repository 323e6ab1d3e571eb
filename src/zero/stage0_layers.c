/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pipeline in stage 0: which layers are on which stage is recorded nowhere, but each stage has
 * layers that follow one another, and one master for each of their parameters. So if no parameter
 * is frozen, the numbers of masters tell the layers. What is left over are masters of layers that
 * are tied: the last stage has them again, in front of its own (DeepSpeed: runtime/pipe/module.py
 * registers tied modules first).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "zero/masters.h"
#include "zero/reading.h"
#include "zero/source.h"

enum { NAME_NBYTES = 4096 };

/* A parameter's low-precision copy in a layer file. */
struct entry {
    const char *name; /* <layer>.<key> */
    size_t shard;     /* of the layer files */
    uint64_t weight;  /* places that its master takes: one, or elements of a flat group */
    struct uz_view view;
};

struct pipeline {
    struct uz_reading *reading;
    const struct uz_shard_file *shards; /* layer files, in the order of layers */
    size_t n_shards;
    struct entry *entries;
    size_t n, cap;
    uint32_t n_stages;
    uint64_t *totals; /* places in all groups of each stage */
    struct uz_map *buffers;
    enum uz_masters_form form;
};

static int refuse(const struct pipeline *p, const char *why, struct uz_error *err)
{
    return uz_fail_at(err, UZ_UNSUPPORTED, p->reading->topology->dir, UZ_NO_OFFSET,
                      "a pipeline without ZeRO (stage 0) keeps masters and states without names, "
                      "and which layers they are of cannot be told: %s; --source lp exports the "
                      "low-precision weights",
                      why);
}

/* ---- What all stages have ---- */

static int note_buffers(struct pipeline *p, const struct uz_torch_file *file, struct uz_error *err)
{
    const struct uz_seq *list = uz_node_list(uz_node_get(uz_torch_root(file), "buffer_names"));
    struct uz_arena *arena = p->reading->model->arena;
    for (size_t i = 0; list && i < list->n; i++) {
        const struct uz_text *text = &list->items[i]->u.text;
        const char *name;
        if (list->items[i]->kind != UZ_NODE_STR)
            continue;
        UZ_TRY(uz_arena_strndup(arena, text->data, text->nbytes, &name, err));
        UZ_TRY(uz_map_add(p->buffers, name, text->nbytes, 0, NULL, err));
    }
    return UZ_OK;
}

static int count_masters(struct pipeline *p, uint32_t stage, struct uz_torch_file *file,
                         struct uz_error *err)
{
    struct uz_masters masters;
    int rc = uz_masters_read(&masters, file, err);
    for (size_t g = 0; rc == UZ_OK && g < masters.n_groups; g++)
        if (!uz_add_u64(p->totals[stage], masters.totals[g], &p->totals[stage]))
            rc = uz_fail_at(err, UZ_CORRUPT, uz_torch_path(file), UZ_NO_OFFSET,
                            "has more than 2^64 masters");
    if (rc == UZ_OK && stage > 0 && masters.form != p->form)
        rc = uz_fail_at(err, UZ_MISMATCH, uz_torch_path(file), UZ_NO_OFFSET,
                        "holds masters in another form than the first pipeline stage");
    p->form = masters.form;
    uz_masters_free(&masters);
    return rc;
}

static int read_stages(struct pipeline *p, struct uz_error *err)
{
    const struct uz_reading *r = p->reading;
    size_t n;
    const struct uz_shard_file *stages = uz_topology_shards(r->topology, UZ_SHARD_MODEL, &n);
    p->n_stages = (uint32_t)n;
    UZ_TRY(uz_alloc(&p->totals, n, sizeof *p->totals, err));
    for (uint32_t stage = 0; stage < p->n_stages; stage++) {
        struct uz_torch_file *file;
        char *path = uz_shard_path(r->topology, &stages[stage]);
        if (!path)
            return uz_fail_nomem(err, strlen(stages[stage].name));
        int rc = uz_torch_open(&file, path, &r->options->input.limits, err);
        free(path);
        UZ_TRY(rc);
        rc = note_buffers(p, file, err);
        if (rc == UZ_OK)
            rc = count_masters(p, stage, file, err);
        uz_torch_close(file);
        UZ_TRY(rc);
    }
    return UZ_OK;
}

/* ---- What all layers have ---- */

static int add_entry(struct pipeline *p, size_t shard, struct uz_torch_file *file,
                     const struct uz_pair *pair, struct uz_error *err)
{
    struct entry *entry;
    char name[NAME_NBYTES];
    const struct uz_text *key = &pair->key->u.text;
    if (pair->key->kind != UZ_NODE_STR || key->nbytes > sizeof name - 16)
        return uz_fail_at(err, UZ_CORRUPT, uz_torch_path(file), UZ_NO_OFFSET,
                          "has a key that is no name");
    snprintf(name, sizeof name, "%u.%.*s", p->shards[shard].layer, (int)key->nbytes, key->data);
    if (!uz_torch_is_tensor(pair->value) || uz_map_get(p->buffers, name, strlen(name), NULL))
        return UZ_OK;
    UZ_TRY(UZ_APPEND(p->entries, p->n, p->cap, &entry, err));
    entry->shard = shard;
    UZ_TRY(uz_arena_strndup(p->reading->model->arena, name, strlen(name), &entry->name, err));
    UZ_TRY(uz_torch_tensor(file, pair->value, entry->name, &entry->view, err));
    entry->weight = p->form == UZ_MASTERS_FLAT ? entry->view.numel : 1;
    if (entry->view.numel == 0 && p->form != UZ_MASTERS_NONE)
        p->n--; /* it has no master */
    return UZ_OK;
}

static int read_layers(struct pipeline *p, struct uz_error *err)
{
    const struct uz_reading *r = p->reading;
    for (size_t i = 0; i < p->n_shards; i++) {
        struct uz_torch_file *file;
        char *path = uz_shard_path(r->topology, &p->shards[i]);
        if (!path)
            return uz_fail_nomem(err, strlen(p->shards[i].name));
        int rc = uz_torch_open(&file, path, &r->options->input.limits, err);
        free(path);
        UZ_TRY(rc);
        const struct uz_dict *pairs = uz_node_dict(uz_torch_root(file));
        for (size_t k = 0; rc == UZ_OK && pairs && k < pairs->n; k++)
            rc = add_entry(p, i, file, &pairs->pairs[k], err);
        uz_torch_close(file);
        UZ_TRY(rc);
    }
    return UZ_OK;
}

/* ---- Which of them are the stage's ---- */

/* The entries that take `wanted` places from entry `first` on; they must end with a layer. */
static int take(const struct pipeline *p, size_t first, uint64_t wanted, size_t *end,
                struct uz_error *err)
{
    uint64_t sum = 0;
    for (*end = first; *end < p->n && sum < wanted; ++*end)
        sum += p->entries[*end].weight;
    if (sum != wanted)
        return refuse(p, "the stages' masters are not those of whole layers", err);
    if (*end > first && *end < p->n && p->entries[*end].shard == p->entries[*end - 1].shard)
        return refuse(p, "a stage's masters end amid a layer", err);
    return UZ_OK;
}

/* Places of all entries, and of all masters beyond them. */
static int count_ties(const struct pipeline *p, uint64_t *n_tied, struct uz_error *err)
{
    uint64_t all = 0, masters = 0;
    for (size_t i = 0; i < p->n; i++)
        if (!uz_add_u64(all, p->entries[i].weight, &all))
            return refuse(p, "there are more than 2^64 elements", err);
    for (uint32_t stage = 0; stage < p->n_stages; stage++)
        if (!uz_add_u64(masters, p->totals[stage], &masters))
            return refuse(p, "there are more than 2^64 masters", err);
    if (masters < all)
        return refuse(p, "some parameters are frozen", err);
    *n_tied = masters - all;
    if (*n_tied > p->totals[p->n_stages - 1] || (*n_tied > 0 && p->n_stages == 1))
        return refuse(p, "there are more masters than parameters", err);
    return UZ_OK;
}

/* The stage's own entries are [*first, *end). */
static int find_own(const struct pipeline *p, uint64_t n_tied, size_t *first, size_t *end,
                    struct uz_error *err)
{
    *end = 0;
    for (uint32_t stage = 0; stage <= p->reading->mp; stage++) {
        uint64_t wanted = p->totals[stage] - (stage == p->n_stages - 1 ? n_tied : 0);
        *first = *end;
        UZ_TRY(take(p, *first, wanted, end, err));
    }
    return UZ_OK;
}

/* A parameter of the stage; whether it has a master is found out later. */
static int add_candidate(struct pipeline *p, const struct entry *entry, uint32_t file,
                         struct uz_error *err)
{
    struct uz_model *model = p->reading->model;
    const struct uz_view *view = &entry->view;
    struct uz_piece piece;
    uint32_t tensor;
    UZ_TRY(uz_model_add_tensor(model, entry->name, strlen(entry->name), UZ_ROLE_FROZEN, view->dtype,
                               view->ndim, view->shape, &tensor, err));
    UZ_TRY(uz_source_whole(model, file, view, tensor, &piece, err));
    return uz_model_set_lp(model, tensor, view->dtype, &piece, err);
}

static int add_candidates(struct pipeline *p, size_t first, size_t end, struct uz_error *err)
{
    const struct uz_reading *r = p->reading;
    uint32_t file = 0;
    for (size_t i = first; i < end; i++) {
        const struct entry *entry = &p->entries[i];
        if (i == first || entry->shard != p->entries[i - 1].shard) {
            char *path = uz_shard_path(r->topology, &p->shards[entry->shard]);
            if (!path)
                return uz_fail_nomem(err, strlen(p->shards[entry->shard].name));
            int rc = uz_model_add_file(r->model, path, &file, err);
            free(path);
            UZ_TRY(rc);
        }
        UZ_TRY(add_candidate(p, entry, file, err));
    }
    return UZ_OK;
}

static int add_stage(struct pipeline *p, struct uz_error *err)
{
    uint64_t n_tied = 0;
    size_t first, end;
    UZ_TRY(read_stages(p, err));
    UZ_TRY(read_layers(p, err));
    UZ_TRY(count_ties(p, &n_tied, err));
    UZ_TRY(find_own(p, n_tied, &first, &end, err));
    if (p->reading->mp == p->n_stages - 1) {
        if (end != p->n)
            return refuse(p, "the stages' masters are not those of all layers", err);
        if (n_tied > 0)
            first = 0; /* any layer before may be the tied one: values tell */
    }
    return add_candidates(p, first, end, err);
}

int uz_reading_add_stage0_layers(struct uz_reading *reading, struct uz_error *err)
{
    struct pipeline p = {.reading = reading, .buffers = uz_map_new()};
    size_t n;
    const struct uz_shard_file *all = uz_topology_shards(reading->topology, UZ_SHARD_LAYER, &n);
    int rc = p.buffers ? UZ_OK : uz_fail_nomem(err, sizeof(void *));
    p.shards = uz_topology_shards_of(reading->topology, UZ_SHARD_LAYER, 0, &p.n_shards);
    if (rc == UZ_OK && (n != p.n_shards || all != p.shards))
        rc = refuse(&p, "there are several tensor ranks", err);
    if (rc == UZ_OK)
        rc = add_stage(&p, err);
    uz_map_free(p.buffers);
    free(p.entries);
    free(p.totals);
    return rc;
}
