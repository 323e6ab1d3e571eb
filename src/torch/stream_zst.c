/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The storages of a file compressed whole, in the order in which they lie in it. The file is
 * decoded once, but for archives that are not in PyTorch's order: once more to find the directory,
 * and again from the beginning.
 */
#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>

#include "torch/file_impl.h"
#include "torch/stream_impl.h"

struct item {
    uint64_t entry, offset, nbytes;
};

struct uz_stream_zst {
    struct uz_torch_file *file;
    struct item *items; /* ascending by offset; none if the archive is read forwards */
    size_t n, cap;
    size_t next;         /* item that comes after the current one */
    struct item current; /* nothing before the first */
    uint64_t pos;        /* in the current item */
    uint32_t crc;        /* of its first crc_nbytes, all of which were read */
    uint64_t crc_nbytes;
};

static int add(struct uz_stream_zst *stream, uint64_t entry, uint64_t offset, uint64_t nbytes,
               struct uz_error *err)
{
    struct item *item;
    UZ_TRY(UZ_APPEND(stream->items, stream->n, stream->cap, &item, err));
    *item = (struct item){entry, offset, nbytes};
    return UZ_OK;
}

static bool is_storage(const struct uz_torch_file *file, const char *name)
{
    size_t n = strlen(file->archive_root);
    return !strncmp(name, file->archive_root, n) && !strncmp(name + n, "/data/", 6);
}

static int list_entries(struct uz_stream_zst *stream, struct uz_error *err)
{
    struct uz_zip *zip = stream->file->zip;
    for (uint64_t i = 0; i < uz_zip_count(zip); i++) {
        struct uz_zip_entry entry;
        uint64_t offset;
        if (!is_storage(stream->file, uz_zip_name(zip, i)))
            continue;
        UZ_TRY(uz_zip_stat(zip, i, &entry, err));
        if (entry.deflated)
            continue; /* no tensor may be there */
        UZ_TRY(uz_zip_offset(zip, i, &offset, err));
        UZ_TRY(add(stream, i, offset, entry.nbytes, err));
    }
    return UZ_OK;
}

static int list_old_storages(struct uz_stream_zst *stream, struct uz_error *err)
{
    const struct uz_legacy *legacy = stream->file->legacy;
    for (size_t i = 0; i < uz_legacy_count(legacy); i++) {
        const struct uz_legacy_storage *storage = uz_legacy_storage(legacy, i);
        UZ_TRY(add(stream, i, storage->offset, storage->nbytes, err));
    }
    return UZ_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->entry < y->entry ? -1 : x->entry > y->entry;
}

int uz_stream_zst_open(struct uz_stream_zst **out, const char *path, const struct uz_limits *limits,
                       struct uz_error *err)
{
    struct uz_stream_zst *stream;
    UZ_TRY(uz_alloc(&stream, 1, sizeof *stream, err));
    int rc = uz_torch_open(&stream->file, path, limits, err);
    if (rc == UZ_OK && !uz_content_is_packed(stream->file->content))
        rc = uz_fail_at(err, UZ_CORRUPT, path, UZ_NO_OFFSET, "it changed while it was read");
    if (rc == UZ_OK && stream->file->zip)
        rc = list_entries(stream, err);
    if (rc == UZ_OK && stream->file->legacy)
        rc = list_old_storages(stream, err);
    if (rc < 0) {
        uz_stream_zst_close(stream);
        return rc;
    }
    if (stream->n > 0)
        qsort(stream->items, stream->n, sizeof *stream->items, by_offset);
    *out = stream;
    return UZ_OK;
}

void uz_stream_zst_close(struct uz_stream_zst *stream)
{
    if (!stream)
        return;
    uz_torch_close(stream->file);
    free(stream->items);
    free(stream);
}

/* Holds the storage that was read against the CRC-32 that follows it, if all of it was read. */
static int check_crc(const struct uz_stream_zst *stream, uint32_t crc, struct uz_error *err)
{
    if (crc == 0 || stream->crc_nbytes < stream->current.nbytes || crc == stream->crc)
        return UZ_OK;
    return uz_fail_at(err, UZ_CORRUPT, uz_torch_path(stream->file), stream->current.offset,
                      "the bytes of a storage do not match their CRC-32: the file was damaged");
}

static int next_forward(struct uz_stream_zst *stream, bool *found, struct uz_error *err)
{
    struct uz_forward_storage storage;
    UZ_TRY(uz_forward_next(stream->file->forward, &storage, found, err));
    UZ_TRY(check_crc(stream, storage.crc_before, err));
    stream->current = (struct item){storage.index, storage.offset, storage.nbytes};
    return UZ_OK;
}

static int next_listed(struct uz_stream_zst *stream, bool *found, struct uz_error *err)
{
    const struct uz_legacy *legacy = stream->file->legacy;
    struct uz_content *content = stream->file->content;
    *found = stream->next < stream->n;
    if (!*found) {
        uint64_t end = stream->current.offset + stream->current.nbytes;
        return legacy ? uz_content_finish(content, end, err) : UZ_OK;
    }
    stream->current = stream->items[stream->next++];
    return legacy ? uz_legacy_check_count(uz_legacy_storage(legacy, stream->current.entry), content,
                                          err)
                  : UZ_OK;
}

int uz_stream_zst_next(struct uz_stream_zst *stream, uint64_t *entry, uint64_t *nbytes, bool *found,
                       struct uz_error *err)
{
    UZ_TRY(stream->file->forward ? next_forward(stream, found, err)
                                 : next_listed(stream, found, err));
    stream->pos = stream->crc_nbytes = 0;
    stream->crc = 0;
    *entry = stream->current.entry;
    *nbytes = stream->current.nbytes;
    return UZ_OK;
}

/* Moves on by nbytes of the current item, of which *at is the place in the content. */
static int take(struct uz_stream_zst *stream, uint64_t nbytes, uint64_t *at, struct uz_error *err)
{
    if (nbytes > stream->current.nbytes - stream->pos)
        return uz_fail_at(err, UZ_CORRUPT, uz_torch_path(stream->file), UZ_NO_OFFSET,
                          "a storage is shorter than its tensors say");
    *at = stream->current.offset + stream->pos;
    stream->pos += nbytes;
    return UZ_OK;
}

int uz_stream_zst_read(struct uz_stream_zst *stream, void *buf, size_t nbytes, struct uz_error *err)
{
    uint64_t at, pos = stream->pos;
    UZ_TRY(take(stream, nbytes, &at, err));
    UZ_TRY(uz_content_read(stream->file->content, buf, nbytes, at, err));
    if (pos == stream->crc_nbytes) {
        stream->crc = libdeflate_crc32(stream->crc, buf, nbytes);
        stream->crc_nbytes += nbytes;
    }
    return UZ_OK;
}

int uz_stream_zst_skip(struct uz_stream_zst *stream, uint64_t nbytes, struct uz_error *err)
{
    uint64_t at;
    return take(stream, nbytes, &at, err);
}
