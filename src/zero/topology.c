/* SPDX-License-Identifier: Apache-2.0 */
/* Finds a checkpoint's tag folder and lists its shards. */
#include "zero/topology.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/file.h"
#include "base/mem.h"
#include "zero/shard_name.h"

enum { MAX_TAG_BYTES = 4096, MAX_LISTED_RANKS = 16 };

static bool exists_in(const char *dir, const char *name)
{
    char *path = uz_path_join(dir, name);
    bool there = path && access(path, F_OK) == 0;
    free(path);
    return there;
}

int uz_compare_cells(const struct uz_shard_file *a, const struct uz_shard_file *b)
{
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->mp != b->mp)
        return a->mp < b->mp ? -1 : 1;
    if (a->dp != b->dp)
        return a->dp < b->dp ? -1 : 1;
    if (a->layer != b->layer)
        return a->layer < b->layer ? -1 : 1;
    return 0;
}

static int compare_shards(const void *a, const void *b)
{
    const struct uz_shard_file *x = a, *y = b;
    int order = uz_compare_cells(x, y);
    if (order == 0 && x->dir != y->dir)
        order = x->dir < y->dir ? -1 : 1;
    return order ? order : strcmp(x->name, y->name);
}

/* A folder that is being listed: the last one of the topology. */
struct listing {
    struct uz_topology *topology;
    uint64_t max_shards;
};

static int add_entry(void *cookie, const char *name, struct uz_error *err)
{
    const struct listing *listing = cookie;
    struct uz_topology *topology = listing->topology;
    uint64_t max_shards = listing->max_shards;
    struct uz_shard_file shard;
    if (!strcmp(name, "offloaded_tensors"))
        topology->has_offloaded_tensors = true;
    if (!topology->writer_part && uz_is_writer_part(name)) {
        topology->writer_part = strdup(name);
        return topology->writer_part ? UZ_OK : uz_fail_nomem(err, strlen(name));
    }
    if (!uz_parse_shard_name(name, &shard))
        return UZ_OK;
    if (topology->n_shards >= max_shards)
        return uz_fail_at(err, UZ_LIMIT, topology->dir, UZ_NO_OFFSET, "holds more than %llu shards",
                          (unsigned long long)max_shards);
    UZ_TRY(uz_reserve(&topology->shards, &topology->cap_shards, (uint64_t)topology->n_shards + 1,
                      sizeof *topology->shards, err));
    shard.dir = topology->n_dirs - 1;
    shard.name = strdup(name);
    if (!shard.name)
        return uz_fail_nomem(err, strlen(name));
    topology->shards[topology->n_shards++] = shard;
    return UZ_OK;
}

/*
 * Two files for one cell of the grid: nobody can tell which is meant, unless they are the copies
 * that node-local storage makes. Those leave the list of shards.
 */
static int set_copies_apart(struct uz_topology *topology, struct uz_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < topology->n_shards; i++) {
        struct uz_shard_file shard = topology->shards[i];
        const struct uz_shard_file *before = n ? &topology->shards[n - 1] : NULL;
        if (!before || uz_compare_cells(before, &shard) != 0) {
            if (n != i) {
                topology->shards[n] = shard;
                topology->shards[i].name = NULL; /* it moved */
            }
            n++;
            continue;
        }
        if (shard.kind != UZ_SHARD_MODEL || shard.dir == before->dir)
            return uz_fail_at(err, UZ_MISMATCH, topology->dirs[shard.dir], UZ_NO_OFFSET,
                              "%s and %s%s%s are shards of the same rank; remove the wrong one",
                              shard.name,
                              shard.dir == before->dir ? "" : topology->dirs[before->dir],
                              shard.dir == before->dir ? "" : "/", before->name);
        UZ_TRY(uz_reserve(&topology->copies, &topology->cap_copies,
                          (uint64_t)topology->n_copies + 1, sizeof *topology->copies, err));
        topology->copies[topology->n_copies++] = shard;
        topology->shards[i].name = NULL;
    }
    topology->n_shards = n;
    return UZ_OK;
}

/* Adds a folder (taken over) and lists it. */
static int add_dir(struct uz_topology *topology, char *dir, uint64_t max_shards,
                   struct uz_error *err)
{
    int rc = dir ? uz_reserve(&topology->dirs, &topology->cap_dirs, (uint64_t)topology->n_dirs + 1,
                              sizeof *topology->dirs, err)
                 : uz_fail_nomem(err, 0);
    if (rc < 0) {
        free(dir);
        return rc;
    }
    topology->dirs[topology->n_dirs++] = dir;
    topology->dir = topology->dirs[0];
    struct listing listing = {topology, max_shards};
    return uz_each_entry(dir, add_entry, &listing, err);
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
                   const char *from, uint64_t max_shards, struct uz_error *err)
{
    UZ_TRY(check_tag(tag, from, err));
    char *dir = uz_path_join(root, tag);
    if (dir && !uz_is_dir(dir)) {
        int rc = uz_fail_at(err, UZ_FORMAT, from, UZ_NO_OFFSET,
                            "the tag is '%s', but the folder %s is not there", tag, dir);
        free(dir);
        return rc;
    }
    return add_dir(topology, dir, max_shards, err);
}

static int is_shard(void *cookie, const char *name, struct uz_error *err)
{
    struct uz_shard_file shard;
    (void)cookie;
    (void)err;
    return uz_parse_shard_name(name, &shard); /* the first one ends the walk */
}

/* The folder in another that a user may have meant: of a trainer's checkpoints the last one. */
struct meant {
    const char *path;
    char name[NAME_MAX + 1];
};

static int consider_folder(void *cookie, const char *name, struct uz_error *err)
{
    struct meant *meant = cookie;
    char *path = uz_path_join(meant->path, name);
    if (!path)
        return uz_fail_nomem(err, strlen(name));
    if (uz_is_dir(path) && strverscmp(name, meant->name) > 0 &&
        (exists_in(path, "latest") || uz_each_entry(path, is_shard, NULL, NULL) > 0))
        snprintf(meant->name, sizeof meant->name, "%s", name);
    free(path);
    return UZ_OK;
}

static int no_checkpoint(const char *path, const char *latest, struct uz_error *err)
{
    struct meant meant = {.path = path};
    if (exists_in(path, "zero"))
        return uz_fail_at(err, UZ_MISMATCH, path, UZ_NO_OFFSET,
                          "is a universal checkpoint without its *_model_states.pt, which tell the "
                          "names and shapes of its parameters");
    UZ_TRY(uz_each_entry(path, consider_folder, &meant, err));
    return uz_fail_at(err, UZ_FORMAT, path, UZ_NO_OFFSET,
                      "Unable to find 'latest' file at %s, and the folder holds no ZeRO shards "
                      "itself; give a checkpoint folder%s%s, or --tag",
                      latest, *meant.name ? ", such as the folder in it that is called " : "",
                      meant.name);
}

static int use_latest(struct uz_topology *topology, const char *path, const char *latest,
                      uint64_t max_shards, struct uz_error *err)
{
    char *tag;
    UZ_TRY(read_latest(latest, &tag, err));
    int rc = use_tag(topology, path, tag, latest, max_shards, err);
    free(tag);
    return rc;
}

/* A folder without `latest`: shards lie in it, or it is the root of a universal checkpoint. */
static int find_untagged(struct uz_topology *topology, const char *path, const char *latest,
                         uint64_t max_shards, struct uz_error *err)
{
    if (!exists_in(path, "zero") && exists_in(path, "latest_universal")) {
        char *universal = uz_path_join(path, "latest_universal");
        int rc = universal ? use_latest(topology, path, universal, max_shards, err)
                           : uz_fail_nomem(err, strlen(path));
        free(universal);
        return rc;
    }
    UZ_TRY(add_dir(topology, strdup(path), max_shards, err));
    bool has_some = topology->n_shards > 0 || topology->writer_part;
    return has_some ? UZ_OK : no_checkpoint(path, latest, err);
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
    if (tag)
        return use_tag(topology, path, tag, path, max_shards, err);
    if (access(latest, F_OK) == 0)
        return use_latest(topology, path, latest, max_shards, err);
    return find_untagged(topology, path, latest, max_shards, err);
}

/* The folder's own name, also when it was given as "." or with slashes at its end. */
static char *name_of_dir(const char *dir)
{
    char *real = realpath(dir, NULL);
    char *name = strdup(uz_path_name(real ? real : dir));
    free(real);
    return name;
}

/* A further folder: one that holds a folder of the tag, or the shards themselves. */
static int add_input_dir(struct uz_topology *topology, const char *path, uint64_t max_shards,
                         struct uz_error *err)
{
    size_t n_before = topology->n_shards;
    if (!uz_is_dir(path))
        return uz_fail_at(err, UZ_FORMAT, path, UZ_NO_OFFSET, "is not a folder with shards");
    char *tagged = uz_path_join(path, topology->tag);
    if (tagged && !uz_is_dir(tagged)) {
        free(tagged);
        tagged = strdup(path);
    }
    UZ_TRY(add_dir(topology, tagged, max_shards, err));
    if (topology->n_shards == n_before)
        return uz_fail_at(err, UZ_FORMAT, path, UZ_NO_OFFSET,
                          "holds neither a folder %s nor ZeRO shards", topology->tag);
    return UZ_OK;
}

static int refuse(const struct uz_topology *topology, const char *name, struct uz_error *err,
                  const char *what)
{
    return uz_fail_at(err, UZ_UNSUPPORTED, topology->dir, UZ_NO_OFFSET, "%s (%s)", what, name);
}

/*
 * FastPersist: for ZeRO 0 to 2 every data-parallel rank writes FILE-RANK.N of each file
 * (deepspeed/runtime/model_checkpointing/writer_factory.py): N-ths of the storages' bytes with the
 * torch.save that was made for it, all of them with others.
 */
static int refuse_writer_parts(const struct uz_topology *topology, struct uz_error *err)
{
    char shown[256];
    const char *name = topology->writer_part;
    if (!name)
        return UZ_OK;
    return refuse(topology, uz_printable(shown, sizeof shown, name, strlen(name)), err,
                  "DeepSpeed's fast checkpoint writer (FastPersist) divided the shards among "
                  "several ranks, which is not read; load the checkpoint with DeepSpeed and save "
                  "it without the option 'checkpoint': {'writer': {'type': 'fast'}}");
}

static int list_all(struct uz_topology *topology, const struct uz_topology_request *request,
                    const char *latest, struct uz_error *err)
{
    UZ_TRY(find_dir(topology, request->path, request->tag, latest, request->max_shards, err));
    topology->tag = name_of_dir(topology->dir);
    if (!topology->tag)
        return uz_fail_nomem(err, strlen(topology->dir));
    for (size_t i = 0; i < request->n_input_dirs; i++)
        UZ_TRY(add_input_dir(topology, request->input_dirs[i], request->max_shards, err));
    if (topology->n_shards == 0)
        UZ_TRY(refuse_writer_parts(topology, err));
    if (topology->n_shards == 0)
        return uz_fail_at(err, UZ_FORMAT, topology->dir, UZ_NO_OFFSET,
                          "holds no ZeRO shards (*_model_states.pt, *_optim_states.pt)");
    qsort(topology->shards, topology->n_shards, sizeof *topology->shards, compare_shards);
    size_t n_optim;
    uz_topology_shards(topology, UZ_SHARD_OPTIM, &n_optim);
    topology->is_universal = n_optim == 0 && exists_in(topology->dir, "zero");
    return set_copies_apart(topology, err);
}

int uz_topology_open(struct uz_topology *topology, const struct uz_topology_request *request,
                     struct uz_error *err)
{
    *topology = (struct uz_topology){0};
    char *latest = uz_path_join(request->path, "latest");
    if (!latest)
        return uz_fail_nomem(err, strlen(request->path));
    int rc = list_all(topology, request, latest, err);
    free(latest);
    return rc;
}

void uz_topology_free(struct uz_topology *topology)
{
    for (size_t i = 0; i < topology->n_shards; i++)
        free(topology->shards[i].name);
    for (size_t i = 0; i < topology->n_copies; i++)
        free(topology->copies[i].name);
    for (size_t i = 0; i < topology->n_dirs; i++)
        free(topology->dirs[i]);
    free(topology->shards);
    free(topology->copies);
    free(topology->dirs);
    free(topology->tag);
    free(topology->writer_part);
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

const struct uz_shard_file *uz_topology_shards_of(const struct uz_topology *topology,
                                                  enum uz_shard_kind kind, uint32_t mp, size_t *n)
{
    size_t n_all, first = 0;
    const struct uz_shard_file *all = uz_topology_shards(topology, kind, &n_all);
    while (first < n_all && all[first].mp < mp)
        first++;
    size_t end = first;
    while (end < n_all && all[end].mp == mp)
        end++;
    *n = end - first;
    return *n ? &all[first] : NULL;
}

int uz_topology_refuse_by_names(const struct uz_topology *topology, bool lp_only,
                                struct uz_error *err)
{
    UZ_TRY(refuse_writer_parts(topology, err));
    if (topology->has_offloaded_tensors && !lp_only)
        return refuse(topology, "offloaded_tensors", err,
                      "the optimizer's states were offloaded to NVMe: their files are swap buffers "
                      "of one machine, which are not read; the 16-bit weights of ZeRO 1 and 2 can "
                      "be had with --source lp");
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

/* "" if there is one model-parallel rank only, which needs no name. */
static void name_mp_rank(const struct uz_topology *topology, uint32_t mp, char *buf, size_t size)
{
    bool several = false;
    for (size_t i = 0; i < topology->n_shards; i++)
        several |= topology->shards[i].mp > 0;
    buf[0] = '\0';
    if (several)
        snprintf(buf, size, " of model-parallel rank %u", mp);
}

int uz_topology_check_ranks(const struct uz_topology *topology, enum uz_shard_kind kind,
                            uint32_t mp, uint64_t world, const char *pattern, struct uz_error *err)
{
    size_t n;
    const struct uz_shard_file *shards = uz_topology_shards_of(topology, kind, mp, &n);
    char of_mp[64];
    name_mp_rank(topology, mp, of_mp, sizeof of_mp);
    if (n > 0 && shards[n - 1].dp >= world)
        return uz_fail_at(err, UZ_MISMATCH, topology->dir, UZ_NO_OFFSET,
                          "Expected %llu of '%s'%s under %s but %s is of rank %u: the world size "
                          "recorded in the files does not fit",
                          (unsigned long long)world, pattern, of_mp, topology->dir,
                          shards[n - 1].name, shards[n - 1].dp);
    if (n == world)
        return UZ_OK;
    char missing[256];
    list_missing(shards, n, world, missing, sizeof missing);
    return uz_fail_at(err, UZ_MISMATCH, topology->dir, UZ_NO_OFFSET,
                      "Expected %llu of '%s'%s under %s but found %zu; missing: rank %s",
                      (unsigned long long)world, pattern, of_mp, topology->dir, n, missing);
}

char *uz_shard_path(const struct uz_topology *topology, const struct uz_shard_file *shard)
{
    return uz_path_join(topology->dirs[shard->dir], shard->name);
}
