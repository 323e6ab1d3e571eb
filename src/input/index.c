/* SPDX-License-Identifier: Apache-2.0 */
/* Adds the tensors of the files that an index names, and proves that it tells the truth. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "input/weight_index.h"
#include "input/weights.h"

struct reader {
    const struct uz_weights *weights;
    const char *path;
    struct uz_weight_index index;
};

#define fail(r, err, status, ...) uz_fail_at((err), (status), (r)->path, UZ_NO_OFFSET, __VA_ARGS__)

/* malloc'ed path of a file beside the index. */
static char *sibling(const char *index, const char *name)
{
    size_t n = (size_t)(uz_path_name(index) - index);
    char *dir = n ? strndup(index, n) : strdup(".");
    char *path = dir ? uz_path_join(dir, name) : NULL;
    free(dir);
    return path;
}

static int add_file(const struct reader *r, const char *name, bool is_torch, struct uz_error *err)
{
    char *path = sibling(r->path, name);
    if (!path)
        return uz_fail_nomem(err, strlen(name));
    int rc = is_torch ? uz_weights_add_torch(r->weights, path, err)
                      : uz_weights_add_safetensors(r->weights, path, err);
    free(path);
    return rc;
}

/* The name that the tensor `name` has, or is an alias of, as a number; UZ_NONE if there is none. */
static uint32_t find(const struct uz_model *model, const struct uz_map *aliases, const char *name)
{
    uint32_t tensor;
    uint64_t alias;
    if (uz_model_find(model, name, strlen(name), &tensor))
        return tensor;
    if (uz_map_get(aliases, name, strlen(name), &alias))
        return model->aliases[alias].tensor;
    return UZ_NONE;
}

/* Each mapped tensor is in its file; nothing is in a file that the map does not know. */
static int check_map(const struct reader *r, const struct uz_map *aliases, const uint32_t *file_of,
                     struct uz_error *err)
{
    const struct uz_model *model = r->weights->model;
    for (size_t i = 0; i < r->index.n_entries; i++) {
        const struct uz_weight_entry *entry = &r->index.entries[i];
        uint32_t tensor = find(model, aliases, entry->tensor);
        if (tensor == UZ_NONE)
            return fail(r, err, UZ_MISMATCH, "%s is not in %s, where the index says it is",
                        entry->tensor, entry->file);
        const char *file = uz_path_name(model->files[file_of[tensor]]);
        if (strcmp(file, entry->file) != 0)
            return fail(r, err, UZ_MISMATCH, "%s is in %s, not in %s, where the index says it is",
                        entry->tensor, file, entry->file);
    }
    for (size_t i = 0; i < model->n_tensors; i++)
        if (!uz_map_get(r->index.tensors, model->tensors[i].name, strlen(model->tensors[i].name),
                        NULL))
            return fail(r, err, UZ_MISMATCH, "%s is in a file, but not in the index",
                        model->tensors[i].name);
    return UZ_OK;
}

static int index_aliases(const struct uz_model *model, struct uz_map *aliases, struct uz_error *err)
{
    for (size_t i = 0; i < model->n_aliases; i++)
        UZ_TRY(uz_map_add(aliases, model->aliases[i].name, strlen(model->aliases[i].name), i, NULL,
                          err));
    return UZ_OK;
}

/* The file that each tensor came with: tensors of file i are those added while it was read. */
static int add_files(const struct reader *r, bool is_torch, uint32_t **file_of,
                     struct uz_error *err)
{
    const struct uz_model *model = r->weights->model;
    size_t cap = 0, n = 0;
    for (size_t i = 0; i < r->index.n_files; i++) {
        uint32_t file = (uint32_t)model->n_files;
        UZ_TRY(add_file(r, r->index.files[i], is_torch, err));
        UZ_TRY(uz_reserve(file_of, &cap, (uint64_t)model->n_tensors + 1, sizeof **file_of, err));
        while (n < model->n_tensors)
            (*file_of)[n++] = file;
    }
    return UZ_OK;
}

static int add_and_check(const struct reader *r, bool is_torch, struct uz_error *err)
{
    uint32_t *file_of = NULL;
    struct uz_map *aliases = uz_map_new();
    int rc = aliases ? add_files(r, is_torch, &file_of, err) : uz_fail_nomem(err, sizeof *r);
    if (rc == UZ_OK)
        rc = index_aliases(r->weights->model, aliases, err);
    if (rc == UZ_OK)
        rc = check_map(r, aliases, file_of, err);
    uz_map_free(aliases);
    free(file_of);
    return rc;
}

int uz_weights_add_index(const struct uz_weights *weights, const char *index, bool is_torch,
                         struct uz_error *err)
{
    struct reader r = {.weights = weights, .path = index};
    int rc = uz_weight_index_read(&r.index, index, weights->limits, err);
    if (rc == UZ_OK)
        rc = add_and_check(&r, is_torch, err);
    uz_weight_index_free(&r.index);
    return rc;
}
