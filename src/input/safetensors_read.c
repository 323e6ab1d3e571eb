/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header of a safetensors file. Format: an 8-byte little-endian length, that much JSON, then
 * data (https://huggingface.co/docs/safetensors, "Format").
 */
#include "input/safetensors_read.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/map.h"
#include "base/mem.h"
#include "input/json_pull.h"

enum { LENGTH_NBYTES = 8, MAX_NDIM = 64 };

struct reader {
    struct uz_safetensors *file;
    struct uz_json json;
    struct uz_map *names;
    const struct uz_limits *limits;
    const char *path;
    char name[256]; /* of the entry that is read, for messages */
};

#define fail(r, err, status, ...) uz_fail_at((err), (status), (r)->path, UZ_NO_OFFSET, __VA_ARGS__)

/* A copy of the text read last, which may not hold a NUL. */
static int keep_text(struct reader *r, const char **out, struct uz_error *err)
{
    if (r->json.text_nbytes > r->limits->max_name_bytes)
        return fail(r, err, UZ_LIMIT,
                    "a text in the header has %zu bytes, at most %" PRIu64 " are allowed",
                    r->json.text_nbytes, r->limits->max_name_bytes);
    if (memchr(r->json.text, '\0', r->json.text_nbytes))
        return fail(r, err, UZ_CORRUPT, "a text in the header holds a NUL character");
    return uz_arena_strndup(r->file->arena, r->json.text, r->json.text_nbytes, out, err);
}

static int read_metadata(struct reader *r, struct uz_error *err)
{
    struct uz_safetensors *file = r->file;
    bool more;
    UZ_TRY(uz_json_open_object(&r->json, err));
    for (;;) {
        struct uz_safetensors_metadata *pair;
        UZ_TRY(uz_json_next_key(&r->json, &more, err));
        if (!more)
            return UZ_OK;
        UZ_TRY(UZ_APPEND(file->metadata, file->n_metadata, file->cap_metadata, &pair, err));
        UZ_TRY(keep_text(r, &pair->key, err));
        UZ_TRY(uz_json_text(&r->json, err));
        UZ_TRY(keep_text(r, &pair->value, err));
    }
}

static int read_dtype(struct reader *r, struct uz_safetensors_entry *entry, struct uz_error *err)
{
    char shown[64];
    UZ_TRY(uz_json_text(&r->json, err));
    for (enum uz_dtype dtype = 1; dtype < UZ_DTYPE_COUNT; dtype++) {
        const char *name = uz_dtype_safetensors_name(dtype);
        if (name && strlen(name) == r->json.text_nbytes &&
            !memcmp(name, r->json.text, r->json.text_nbytes)) {
            entry->dtype = dtype;
            return UZ_OK;
        }
    }
    return fail(r, err, UZ_UNSUPPORTED, "%s: unknown dtype %s", r->name,
                uz_printable(shown, sizeof shown, r->json.text, r->json.text_nbytes));
}

/* A list of at most `max` numbers. */
static int read_numbers(struct reader *r, uint64_t *numbers, unsigned max, unsigned *n,
                        struct uz_error *err)
{
    bool more;
    *n = 0;
    UZ_TRY(uz_json_open_list(&r->json, err));
    for (;;) {
        UZ_TRY(uz_json_next_item(&r->json, &more, err));
        if (!more)
            return UZ_OK;
        if (*n == max)
            return fail(r, err, UZ_CORRUPT, "%s: a list of more than %u numbers", r->name, max);
        UZ_TRY(uz_json_u64(&r->json, &numbers[(*n)++], err));
    }
}

static int read_shape(struct reader *r, struct uz_safetensors_entry *entry, struct uz_error *err)
{
    uint64_t shape[MAX_NDIM], *copy;
    UZ_TRY(read_numbers(r, shape, MAX_NDIM, &entry->ndim, err));
    UZ_TRY(uz_arena_alloc(r->file->arena, entry->ndim, sizeof *copy, &copy, err));
    memcpy(copy, shape, entry->ndim * sizeof *copy);
    entry->shape = copy;
    return UZ_OK;
}

/* Sets offset and nbytes; the offset still counts from the end of the header. */
static int read_offsets(struct reader *r, struct uz_safetensors_entry *entry, struct uz_error *err)
{
    uint64_t offsets[2];
    unsigned n;
    UZ_TRY(read_numbers(r, offsets, 2, &n, err));
    if (n != 2 || offsets[0] > offsets[1])
        return fail(r, err, UZ_CORRUPT, "%s: its data_offsets are no begin and end", r->name);
    entry->offset = offsets[0];
    entry->nbytes = offsets[1] - offsets[0];
    return UZ_OK;
}

static int read_field(struct reader *r, struct uz_safetensors_entry *entry, unsigned *seen,
                      struct uz_error *err)
{
    static const char *const fields[] = {"dtype", "shape", "data_offsets"};
    unsigned i = 0;
    while (i < 3 && strcmp(fields[i], r->json.text) != 0)
        i++;
    if (i == 3)
        return fail(r, err, UZ_UNSUPPORTED,
                    "%s: its entry has a field that is none of dtype, shape, data_offsets",
                    r->name);
    if (*seen & 1U << i)
        return fail(r, err, UZ_CORRUPT, "%s: its entry has two %s", r->name, fields[i]);
    *seen |= 1U << i;
    if (i == 0)
        return read_dtype(r, entry, err);
    return i == 1 ? read_shape(r, entry, err) : read_offsets(r, entry, err);
}

static int measure(struct reader *r, struct uz_safetensors_entry *entry, struct uz_error *err)
{
    uint64_t numel = 1, nbytes;
    for (unsigned i = 0; i < entry->ndim; i++)
        if (!uz_mul_u64(numel, entry->shape[i], &numel))
            return fail(r, err, UZ_CORRUPT, "%s: its shape does not fit 64 bits", r->name);
    if (!uz_mul_u64(numel, uz_dtype_size(entry->dtype), &nbytes) || nbytes != entry->nbytes)
        return fail(r, err, UZ_CORRUPT,
                    "%s: its data_offsets span %" PRIu64 " bytes, its shape and dtype (%s) need "
                    "another number",
                    r->name, entry->nbytes, uz_dtype_name(entry->dtype));
    entry->numel = numel;
    return UZ_OK;
}

static int read_entry(struct reader *r, struct uz_error *err)
{
    struct uz_safetensors *file = r->file;
    struct uz_safetensors_entry entry = {0};
    struct uz_safetensors_entry *slot;
    unsigned seen = 0;
    bool more, present;
    uz_printable(r->name, sizeof r->name, r->json.text, r->json.text_nbytes);
    UZ_TRY(keep_text(r, &entry.name, err));
    UZ_TRY(uz_map_add(r->names, entry.name, strlen(entry.name), 0, &present, err));
    if (present)
        return fail(r, err, UZ_CORRUPT, "the name %s occurs twice", r->name);
    if (file->n_entries >= r->limits->max_tensors)
        return fail(r, err, UZ_LIMIT, "more than %zu tensors", file->n_entries);
    UZ_TRY(uz_json_open_object(&r->json, err));
    for (;;) {
        UZ_TRY(uz_json_next_key(&r->json, &more, err));
        if (!more)
            break;
        UZ_TRY(read_field(r, &entry, &seen, err));
    }
    if (seen != 7)
        return fail(r, err, UZ_CORRUPT, "%s: its entry lacks dtype, shape or data_offsets",
                    r->name);
    UZ_TRY(measure(r, &entry, err));
    UZ_TRY(UZ_APPEND(file->entries, file->n_entries, file->cap_entries, &slot, err));
    *slot = entry;
    return UZ_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct uz_safetensors_entry *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->nbytes != y->nbytes)
        return x->nbytes < y->nbytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* The tensors, in the order of their data, fill the file from the header to the end. */
static int prove_filled(struct reader *r, struct uz_error *err)
{
    struct uz_safetensors *file = r->file;
    uint64_t end = 0, data_nbytes = file->file_nbytes - file->data_offset;
    if (file->n_entries > 0)
        qsort(file->entries, file->n_entries, sizeof *file->entries, by_offset);
    for (size_t i = 0; i < file->n_entries; i++) {
        struct uz_safetensors_entry *entry = &file->entries[i];
        if (entry->offset != end)
            return fail(r, err, UZ_CORRUPT,
                        "%s begins at byte %" PRIu64 " of the data, where what lies before it ends "
                        "at %" PRIu64 ": %s",
                        entry->name, entry->offset, end,
                        entry->offset < end ? "tensors overlap" : "there is a gap");
        if (!uz_add_u64(end, entry->nbytes, &end) || end > data_nbytes)
            return fail(r, err, UZ_CORRUPT,
                        "%s ends behind the end of the file, which is cut short or damaged",
                        entry->name);
        entry->offset += file->data_offset;
    }
    if (end != data_nbytes)
        return fail(r, err, UZ_CORRUPT, "%" PRIu64 " bytes behind the last tensor are no tensor's",
                    data_nbytes - end);
    return UZ_OK;
}

static int parse(struct reader *r, struct uz_error *err)
{
    bool more, has_metadata = false;
    UZ_TRY(uz_json_open_object(&r->json, err));
    for (;;) {
        UZ_TRY(uz_json_next_key(&r->json, &more, err));
        if (!more)
            break;
        if (strcmp(r->json.text, "__metadata__") != 0 ||
            r->json.text_nbytes != strlen("__metadata__")) {
            UZ_TRY(read_entry(r, err));
            continue;
        }
        if (has_metadata)
            return fail(r, err, UZ_CORRUPT, "the header has two __metadata__");
        has_metadata = true;
        UZ_TRY(read_metadata(r, err));
    }
    UZ_TRY(uz_json_end(&r->json, err));
    return prove_filled(r, err);
}

int uz_safetensors_parse(struct uz_safetensors *file, const void *header, uint64_t header_nbytes,
                         uint64_t file_nbytes, const char *path, const struct uz_limits *limits,
                         struct uz_error *err)
{
    struct reader r = {.file = file, .limits = limits, .path = path, .names = uz_map_new()};
    *file = (struct uz_safetensors){
        .file_nbytes = file_nbytes,
        .data_offset = LENGTH_NBYTES + header_nbytes,
        .arena = uz_arena_new(limits->max_pickle_arena),
    };
    uz_json_init(&r.json, header, header_nbytes, path, LENGTH_NBYTES);
    int rc = r.names && file->arena ? parse(&r, err) : uz_fail_nomem(err, sizeof r);
    uz_json_free(&r.json);
    uz_map_free(r.names);
    return rc;
}

static int read_header(struct uz_safetensors *file, int fd, uint64_t file_nbytes, const char *path,
                       const struct uz_limits *limits, struct uz_error *err)
{
    uint8_t length[LENGTH_NBYTES];
    struct uz_cursor cur;
    uint64_t nbytes;
    char *header;
    if (file_nbytes < LENGTH_NBYTES)
        return uz_fail_at(err, UZ_FORMAT, path, UZ_NO_OFFSET,
                          "too short for a safetensors file: %" PRIu64 " bytes", file_nbytes);
    UZ_TRY(uz_pread_all(fd, length, sizeof length, 0, path, err));
    uz_cursor_init(&cur, length, sizeof length, path, 0);
    UZ_TRY(uz_get_le64(&cur, &nbytes, err));
    if (nbytes > file_nbytes - LENGTH_NBYTES)
        return uz_fail_at(err, UZ_CORRUPT, path, 0,
                          "says that its header has %" PRIu64 " bytes, but ends before that; "
                          "is this a safetensors file?",
                          nbytes);
    if (nbytes > limits->max_header_bytes)
        return uz_fail_at(err, UZ_LIMIT, path, 0,
                          "says that its header has %" PRIu64 " bytes, at most %" PRIu64
                          " are allowed; is this a safetensors file?",
                          nbytes, limits->max_header_bytes);
    UZ_TRY(uz_alloc(&header, nbytes + 1, 1, err));
    int rc = uz_pread_all(fd, header, (size_t)nbytes, LENGTH_NBYTES, path, err);
    if (rc == UZ_OK)
        rc = uz_safetensors_parse(file, header, nbytes, file_nbytes, path, limits, err);
    free(header);
    return rc;
}

int uz_safetensors_read(struct uz_safetensors *file, const char *path,
                        const struct uz_limits *limits, struct uz_error *err)
{
    int fd;
    uint64_t file_nbytes;
    *file = (struct uz_safetensors){0};
    UZ_TRY(uz_open_read(path, &fd, &file_nbytes, err));
    int rc = read_header(file, fd, file_nbytes, path, limits, err);
    close(fd);
    return rc;
}

void uz_safetensors_free(struct uz_safetensors *file)
{
    free(file->entries);
    free(file->metadata);
    uz_arena_free(file->arena);
    *file = (struct uz_safetensors){0};
}
