/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a PyTorch file: which container it is, what the archive holds, its value graph. */
#include "torch/file.h"

#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>

#include "base/file.h"
#include "torch/file_impl.h"
#include "torch/pickle.h"
#include "torch/prefix.h"

enum {
    HEAD_NBYTES = 64,
    MAX_BYTEORDER_NBYTES = 64,
    STORAGE_NBYTES = 256, /* of tables, for each storage of an open file */
};

/* The one folder at the top of the archive that holds a data.pkl, and that entry. */
static int find_root(struct uz_torch_file *file, uint64_t *pickle_index, struct uz_error *err)
{
    static const char tail[] = "/data.pkl";
    const size_t tail_nbytes = sizeof tail - 1;
    size_t root_nbytes = 0;
    bool found = false;

    for (uint64_t i = 0; i < uz_zip_count(file->zip); i++) {
        const char *name = uz_zip_name(file->zip, i);
        size_t nbytes = strcspn(name, "/");
        if (nbytes == 0 || strcmp(name + nbytes, tail) != 0)
            continue;
        if (found)
            return uz_fail_at(err, UZ_CORRUPT, uz_content_path(file->content), UZ_NO_OFFSET,
                              "two folders with a data.pkl in one archive");
        found = true;
        *pickle_index = i;
        root_nbytes = nbytes;
    }
    if (!found)
        return uz_fail_at(err, UZ_FORMAT, uz_content_path(file->content), UZ_NO_OFFSET,
                          "not a PyTorch file: a zip archive without a data.pkl");
    const char *name = uz_zip_name(file->zip, *pickle_index);
    UZ_TRY(uz_alloc(&file->archive_root, (uint64_t)root_nbytes + tail_nbytes + 1, 1, err));
    memcpy(file->archive_root, name, root_nbytes);
    return UZ_OK;
}

/* Finds the entry ROOT/name; the name of the entry is short by construction. */
static int find_in_root(const struct uz_torch_file *file, const char *name, bool *found,
                        uint64_t *index, struct uz_error *err)
{
    char *full = uz_path_join(file->archive_root, name);
    if (!full)
        return uz_fail_nomem(err, strlen(file->archive_root));
    *found = uz_zip_find(file->zip, full, index);
    free(full);
    return UZ_OK;
}

static int set_byteorder(struct uz_torch_file *file, const char *text, uint64_t nbytes,
                         struct uz_error *err)
{
    bool little = nbytes == 6 && memcmp(text, "little", 6) == 0;
    file->big_endian = nbytes == 3 && memcmp(text, "big", 3) == 0;
    if (!little && !file->big_endian)
        return uz_fail_at(err, UZ_CORRUPT, uz_content_path(file->content), UZ_NO_OFFSET,
                          "its byteorder is neither 'little' nor 'big'");
    return UZ_OK;
}

/* `byteorder` came with PyTorch 2.1; files without it are little-endian. */
static int read_byteorder(struct uz_torch_file *file, struct uz_error *err)
{
    bool found;
    uint64_t index = 0, nbytes = 0;
    uint8_t *text = NULL;
    UZ_TRY(find_in_root(file, "byteorder", &found, &index, err));
    if (!found)
        return UZ_OK;
    UZ_TRY(uz_zip_read(file->zip, index, MAX_BYTEORDER_NBYTES, &text, &nbytes, err));
    int rc = set_byteorder(file, (const char *)text, nbytes, err);
    free(text);
    return rc;
}

static int refuse_torchscript(const struct uz_torch_file *file, struct uz_error *err)
{
    bool found;
    uint64_t index;
    UZ_TRY(find_in_root(file, "constants.pkl", &found, &index, err));
    if (found)
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_content_path(file->content), UZ_NO_OFFSET,
                          "a TorchScript program (torch.jit.save), not saved values");
    return UZ_OK;
}

static int read_value(struct uz_torch_file *file, const uint8_t *data, struct uz_error *err)
{
    struct uz_cursor cur;
    uz_cursor_init(&cur, data, file->pickle_nbytes, uz_content_path(file->content),
                   file->pickle_offset);
    int rc = uz_pickle_read_lists(&cur, &file->limits, file->arena, &file->root, &file->lists, err);
    if (rc == UZ_OK && uz_cursor_left(&cur) > 0)
        rc = uz_fail_at(err, UZ_CORRUPT, uz_content_path(file->content), uz_cursor_offset(&cur),
                        "%llu bytes follow the end of data.pkl's pickle",
                        (unsigned long long)uz_cursor_left(&cur));
    return rc;
}

static bool is_seen(struct uz_torch_file *file, const uint8_t *data)
{
    if (!file->seen)
        return false;
    file->digest = uz_pickle_digest(data, file->pickle_nbytes);
    file->has_digest = true;
    return uz_seen_has(file->seen, &file->digest);
}

static int read_pickle(struct uz_torch_file *file, uint64_t index, struct uz_error *err)
{
    struct uz_zip_entry entry;
    uint8_t *data = NULL;

    UZ_TRY(uz_zip_stat(file->zip, index, &entry, err));
    if (!entry.deflated)
        UZ_TRY(uz_zip_offset(file->zip, index, &file->pickle_offset, err));
    UZ_TRY(uz_zip_read(file->zip, index, file->limits.max_pickle_bytes, &data, &file->pickle_nbytes,
                       err));
    int rc = is_seen(file, data) ? UZ_OK : read_value(file, data, err);
    free(data);
    if (rc < 0 && entry.deflated)
        uz_context(err, rc, "in the inflated data.pkl");
    return rc;
}

static int open_zip(struct uz_torch_file *file, struct uz_error *err)
{
    uint64_t pickle_index = 0;
    file->arena = uz_arena_new(file->limits.max_pickle_arena);
    if (!file->arena)
        return uz_fail_nomem(err, 0);
    UZ_TRY(uz_zip_open(&file->zip, file->content, &file->limits, err));
    UZ_TRY(find_root(file, &pickle_index, err));
    UZ_TRY(refuse_torchscript(file, err));
    UZ_TRY(read_byteorder(file, err));
    return read_pickle(file, pickle_index, err);
}

/* ---- An archive that is compressed whole: without its directory ---- */

/* data.pkl while it is not known yet how many bytes it has. */
struct attempt {
    struct uz_torch_file *file;
    struct uz_forward_value *value;
};

static void forget_value(struct uz_torch_file *file)
{
    uz_pickle_lists_free(&file->lists);
    uz_arena_free(file->arena);
    file->lists = (struct uz_pickle_lists){0};
    file->arena = NULL;
    file->root = NULL;
}

static int try_value(void *cookie, struct uz_cursor *cur, struct uz_error *err)
{
    const struct attempt *attempt = cookie;
    struct uz_torch_file *file = attempt->file;
    forget_value(file);
    file->arena = uz_arena_new(file->limits.max_pickle_arena);
    if (!file->arena)
        return uz_fail_nomem(err, 0);
    UZ_TRY(uz_pickle_read_lists(cur, &file->limits, file->arena, &file->root, &file->lists, err));
    attempt->value->nbytes = cur->pos;
    attempt->value->crc = libdeflate_crc32(0, cur->data, (size_t)cur->pos);
    return UZ_OK;
}

static int begin_forward(struct uz_torch_file *file, bool *known, struct uz_error *err)
{
    struct uz_forward_value value = {.nbytes = 0};
    struct attempt attempt = {file, &value};
    file->pickle_offset = uz_forward_pickle(file->forward);
    UZ_TRY(uz_read_prefix(file->content, file->pickle_offset, file->limits.max_pickle_bytes,
                          try_value, &attempt, err));
    value.ids = &file->lists.ids;
    file->pickle_nbytes = value.nbytes;
    UZ_TRY(uz_forward_begin(file->forward, &value, known, err));
    const char *order = uz_forward_byteorder(file->forward);
    return *known && *order ? set_byteorder(file, order, strlen(order), err) : UZ_OK;
}

/* Sets file->forward if the archive can be read without its directory. */
static int open_forward(struct uz_torch_file *file, struct uz_error *err)
{
    bool known = false;
    UZ_TRY(uz_forward_open(&file->forward, file->content, &file->limits, err));
    if (!file->forward)
        return UZ_OK;
    UZ_TRY(begin_forward(file, &known, err));
    if (known) {
        file->archive_root = strdup(uz_forward_root(file->forward));
        return file->archive_root ? UZ_OK : uz_fail_nomem(err, 0);
    }
    uz_forward_close(file->forward);
    file->forward = NULL;
    forget_value(file);
    return UZ_OK;
}

/* Names the container by its first bytes. */
static int open_container(struct uz_torch_file *file, struct uz_error *err)
{
    static const uint8_t zip_magic[] = {'P', 'K', 3, 4};
    const char *path = uz_content_path(file->content);
    uint8_t head[HEAD_NBYTES];
    size_t nbytes;
    UZ_TRY(uz_content_read_some(file->content, head, sizeof head, 0, &nbytes, err));
    if (nbytes == 0)
        return uz_fail_at(err, UZ_CORRUPT, path, UZ_NO_OFFSET, "the file is empty");
    if (nbytes >= sizeof zip_magic && memcmp(head, zip_magic, sizeof zip_magic) == 0) {
        if (uz_content_is_packed(file->content))
            UZ_TRY(open_forward(file, err));
        return file->forward ? UZ_OK : open_zip(file, err);
    }
    if (uz_legacy_is_magic(head, nbytes))
        return uz_legacy_open(&file->legacy, file->content, &file->limits, &file->arena,
                              &file->root, err);
    return uz_fail_at(err, UZ_FORMAT, path, UZ_NO_OFFSET, "not a PyTorch file%s",
                      uz_content_is_packed(file->content) ? ", after decompression" : "");
}

static int open_file(struct uz_torch_file **out, const char *path, const struct uz_limits *limits,
                     struct uz_seen *seen, struct uz_error *err)
{
    struct uz_torch_file *file;
    UZ_TRY(uz_alloc(&file, 1, sizeof *file, err));
    file->limits = *limits;
    file->seen = seen;
    int rc = uz_content_open(&file->content, path, err);
    if (rc == UZ_OK)
        rc = open_container(file, err);
    if (rc < 0) {
        uz_error_in_file(err, rc, path);
        uz_torch_close(file);
        return rc;
    }
    *out = file;
    return UZ_OK;
}

int uz_torch_open(struct uz_torch_file **out, const char *path, const struct uz_limits *limits,
                  struct uz_error *err)
{
    return open_file(out, path, limits, NULL, err);
}

int uz_torch_open_unseen(struct uz_torch_file **out, const char *path,
                         const struct uz_limits *limits, struct uz_seen *seen, bool *was_seen,
                         struct uz_error *err)
{
    UZ_TRY(open_file(out, path, limits, seen, err));
    *was_seen = !(*out)->root;
    return UZ_OK;
}

void uz_torch_saw(const struct uz_torch_file *file, struct uz_seen *seen)
{
    if (file->has_digest)
        uz_seen_add(seen, &file->digest);
}

void uz_torch_close(struct uz_torch_file *file)
{
    if (!file)
        return;
    uz_zip_close(file->zip);
    uz_forward_close(file->forward);
    uz_legacy_close(file->legacy);
    forget_value(file);
    uz_content_close(file->content);
    free(file->archive_root);
    free(file);
}

/*
 * Beside what the content takes: the nodes, the bytes of the pickle while it is read (at most twice
 * as many), and what is kept of each storage and entry.
 */
uint64_t uz_torch_stream_memory(const struct uz_torch_file *file)
{
    return uz_content_memory(file->content) + uz_arena_used(file->arena) + 2 * file->pickle_nbytes +
           (uint64_t)file->lists.ids.n * STORAGE_NBYTES;
}

const struct uz_node *uz_torch_root(const struct uz_torch_file *file)
{
    return file->root;
}

const struct uz_seq *uz_torch_globals(const struct uz_torch_file *file)
{
    return file->legacy ? uz_legacy_globals(file->legacy) : &file->lists.globals;
}

const char *uz_torch_archive_root(const struct uz_torch_file *file)
{
    return file->archive_root;
}

bool uz_torch_is_packed(const struct uz_torch_file *file)
{
    return uz_content_is_packed(file->content);
}

const char *uz_torch_path(const struct uz_torch_file *file)
{
    return uz_content_path(file->content);
}
