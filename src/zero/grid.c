/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the degrees of parallelism and holds all records against each other. */
#include "zero/grid.h"

#include <stdio.h>

#include "base/file.h"
#include "base/mem.h"

/* Writes "1, 3" to buf: numbers below n that no shard of the list is of. */
static void list_missing(const struct uz_shard_file *shards, size_t n_shards, uint32_t n, char *buf,
                         size_t size)
{
    size_t used = 0, next = 0;
    buf[0] = '\0';
    for (uint32_t mp = 0; mp < n && used + 32 < size; mp++) {
        while (next < n_shards && shards[next].mp < mp)
            next++;
        if (next == n_shards || shards[next].mp != mp)
            used += (size_t)snprintf(buf + used, size - used, "%s%u", used ? ", " : "", mp);
    }
}

int uz_grid_count(const struct uz_topology *topology, enum uz_shard_kind kind, uint32_t *n,
                  struct uz_error *err)
{
    size_t n_shards;
    const struct uz_shard_file *shards = uz_topology_shards(topology, kind, &n_shards);
    char missing[256];
    *n = n_shards ? shards[n_shards - 1].mp + 1 : 0;
    list_missing(shards, n_shards, *n, missing, sizeof missing);
    if (!*missing)
        return UZ_OK;
    return uz_fail_at(err, UZ_MISMATCH, topology->dir, UZ_NO_OFFSET,
                      "Expected '*_model_states.pt' of model-parallel ranks 0 to %u (%s) under %s; "
                      "missing: rank %s",
                      *n - 1, shards[n_shards - 1].name, topology->dir, missing);
}

uint32_t uz_grid_layer_ranks(const struct uz_topology *topology)
{
    size_t n;
    const struct uz_shard_file *layers = uz_topology_shards(topology, UZ_SHARD_LAYER, &n);
    return n ? layers[n - 1].mp + 1 : 0; /* sorted by rank */
}

/* Every file must record what the first does; the message lists those that do not. */
static int check_records(const struct uz_grid_record *records, uint32_t n, struct uz_error *err)
{
    const struct uz_metadata *first = records[0].metadata;
    char list[640] = "";
    size_t used = 0;
    for (uint32_t i = 1; i < n; i++) {
        const struct uz_metadata *other = records[i].metadata;
        if (other->pp_degree == first->pp_degree && other->tp_degree == first->tp_degree &&
            other->mp_world_size == first->mp_world_size)
            continue;
        if (used + 160 < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "; %.100s: pp %llu, tp %llu",
                                     uz_path_name(records[i].path),
                                     (unsigned long long)other->pp_degree,
                                     (unsigned long long)other->tp_degree);
    }
    if (!used)
        return UZ_OK;
    return uz_fail_at(err, UZ_MISMATCH, records[0].path, UZ_NO_OFFSET,
                      "records pipeline stages (pp) %llu and tensor ranks (tp) %llu in "
                      "checkpoint_parallel_dimensions, 0 standing for none, and other files "
                      "disagree%s",
                      (unsigned long long)first->pp_degree, (unsigned long long)first->tp_degree,
                      list);
}

static int does_not_fit(const struct uz_grid_record *first, uint32_t n, uint64_t pp, uint64_t tp,
                        const char *source, struct uz_error *err)
{
    return uz_fail_at(err, UZ_MISMATCH, first->path, UZ_NO_OFFSET,
                      "there are model states of %u model-parallel ranks, but by %s there are %llu "
                      "pipeline stages (pp) x %llu tensor ranks (tp)",
                      n, source, (unsigned long long)pp, (unsigned long long)tp);
}

int uz_grid_find(struct uz_grid *grid, const struct uz_topology *topology,
                 const struct uz_grid_record *records, uint32_t n, struct uz_error *err)
{
    const struct uz_metadata *first = records[0].metadata;
    uint64_t pp = first->pp_degree, tp = first->tp_degree, product;
    uint32_t by_layers = uz_grid_layer_ranks(topology);
    UZ_TRY(check_records(records, n, err));
    if (pp && tp) {
        if (!uz_mul_u64(pp, tp, &product) || product != n)
            return does_not_fit(&records[0], n, pp, tp, "checkpoint_parallel_dimensions", err);
        if (by_layers && by_layers != tp)
            return does_not_fit(&records[0], n, n / by_layers, by_layers, "the layer files", err);
    } else {
        tp = by_layers ? by_layers : n;
        pp = n / tp;
        if (pp * tp != n)
            return does_not_fit(&records[0], n, pp, tp, "the layer files", err);
        /* of a pipeline some versions record the tensor ranks alone */
        if (first->mp_world_size > 1 && first->mp_world_size != n && first->mp_world_size != tp)
            return uz_fail_at(err, UZ_MISMATCH, records[0].path, UZ_NO_OFFSET,
                              "records mp_world_size %llu, but there are model states of %u "
                              "model-parallel ranks",
                              (unsigned long long)first->mp_world_size, n);
    }
    *grid = (struct uz_grid){.pp = (uint32_t)pp, .tp = (uint32_t)tp};
    return UZ_OK;
}
