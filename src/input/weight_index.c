/* SPDX-License-Identifier: Apache-2.0 */
/* Goes through the JSON of an index. */
#include "input/weight_index.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "input/json_pull.h"

struct reader {
    struct uz_weight_index *index;
    const char *path;
    const struct uz_limits *limits;
    struct uz_json json;
};

#define fail(r, err, status, ...) uz_fail_at((err), (status), (r)->path, UZ_NO_OFFSET, __VA_ARGS__)

static int keep_text(struct reader *r, const char **out, struct uz_error *err)
{
    if (memchr(r->json.text, '\0', r->json.text_nbytes))
        return fail(r, err, UZ_CORRUPT, "a name in the index holds a NUL character");
    return uz_arena_strndup(r->index->arena, r->json.text, r->json.text_nbytes, out, err);
}

/* Files lie beside the index: a name with a folder would lead who knows where. */
static int note_file(struct reader *r, const char *file, struct uz_error *err)
{
    struct uz_weight_index *index = r->index;
    bool present;
    if (!*file || strchr(file, '/') || !strcmp(file, ".") || !strcmp(file, ".."))
        return fail(r, err, UZ_CORRUPT, "the index names a file outside its folder: '%s'", file);
    UZ_TRY(uz_map_add(index->file_numbers, file, strlen(file), index->n_files, &present, err));
    if (present)
        return UZ_OK;
    if (index->n_files >= r->limits->max_shards)
        return fail(r, err, UZ_LIMIT, "the index names more than %zu files", index->n_files);
    UZ_TRY(uz_reserve(&index->files, &index->cap_files, (uint64_t)index->n_files + 1,
                      sizeof *index->files, err));
    index->files[index->n_files++] = file;
    return UZ_OK;
}

static int read_map(struct reader *r, struct uz_error *err)
{
    struct uz_weight_index *index = r->index;
    bool more, present;
    UZ_TRY(uz_json_open_object(&r->json, err));
    for (;;) {
        struct uz_weight_entry *entry;
        UZ_TRY(uz_json_next_key(&r->json, &more, err));
        if (!more)
            return UZ_OK;
        UZ_TRY(UZ_APPEND(index->entries, index->n_entries, index->cap_entries, &entry, err));
        UZ_TRY(keep_text(r, &entry->tensor, err));
        UZ_TRY(uz_json_text(&r->json, err));
        UZ_TRY(keep_text(r, &entry->file, err));
        UZ_TRY(uz_map_add(index->tensors, entry->tensor, strlen(entry->tensor),
                          index->n_entries - 1, &present, err));
        if (present)
            return fail(r, err, UZ_CORRUPT, "the index has %s twice", entry->tensor);
        UZ_TRY(note_file(r, entry->file, err));
    }
}

/* Takes total_size; whatever else stands there is anybody's. */
static int read_metadata(struct reader *r, struct uz_error *err)
{
    struct uz_cursor start = r->json.cur;
    unsigned depth = r->json.depth;
    bool more;
    if (uz_json_open_object(&r->json, NULL) < 0) {
        r->json.cur = start;
        r->json.depth = depth;
        return uz_json_skip(&r->json, err);
    }
    for (;;) {
        UZ_TRY(uz_json_next_key(&r->json, &more, err));
        if (!more)
            return UZ_OK;
        struct uz_cursor value = r->json.cur;
        if (!strcmp(r->json.text, "total_size") &&
            uz_json_u64(&r->json, &r->index->total_nbytes, NULL) == UZ_OK) {
            r->index->has_total = true;
            continue;
        }
        r->json.cur = value;
        UZ_TRY(uz_json_skip(&r->json, err));
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
        if (is_map)
            UZ_TRY(read_map(r, err));
        else if (!strcmp(r->json.text, "metadata"))
            UZ_TRY(read_metadata(r, err));
        else
            UZ_TRY(uz_json_skip(&r->json, err));
    }
    if (!found)
        return fail(r, err, UZ_FORMAT, "the index has no weight_map");
    return uz_json_end(&r->json, err);
}

static int read_text(struct reader *r, struct uz_error *err)
{
    char *text;
    size_t nbytes;
    UZ_TRY(uz_read_file(r->path, r->limits->max_header_bytes, &text, &nbytes, err));
    uz_json_init(&r->json, text, nbytes, r->path, 0);
    int rc = parse(r, err);
    uz_json_free(&r->json);
    free(text);
    return rc;
}

int uz_weight_index_read(struct uz_weight_index *index, const char *path,
                         const struct uz_limits *limits, struct uz_error *err)
{
    struct reader r = {.index = index, .path = path, .limits = limits};
    *index = (struct uz_weight_index){
        .arena = uz_arena_new(limits->max_pickle_arena),
        .tensors = uz_map_new(),
        .file_numbers = uz_map_new(),
    };
    return index->arena && index->tensors && index->file_numbers ? read_text(&r, err)
                                                                 : uz_fail_nomem(err, sizeof r);
}

void uz_weight_index_free(struct uz_weight_index *index)
{
    free(index->entries);
    free(index->files);
    uz_map_free(index->tensors);
    uz_map_free(index->file_numbers);
    uz_arena_free(index->arena);
    *index = (struct uz_weight_index){0};
}
