/* SPDX-License-Identifier: Apache-2.0 */
/* Shares files of the old checkpoint that are no shards. */
#include "convert/reshard_beside.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/file.h"
#include "zero/shard_name.h"

/* A folder of the old checkpoint, and where in the new one its files go. */
struct folder {
    struct uz_new_tree *tree;
    const char *from, *to;
    bool is_root;
};

static bool is_random_state(const char *name)
{
    return !strcmp(name, "rng_state.pth") || fnmatch("rng_state_[0-9]*.pth", name, 0) == 0;
}

/* Pointers to a tag are the new root's own. */
static bool is_brought(const struct folder *folder, const char *name)
{
    struct uz_shard_file shard;
    if (folder->is_root)
        return strcmp(name, "latest") != 0 && strcmp(name, "latest_universal") != 0 &&
               !is_random_state(name);
    return !uz_parse_shard_name(name, &shard);
}

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static int bring(const struct folder *folder, const char *name, const char *as,
                 struct uz_error *err)
{
    char *from = uz_path_join(folder->from, name), *to = uz_path_join(folder->to, as);
    int rc = from && to ? UZ_OK : uz_fail_nomem(err, strlen(name));
    if (rc == UZ_OK && is_file(from))
        rc = uz_new_tree_share(folder->tree, from, to, err);
    free(from);
    free(to);
    return rc;
}

static int bring_entry(void *cookie, const char *name, struct uz_error *err)
{
    const struct folder *folder = cookie;
    return is_brought(folder, name) ? bring(folder, name, name, err) : UZ_OK;
}

/* ---- Random states ---- */

enum { NAME_NBYTES = 64 };

static void name_random_state(char name[NAME_NBYTES], uint64_t rank, uint64_t world)
{
    if (world == 1)
        (void)snprintf(name, NAME_NBYTES, "rng_state.pth");
    else
        (void)snprintf(name, NAME_NBYTES, "rng_state_%" PRIu64 ".pth", rank);
}

static int has_file(const char *dir, const char *name, bool *found, struct uz_error *err)
{
    char *path = uz_path_join(dir, name);
    if (!path)
        return uz_fail_nomem(err, strlen(name));
    *found = is_file(path);
    free(path);
    return UZ_OK;
}

/* The file that a rank of the new world gets: its own, or that of rank 0. */
struct random_state {
    char from[NAME_NBYTES];
    bool has_own;
};

static int find_random_state(const struct uz_resharding *job, uint64_t rank,
                             struct random_state *state, struct uz_error *err)
{
    const uint64_t old_world = job->source.info.dp_world_size;
    name_random_state(state->from, rank, old_world);
    state->has_own = false;
    if (rank < old_world)
        UZ_TRY(has_file(job->checkpoint, state->from, &state->has_own, err));
    if (!state->has_own)
        name_random_state(state->from, 0, old_world);
    return UZ_OK;
}

/* Without rank 0's there is none for new ranks, and nothing to count. */
int uz_reshard_count_random_states(const struct uz_resharding *job, uint64_t *n_copied,
                                   struct uz_error *err)
{
    struct random_state state;
    UZ_TRY(find_random_state(job, 0, &state, err));
    bool has_first = state.has_own;
    *n_copied = 0;
    for (uint64_t rank = 1; has_first && rank < job->layout.settings.world; rank++) {
        UZ_TRY(find_random_state(job, rank, &state, err));
        *n_copied += !state.has_own;
    }
    return UZ_OK;
}

int uz_reshard_check_trainer(struct uz_resharding *job, struct uz_error *err)
{
    const uint64_t old_world = job->source.info.dp_world_size;
    const uint64_t world = job->layout.settings.world;
    bool has_state;
    UZ_TRY(has_file(job->checkpoint, "trainer_state.json", &has_state, err));
    if (!has_state || world == old_world)
        return UZ_OK;
    return uz_warn(&job->notes, err,
                   "trainer_state.json: transformers' Trainer goes on with the train_batch_size of "
                   "each rank that stands there; with %" PRIu64 " ranks in place of %" PRIu64
                   " change it in the new checkpoint to keep the batch of a step",
                   world, old_world);
}

static int bring_random_states(const struct uz_resharding *job, const struct folder *root,
                               struct uz_error *err)
{
    const uint64_t world = job->layout.settings.world;
    struct random_state state;
    char as[NAME_NBYTES];
    for (uint64_t rank = 0; rank < world; rank++) {
        UZ_TRY(find_random_state(job, rank, &state, err));
        name_random_state(as, rank, world);
        UZ_TRY(bring(root, state.from, as, err));
    }
    return UZ_OK;
}

/* ---- */

/* The root, if the checkpoint was given by it: then the tag folder is in it. */
static int bring_root(const struct uz_resharding *job, struct uz_new_tree *tree,
                      struct uz_error *err)
{
    struct folder root = {tree, job->checkpoint, tree->tree.staging, true};
    char *tagged = uz_path_join(job->checkpoint, job->source.info.tag);
    if (!tagged)
        return uz_fail_nomem(err, strlen(job->checkpoint));
    bool is_root = access(tagged, F_OK) == 0;
    free(tagged);
    if (!is_root)
        return UZ_OK;
    UZ_TRY(uz_each_entry(job->checkpoint, bring_entry, &root, err));
    return bring_random_states(job, &root, err);
}

int uz_reshard_bring_beside(const struct uz_resharding *job, struct uz_new_tree *tree,
                            struct uz_error *err)
{
    struct folder tag = {tree, job->source.topology.dir, tree->tag_dir, false};
    UZ_TRY(bring_root(job, tree, err));
    return uz_each_entry(tag.from, bring_entry, &tag, err);
}
