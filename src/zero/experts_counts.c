/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many partitions the optimizer groups are cut into: the shard of rank 0 tells, or what a
 * universal checkpoint has kept of it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "zero/experts_impl.h"

static int read_names(struct uz_experts *experts, const struct uz_node *state, struct uz_error *err)
{
    const struct uz_node *own = uz_node_get(state, "param_groups"); /* of a universal checkpoint */
    const struct uz_seq *groups = uz_node_list(
        own ? own : uz_node_get(uz_node_get(state, "base_optimizer_state"), "param_groups"));
    UZ_TRY(uz_alloc(&experts->group_names, experts->n_groups, sizeof *experts->group_names, err));
    for (size_t g = 0; groups && g < groups->n && g < experts->n_groups; g++) {
        const struct uz_node *name = uz_node_get_small(groups->items[g], "name");
        if (name && name->kind == UZ_NODE_STR)
            UZ_TRY(uz_arena_strndup(experts->arena, name->u.text.data, name->u.text.nbytes,
                                    &experts->group_names[g], err));
    }
    return UZ_OK;
}

static int read_counts(struct uz_experts *experts, const struct uz_torch_file *file,
                       const struct uz_node *state, struct uz_error *err)
{
    const struct uz_seq *counts = uz_node_list(uz_node_get(state, "partition_count"));
    if (!counts)
        return uz_fail_at(err, UZ_CORRUPT, uz_torch_path(file), UZ_NO_OFFSET,
                          "has no proper 'partition_count'");
    UZ_TRY(uz_alloc(&experts->partition_counts, counts->n, sizeof *experts->partition_counts, err));
    experts->n_groups = counts->n;
    for (size_t g = 0; g < counts->n; g++)
        if (!uz_node_u64(counts->items[g], &experts->partition_counts[g]))
            return uz_fail_at(err, UZ_CORRUPT, uz_torch_path(file), UZ_NO_OFFSET,
                              "has no proper 'partition_count'");
    return read_names(experts, state, err);
}

/* malloc'ed path of the file that tells; NULL with *rc set. */
static char *find_file(const struct uz_experts_request *request, int *rc, struct uz_error *err)
{
    size_t n;
    const struct uz_shard_file *shard =
        uz_topology_shards_of(request->topology, UZ_SHARD_OPTIM, request->mp, &n);
    if (!shard && !request->topology->is_universal) {
        *rc = uz_fail_at(err, UZ_MISMATCH, request->topology->dir, UZ_NO_OFFSET,
                         "Expected '*_optim_states.pt' of every rank under %s but found none; "
                         "without these files only the 16-bit weights are left: --source lp "
                         "exports them",
                         request->topology->dir);
        return NULL;
    }
    char *path = shard ? uz_shard_path(request->topology, shard)
                       : uz_path_join(request->topology->dir, "zero/optimizer_state.pt");
    *rc = path ? UZ_OK : uz_fail_nomem(err, strlen(request->topology->dir));
    return path;
}

int uz_experts_read_counts(struct uz_experts *experts, const struct uz_experts_request *request,
                           struct uz_error *err)
{
    struct uz_torch_file *file;
    int rc;
    char *path = find_file(request, &rc, err);
    if (!path)
        return rc;
    rc = uz_torch_open(&file, path, request->limits, err);
    free(path);
    UZ_TRY(rc);
    const struct uz_node *root = uz_torch_root(file);
    rc = read_counts(
        experts, file,
        request->topology->is_universal ? root : uz_node_get(root, "optimizer_state_dict"), err);
    uz_torch_close(file);
    return rc;
}
