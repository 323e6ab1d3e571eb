/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model.safetensors.index.json and its kin, as Hugging Face's transformers writes them:
 * {"metadata": {...}, "weight_map": {tensor: file}}.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "input/json_pull.h"
#include "input/weights.h"

struct mapped {
    const char *tensor, *file;
};

struct reader {
    const struct uz_weights *weights;
    const char *path;
    struct uz_json json;
    struct uz_arena *arena;
    struct uz_map *tensors, *file_numbers;
    struct mapped *entries;
    size_t n_entries, cap_entries;
    const char **files; /* each once, in the order of the map */
    size_t n_files, cap_files;
};

#define fail(r, err, status, ...) uz_fail_at((err), (status), (r)->path, UZ_NO_OFFSET, __VA_ARGS__)

static int keep_text(struct reader *r, const char **out, struct uz_error *err)
{
    if (memchr(r->json.text, '\0', r->json.text_nbytes))
        return fail(r, err, UZ_CORRUPT, "a name in the index holds a NUL character");
    return uz_arena_strndup(r->arena, r->json.text, r->json.text_nbytes, out, err);
}

/* Files lie beside the index: a name with a folder would lead who knows where. */
static int note_file(struct reader *r, const char *file, struct uz_error *err)
{
    bool present;
    if (!*file || strchr(file, '/') || !strcmp(file, ".") || !strcmp(file, ".."))
        return fail(r, err, UZ_CORRUPT, "the index names a file outside its folder: '%s'", file);
    UZ_TRY(uz_map_add(r->file_numbers, file, strlen(file), r->n_files, &present, err));
    if (present)
        return UZ_OK;
    if (r->n_files >= r->weights->limits->max_shards)
        return fail(r, err, UZ_LIMIT, "the index names more than %zu files", r->n_files);
    UZ_TRY(uz_reserve(&r->files, &r->cap_files, (uint64_t)r->n_files + 1, sizeof *r->files, err));
    r->files[r->n_files++] = file;
    return UZ_OK;
}

static int read_map(struct reader *r, struct uz_error *err)
{
    bool more, present;
    UZ_TRY(uz_json_open_object(&r->json, err));
    for (;;) {
        struct mapped *entry;
        UZ_TRY(uz_json_next_key(&r->json, &more, err));
        if (!more)
            return UZ_OK;
        UZ_TRY(UZ_APPEND(r->entries, r->n_entries, r->cap_entries, &entry, err));
        UZ_TRY(keep_text(r, &entry->tensor, err));
        UZ_TRY(uz_json_text(&r->json, err));
        UZ_TRY(keep_text(r, &entry->file, err));
        UZ_TRY(uz_map_add(r->tensors, entry->tensor, strlen(entry->tensor), 0, &present, err));
        if (present)
            return fail(r, err, UZ_CORRUPT, "the index has %s twice", entry->tensor);
        UZ_TRY(note_file(r, entry->file, err));
    }
}

static int parse(struct reader *r, struct uz_error *err)
{
    bool more, found = false;
    UZ_TRY(uz_json_open_object(&r->json, err));
    for (;;) {
        UZ_TRY(uz_json_next_key(&r->json, &more, err));
        if (!more)
            break;
        bool is_map = !strcmp(r->json.text, "weight_map");
        if (is_map && found)
            return fail(r, err, UZ_CORRUPT, "the index has two weight_map");
        found = found || is_map;
        UZ_TRY(is_map ? read_map(r, err) : uz_json_skip(&r->json, err));
    }
    if (!found)
        return fail(r, err, UZ_FORMAT, "the index has no weight_map");
    return uz_json_end(&r->json, err);
}

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
    for (size_t i = 0; i < r->n_entries; i++) {
        const struct mapped *entry = &r->entries[i];
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
        if (!uz_map_get(r->tensors, model->tensors[i].name, strlen(model->tensors[i].name), NULL))
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
    for (size_t i = 0; i < r->n_files; i++) {
        uint32_t file = (uint32_t)model->n_files;
        UZ_TRY(add_file(r, r->files[i], is_torch, err));
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

static int read_index(struct reader *r, bool is_torch, struct uz_error *err)
{
    char *text;
    size_t nbytes;
    UZ_TRY(uz_read_file(r->path, r->weights->limits->max_header_bytes, &text, &nbytes, err));
    uz_json_init(&r->json, text, nbytes, r->path, 0);
    int rc = parse(r, err);
    uz_json_free(&r->json);
    free(text);
    UZ_TRY(rc);
    return add_and_check(r, is_torch, err);
}

int uz_weights_add_index(const struct uz_weights *weights, const char *index, bool is_torch,
                         struct uz_error *err)
{
    struct reader r = {
        .weights = weights,
        .path = index,
        .arena = uz_arena_new(weights->limits->max_pickle_arena),
        .tensors = uz_map_new(),
        .file_numbers = uz_map_new(),
    };
    int rc = r.arena && r.tensors && r.file_numbers ? read_index(&r, is_torch, err)
                                                    : uz_fail_nomem(err, sizeof r);
    free(r.entries);
    free(r.files);
    uz_map_free(r.tensors);
    uz_map_free(r.file_numbers);
    uz_arena_free(r.arena);
    return rc;
}
