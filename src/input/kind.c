/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at a path's names and first bytes. */
#include "input/kind.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cursor.h"
#include "base/dir.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/order.h"
#include "zero/shard_name.h"

static const char safetensors_suffix[] = ".safetensors", index_suffix[] = ".index.json";

/* What the names in a folder say. */
struct listing {
    const char *dir;
    bool has_latest, has_latest_universal, has_zero, has_tag;
    size_t n_model_shards, n_other_shards;
    char **safetensors, **torch, **indexes; /* paths */
    size_t n_safetensors, cap_safetensors, n_torch, cap_torch, n_indexes, cap_indexes;
};

static bool holds_folder(const char *dir, const char *name)
{
    char *path = uz_path_join(dir, name);
    bool there = path && uz_is_dir(path);
    free(path);
    return there;
}

static int keep(char ***paths, size_t *n, size_t *cap, const char *dir, const char *name,
                struct uz_error *err)
{
    UZ_TRY(uz_reserve(paths, cap, (uint64_t)*n + 1, sizeof **paths, err));
    (*paths)[*n] = uz_path_join(dir, name);
    if (!(*paths)[*n])
        return uz_fail_nomem(err, strlen(name));
    (*n)++;
    return UZ_OK;
}

static void free_paths(char **paths, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(paths[i]);
    free(paths);
}

/* Weights as transformers names them: pytorch_model.bin, and adapters. */
static bool is_torch_weights(const char *name)
{
    return uz_has_suffix(name, ".bin") &&
           (!strncmp(name, "pytorch_model", strlen("pytorch_model")) ||
            !strcmp(name, "adapter_model.bin") || !strcmp(name, "diffusion_pytorch_model.bin"));
}

static int note_name(void *cookie, const char *name, struct uz_error *err)
{
    struct listing *list = cookie;
    const char *dir = list->dir;
    struct uz_shard_file shard;
    if (!strcmp(name, "latest"))
        list->has_latest = true;
    else if (!strcmp(name, "latest_universal"))
        list->has_latest_universal = true;
    else if (!strcmp(name, "zero"))
        list->has_zero = holds_folder(dir, name);
    else if (uz_parse_shard_name(name, &shard))
        *(shard.kind == UZ_SHARD_MODEL || shard.kind == UZ_SHARD_MODEL_Z3
              ? &list->n_model_shards
              : &list->n_other_shards) += 1;
    else if (uz_has_suffix(name, index_suffix))
        return keep(&list->indexes, &list->n_indexes, &list->cap_indexes, dir, name, err);
    else if (uz_has_suffix(name, safetensors_suffix))
        return keep(&list->safetensors, &list->n_safetensors, &list->cap_safetensors, dir, name,
                    err);
    else if (is_torch_weights(name))
        return keep(&list->torch, &list->n_torch, &list->cap_torch, dir, name, err);
    return UZ_OK;
}

/* True if the index is over safetensors files: "model.safetensors.index.json". */
static bool index_is_safetensors(const char *path)
{
    return uz_has_suffix(path, ".safetensors.index.json");
}

/*
 * Of several indexes the one over safetensors counts, as for transformers; several of one kind are
 * several models.
 */
static int pick_index(struct uz_located *located, struct listing *list, const char *path,
                      struct uz_error *err)
{
    size_t best = 0, n_best = 0;
    for (int torch = 0; torch < 2 && n_best == 0; torch++)
        for (size_t i = 0; i < list->n_indexes; i++)
            if (index_is_safetensors(list->indexes[i]) == !torch) {
                best = i;
                n_best++;
            }
    if (n_best > 1)
        return uz_fail_at(err, UZ_FORMAT, path, UZ_NO_OFFSET,
                          "holds several *.index.json; give the path of one of them");
    located->index = list->indexes[best];
    list->indexes[best] = NULL;
    located->is_torch = !index_is_safetensors(located->index);
    return UZ_OK;
}

/* Takes the paths of one kind of file, in order; a file of the usual name stands for itself. */
static void take_files(struct uz_located *located, char ***paths, size_t *n, const char *usual,
                       bool is_torch)
{
    located->files = *paths;
    located->n_files = *n;
    located->is_torch = is_torch;
    *paths = NULL;
    *n = 0;
    qsort(located->files, located->n_files, sizeof *located->files, uz_compare_texts);
    for (size_t i = 0; i < located->n_files; i++)
        if (!strcmp(uz_path_name(located->files[i]), usual)) {
            char *only = located->files[i];
            located->files[i] = located->files[0];
            located->files[0] = only;
            for (size_t k = 1; k < located->n_files; k++)
                free(located->files[k]);
            located->n_files = 1;
        }
}

static int tell_folder(struct uz_located *located, struct listing *list, const char *path,
                       struct uz_error *err)
{
    size_t n_shards = list->n_model_shards + list->n_other_shards;
    bool universal = list->has_latest_universal || list->has_zero;
    located->kind = UZ_INPUT_ZERO;
    if (list->has_tag || list->has_latest || (n_shards > 0 && !universal) ||
        list->n_other_shards > 0)
        return UZ_OK;
    located->kind = UZ_INPUT_UNIVERSAL; /* copies of model states lie beside `zero` */
    if (universal)
        return UZ_OK;
    located->kind = UZ_INPUT_FOLDER;
    if (list->n_indexes > 0)
        return pick_index(located, list, path, err);
    if (list->n_safetensors > 0)
        take_files(located, &list->safetensors, &list->n_safetensors, "model.safetensors", false);
    else if (list->n_torch > 0)
        take_files(located, &list->torch, &list->n_torch, "pytorch_model.bin", true);
    else
        return uz_fail_at(err, UZ_FORMAT, path, UZ_NO_OFFSET,
                          "Unable to find 'latest' file at %s, and the folder holds neither ZeRO "
                          "shards nor weights (*.safetensors, pytorch_model*.bin)",
                          path);
    return UZ_OK;
}

static int locate_folder(struct uz_located *located, const char *path, const char *tag,
                         struct uz_error *err)
{
    struct listing list = {.dir = path, .has_tag = tag != NULL && holds_folder(path, tag)};
    int rc = uz_each_entry(path, note_name, &list, err);
    if (rc == UZ_OK)
        rc = tell_folder(located, &list, path, err);
    free_paths(list.safetensors, list.n_safetensors);
    free_paths(list.torch, list.n_torch);
    free_paths(list.indexes, list.n_indexes);
    return rc;
}

/* True if the file begins as a safetensors file: a sensible length, then an object. */
static int looks_like_safetensors(const char *path, bool *yes, struct uz_error *err)
{
    int fd;
    uint8_t head[9];
    uint64_t file_nbytes, length;
    struct uz_cursor cur;
    UZ_TRY(uz_open_read(path, &fd, &file_nbytes, err));
    int rc = UZ_OK;
    *yes = false;
    if (file_nbytes >= sizeof head) {
        rc = uz_pread_all(fd, head, sizeof head, 0, path, err);
        if (rc == UZ_OK) {
            uz_cursor_init(&cur, head, sizeof head, path, 0);
            rc = uz_get_le64(&cur, &length, err);
        }
        *yes = rc == UZ_OK && length <= file_nbytes - 8 && head[8] == '{';
    }
    close(fd);
    return rc;
}

/* A file: what its bytes say, and if they say nothing, what its name does. */
static int locate_file(struct uz_located *located, const char *path, struct uz_error *err)
{
    bool is_safetensors;
    if (uz_has_suffix(path, index_suffix)) {
        located->kind = UZ_INPUT_FOLDER;
        located->is_torch = !index_is_safetensors(path);
        located->index = strdup(path);
        return located->index ? UZ_OK : uz_fail_nomem(err, strlen(path));
    }
    UZ_TRY(looks_like_safetensors(path, &is_safetensors, err));
    located->kind = is_safetensors || uz_has_suffix(path, safetensors_suffix) ? UZ_INPUT_SAFETENSORS
                                                                              : UZ_INPUT_TORCH;
    return UZ_OK;
}

int uz_input_locate(struct uz_located *located, const char *path, const char *tag,
                    struct uz_error *err)
{
    struct stat st;
    *located = (struct uz_located){0};
    if (stat(path, &st) < 0)
        return uz_fail_errno(err, errno, path, "cannot be opened");
    if (S_ISDIR(st.st_mode))
        return locate_folder(located, path, tag, err);
    return locate_file(located, path, err);
}

void uz_located_free(struct uz_located *located)
{
    free(located->index);
    free_paths(located->files, located->n_files);
    *located = (struct uz_located){0};
}

int uz_input_kind(const char *path, const char *tag, enum uz_input_kind *kind, struct uz_error *err)
{
    struct uz_located located;
    int rc = uz_input_locate(&located, path, tag, err);
    *kind = located.kind;
    uz_located_free(&located);
    return rc;
}

const char *uz_input_kind_name(enum uz_input_kind kind)
{
    static const char *const names[] = {
        [UZ_INPUT_ZERO] = "zero",     [UZ_INPUT_UNIVERSAL] = "universal",
        [UZ_INPUT_TORCH] = "torch",   [UZ_INPUT_SAFETENSORS] = "safetensors",
        [UZ_INPUT_FOLDER] = "folder",
    };
    return (size_t)kind < sizeof names / sizeof names[0] ? names[kind] : "unknown";
}
