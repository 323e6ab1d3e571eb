/* SPDX-License-Identifier: Apache-2.0 */
/* Finds a checkpoint's tag folder and lists its shards. */
#include "zero/topology.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "zero/shard_name.h"

enum { MAX_TAG_BYTES = 4096, MAX_LISTED_RANKS = 16 };

static bool is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool exists_in(const char *dir, const char *name)
{
    char *path = uz_path_join(dir, name);
    bool there = path && access(path, F_OK) == 0;
    free(path);
    return there;
}

static int compare_shards(const void *a, const void *b)
{
    const struct uz_shard_file *x = a, *y = b;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    if (x->mp != y->mp)
        return x->mp < y->mp ? -1 : 1;
    if (x->dp != y->dp)
        return x->dp < y->dp ? -1 : 1;
    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int add_entry(struct uz_topology *topology, const char *name, uint64_t max_shards,
                     struct uz_error *err)
{
    struct uz_shard_file shard;
    if (!strcmp(name, "offloaded_tensors"))
        topology->has_offloaded_tensors = true;
    if (!uz_parse_shard_name(name, &shard))
        return UZ_OK;
    if (topology->n_shards >= max_shards)
        return uz_fail_at(err, UZ_LIMIT, topology->dir, UZ_NO_OFFSET, "holds more than %llu shards",
                          (unsigned long long)max_shards);
    UZ_TRY(uz_reserve(&topology->shards, &topology->cap_shards, (uint64_t)topology->n_shards + 1,
                      sizeof *topology->shards, err));
    shard.name = strdup(name);
    if (!shard.name)
        return uz_fail_nomem(err, strlen(name));
    topology->shards[topology->n_shards++] = shard;
    return UZ_OK;
}

/* Two names for one cell of the grid: nobody can tell which is meant. */
static int check_unique(const struct uz_topology *topology, struct uz_error *err)
{
    for (size_t i = 1; i < topology->n_shards; i++) {
        const struct uz_shard_file *a = &topology->shards[i - 1], *b = &topology->shards[i];
        if (a->kind == b->kind && a->mp == b->mp && a->dp == b->dp && a->layer == b->layer)
            return uz_fail_at(err, UZ_MISMATCH, topology->dir, UZ_NO_OFFSET,
                              "%s and %s are shards of the same rank; remove the wrong one",
                              a->name, b->name);
    }
    return UZ_OK;
}

static int list_dir(struct uz_topology *topology, uint64_t max_shards, struct uz_error *err)
{
    DIR *dir = opendir(topology->dir);
    if (!dir)
        return uz_fail_errno(err, errno, topology->dir, "cannot be listed");
    int rc = UZ_OK;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            if (errno)
                rc = uz_fail_errno(err, errno, topology->dir, "cannot be listed");
            break;
        }
        rc = add_entry(topology, entry->d_name, max_shards, err);
        if (rc < 0)
            break;
    }
    closedir(dir);
    UZ_TRY(rc);
    if (topology->n_shards > 0)
        qsort(topology->shards, topology->n_shards, sizeof *topology->shards, compare_shards);
    return check_unique(topology, err);
}

/* A tag is a folder's name, not a way out of the checkpoint. */
static int check_tag(const char *tag, const char *from, struct uz_error *err)
{
    if (!*tag || strchr(tag, '/') || !strcmp(tag, ".") || !strcmp(tag, ".."))
        return uz_fail_at(err, UZ_CORRUPT, from, UZ_NO_OFFSET,
                          "the tag '%s' is not the name of a folder", tag);
    return UZ_OK;
}

/* The text of `latest` without white space around it. */
static int read_latest(const char *path, char **tag, struct uz_error *err)
{
    char *text;
    size_t nbytes;
    UZ_TRY(uz_read_file(path, MAX_TAG_BYTES, &text, &nbytes, err));
    if (memchr(text, '\0', nbytes)) {
        free(text);
        return uz_fail_at(err, UZ_CORRUPT, path, UZ_NO_OFFSET, "is not a line of text");
    }
    size_t begin = strspn(text, " \t\r\n");
    size_t end = nbytes;
    while (end > begin && strchr(" \t\r\n", text[end - 1]))
        end--;
    memmove(text, text + begin, end - begin);
    text[end - begin] = '\0';
    *tag = text;
    return UZ_OK;
}

static int use_tag(struct uz_topology *topology, const char *root, const char *tag,
                   const char *from, struct uz_error *err)
{
    UZ_TRY(check_tag(tag, from, err));
    topology->dir = uz_path_join(root, tag);
    if (!topology->dir)
        return uz_fail_nomem(err, strlen(root));
    if (!is_dir(topology->dir))
        return uz_fail_at(err, UZ_FORMAT, from, UZ_NO_OFFSET,
                          "the tag is '%s', but the folder %s is not there", tag, topology->dir);
    return UZ_OK;
}

static int no_checkpoint(const char *path, const char *latest, struct uz_error *err)
{
    if (exists_in(path, "latest_universal") || exists_in(path, "zero"))
        return uz_fail_at(err, UZ_UNSUPPORTED, path, UZ_NO_OFFSET,
                          "is a universal checkpoint; give the ZeRO checkpoint it was made from");
    return uz_fail_at(err, UZ_FORMAT, path, UZ_NO_OFFSET,
                      "Unable to find 'latest' file at %s, and the folder holds no ZeRO shards "
                      "itself; give a checkpoint folder, or --tag",
                      latest);
}

/* Decides which folder holds the shards, and lists it. */
static int find_dir(struct uz_topology *topology, const char *path, const char *tag,
                    const char *latest, uint64_t max_shards, struct uz_error *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return uz_fail_errno(err, errno, path, "no checkpoint there");
    if (!S_ISDIR(st.st_mode))
        return uz_fail_at(err, UZ_FORMAT, path, UZ_NO_OFFSET,
                          "is not a folder; give the checkpoint folder");
    if (tag) {
        UZ_TRY(use_tag(topology, path, tag, path, err));
        return list_dir(topology, max_shards, err);
    }
    if (access(latest, F_OK) == 0) {
        char *found;
        UZ_TRY(read_latest(latest, &found, err));
        int rc = use_tag(topology, path, found, latest, err);
        free(found);
        UZ_TRY(rc);
        return list_dir(topology, max_shards, err);
    }
    topology->dir = strdup(path);
    if (!topology->dir)
        return uz_fail_nomem(err, strlen(path));
    UZ_TRY(list_dir(topology, max_shards, err));
    return topology->n_shards > 0 ? UZ_OK : no_checkpoint(path, latest, err);
}

/* The folder's own name, also when it was given as "." or with slashes at its end. */
static char *name_of_dir(const char *dir)
{
    char *real = realpath(dir, NULL);
    char *name = strdup(uz_path_name(real ? real : dir));
    free(real);
    return name;
}

int uz_topology_open(struct uz_topology *topology, const char *path, const char *tag,
                     const struct uz_limits *limits, struct uz_error *err)
{
    *topology = (struct uz_topology){0};
    char *latest = uz_path_join(path, "latest");
    if (!latest)
        return uz_fail_nomem(err, strlen(path));
    int rc = find_dir(topology, path, tag, latest, limits->max_shards, err);
    free(latest);
    UZ_TRY(rc);
    if (topology->n_shards == 0)
        return uz_fail_at(err, UZ_FORMAT, topology->dir, UZ_NO_OFFSET,
                          "holds no ZeRO shards (*_model_states.pt, *_optim_states.pt)");
    topology->tag = name_of_dir(topology->dir);
    return topology->tag ? UZ_OK : uz_fail_nomem(err, strlen(topology->dir));
}

void uz_topology_free(struct uz_topology *topology)
{
    for (size_t i = 0; i < topology->n_shards; i++)
        free(topology->shards[i].name);
    free(topology->shards);
    free(topology->dir);
    free(topology->tag);
    *topology = (struct uz_topology){0};
}

const struct uz_shard_file *uz_topology_shards(const struct uz_topology *topology,
                                               enum uz_shard_kind kind, size_t *n)
{
    size_t first = 0;
    while (first < topology->n_shards && topology->shards[first].kind != kind)
        first++;
    size_t end = first;
    while (end < topology->n_shards && topology->shards[end].kind == kind)
        end++;
    *n = end - first;
    return *n ? &topology->shards[first] : NULL;
}

static int refuse(const struct uz_topology *topology, const char *name, struct uz_error *err,
                  const char *what)
{
    return uz_fail_at(err, UZ_UNSUPPORTED, topology->dir, UZ_NO_OFFSET, "%s (%s)", what, name);
}

int uz_topology_refuse_by_names(const struct uz_topology *topology, struct uz_error *err)
{
    for (size_t i = 0; i < topology->n_shards; i++) {
        const struct uz_shard_file *shard = &topology->shards[i];
        if (shard->kind == UZ_SHARD_LAYER)
            return refuse(topology, shard->name, err,
                          "pipeline parallelism is not supported yet: this checkpoint keeps its "
                          "weights in layer files");
        if (shard->kind == UZ_SHARD_EXPERT || shard->kind == UZ_SHARD_EXPERT_OPTIM)
            return refuse(topology, shard->name, err,
                          "mixture-of-experts (MoE) checkpoints with expert parallelism are not "
                          "supported yet");
        if (shard->zst)
            return refuse(topology, shard->name, err,
                          "shards compressed whole with zstd are not supported yet; decompress "
                          "them first: zstd -d FILE");
    }
    if (topology->has_offloaded_tensors)
        return refuse(topology, "offloaded_tensors", err,
                      "an optimizer offloaded to NVMe is not supported yet");
    return UZ_OK;
}

int uz_topology_check_one_mp_rank(const struct uz_topology *topology, struct uz_error *err)
{
    for (size_t i = 0; i < topology->n_shards; i++)
        if (topology->shards[i].mp > 0)
            return refuse(topology, topology->shards[i].name, err,
                          "tensor or pipeline parallelism is not supported yet: there is more "
                          "than one model-parallel rank");
    return UZ_OK;
}

/* Writes "2, 5, 7" to buf: the ranks below world that have no shard. */
static void list_missing(const struct uz_shard_file *shards, size_t n, uint64_t world, char *buf,
                         size_t size)
{
    size_t used = 0, listed = 0, next = 0;
    buf[0] = '\0';
    for (uint64_t rank = 0; rank < world && used + 32 < size; rank++) {
        if (next < n && shards[next].dp == rank) {
            next++;
            continue;
        }
        if (++listed > MAX_LISTED_RANKS) {
            snprintf(buf + used, size - used, ", ...");
            return;
        }
        used += (size_t)snprintf(buf + used, size - used, "%s%llu", used ? ", " : "",
                                 (unsigned long long)rank);
    }
}

int uz_topology_check_ranks(const struct uz_topology *topology, enum uz_shard_kind kind,
                            uint64_t world, const char *pattern, struct uz_error *err)
{
    size_t n;
    const struct uz_shard_file *shards = uz_topology_shards(topology, kind, &n);
    if (n > 0 && shards[n - 1].dp >= world)
        return uz_fail_at(err, UZ_MISMATCH, topology->dir, UZ_NO_OFFSET,
                          "Expected %llu of '%s' under %s but %s is of rank %u: the world size "
                          "recorded in the files does not fit",
                          (unsigned long long)world, pattern, topology->dir, shards[n - 1].name,
                          shards[n - 1].dp);
    if (n == world)
        return UZ_OK;
    char missing[256];
    list_missing(shards, n, world, missing, sizeof missing);
    return uz_fail_at(err, UZ_MISMATCH, topology->dir, UZ_NO_OFFSET,
                      "Expected %llu of '%s' under %s but found %zu; missing: rank %s",
                      (unsigned long long)world, pattern, topology->dir, n, missing);
}

char *uz_shard_path(const struct uz_topology *topology, const struct uz_shard_file *shard)
{
    return uz_path_join(topology->dir, shard->name);
}
