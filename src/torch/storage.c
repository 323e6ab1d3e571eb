/* SPDX-License-Identifier: Apache-2.0 */
/* Storages: from the persistent ids that pickles name them by to bytes of the file. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "torch/storage_class.h"
#include "torch/tensor_impl.h"

enum { MAX_KEY_NBYTES = 200 };

/* Who asks for a storage: for messages. */
struct site {
    const struct uz_node *node;
    const char *what;
};

void uz_describe_tensor_failure(const struct uz_torch_file *file, const struct uz_node *node,
                                const char *what, int status, struct uz_error *err, const char *fmt,
                                ...)
{
    char text[768];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    uz_fill_error(err, status, uz_content_path(file->content), node ? node->offset : UZ_NO_OFFSET,
                  "%s: %s", what, text);
}

/* The storage of a file in the old container. */
static int place_old_storage(struct uz_torch_file *file, const struct site *site,
                             const struct uz_node *key, uint64_t nbytes, struct uz_storage *storage,
                             struct uz_error *err)
{
    char kind[300];
    uint64_t index;
    if (key->kind != UZ_NODE_STR ||
        !uz_legacy_find(file->legacy, key->u.text.data, key->u.text.nbytes, &index))
        return fail_tensor(file, site->node, site->what, UZ_CORRUPT, err,
                           "its storage, %s, is not in the file's list of storages",
                           uz_node_describe(key, kind, sizeof kind));
    const struct uz_legacy_storage *old = uz_legacy_storage(file->legacy, index);
    if (old->nbytes != nbytes)
        return fail_tensor(file, site->node, site->what, UZ_CORRUPT, err,
                           "its storage needs %" PRIu64 " bytes, the file has %" PRIu64, nbytes,
                           old->nbytes);
    bool packed = uz_content_is_packed(file->content);
    *storage = (struct uz_storage){
        .key = index,
        .offset = packed ? 0 : old->offset,
        .nbytes = nbytes,
        .entry = index,
        .packing = packed ? UZ_PACKED_ZSTD : UZ_PACKED_STORED,
        .stream_nbytes = packed ? uz_torch_stream_memory(file) : 0,
    };
    return UZ_OK;
}

/* The storage of an archive that is compressed whole. */
static int place_forward(struct uz_torch_file *file, const struct site *site,
                         const struct uz_node *key, uint64_t nbytes, struct uz_storage *storage,
                         struct uz_error *err)
{
    char kind[300];
    uint64_t index, known;
    if (key->kind != UZ_NODE_STR ||
        !uz_forward_find(file->forward, key->u.text.data, key->u.text.nbytes, &index, &known))
        return fail_tensor(file, site->node, site->what, UZ_CORRUPT, err,
                           "%s stands where the key of its storage must",
                           uz_node_describe(key, kind, sizeof kind));
    if (known != nbytes)
        return fail_tensor(file, site->node, site->what, UZ_CORRUPT, err,
                           "its storage needs %" PRIu64 " bytes, for another tensor it has "
                           "%" PRIu64,
                           nbytes, known);
    *storage = (struct uz_storage){
        .key = index,
        .nbytes = nbytes,
        .entry = index,
        .packing = UZ_PACKED_ZSTD,
        .big_endian = file->big_endian,
        .stream_nbytes = uz_torch_stream_memory(file),
    };
    return UZ_OK;
}

/* The index of the archive's entry ROOT/data/KEY. */
static int find_entry(const struct uz_torch_file *file, const struct site *site,
                      const struct uz_node *key, uint64_t *index, struct uz_error *err)
{
    char name[MAX_KEY_NBYTES + 8], kind[300];
    if (key->kind != UZ_NODE_STR || key->u.text.nbytes > MAX_KEY_NBYTES ||
        memchr(key->u.text.data, '\0', key->u.text.nbytes))
        return fail_tensor(file, site->node, site->what, UZ_CORRUPT, err,
                           "%s stands where the key of its storage must",
                           uz_node_describe(key, kind, sizeof kind));
    snprintf(name, sizeof name, "data/%.*s", (int)key->u.text.nbytes, key->u.text.data);
    char *full = uz_path_join(file->archive_root, name);
    if (!full)
        return uz_fail_nomem(err, sizeof name);
    bool found = uz_zip_find(file->zip, full, index);
    free(full);
    if (!found)
        return fail_tensor(file, site->node, site->what, UZ_CORRUPT, err,
                           "its storage '%s' is not in the archive", name);
    return UZ_OK;
}

/* Where the bytes of entry `index` lie; it must hold `nbytes`. */
static int place_storage(struct uz_torch_file *file, const struct site *site, uint64_t index,
                         uint64_t nbytes, struct uz_storage *storage, struct uz_error *err)
{
    struct uz_zip_entry entry;
    uint64_t offset = 0;
    int rc = uz_zip_stat(file->zip, index, &entry, err);
    if (rc == UZ_OK && entry.nbytes != nbytes)
        return fail_tensor(file, site->node, site->what, UZ_CORRUPT, err,
                           "its storage needs %" PRIu64 " bytes, the archive's entry '%s' has "
                           "%" PRIu64,
                           nbytes, uz_zip_name(file->zip, index), entry.nbytes);
    if (rc == UZ_OK)
        rc = uz_zip_offset(file->zip, index, &offset, err);
    if (rc < 0)
        return uz_context(err, rc, "%s", site->what);
    bool packed = uz_content_is_packed(file->content);
    if (packed && entry.deflated)
        return fail_tensor(file, site->node, site->what, UZ_UNSUPPORTED, err,
                           "deflated in a file that is compressed whole: decompress the file "
                           "first, zstd -d");
    *storage = (struct uz_storage){
        .key = index,
        .offset = packed || entry.deflated ? 0 : offset,
        .nbytes = nbytes,
        .entry = index,
        .packing = packed           ? UZ_PACKED_ZSTD
                   : entry.deflated ? UZ_PACKED_DEFLATE
                                    : UZ_PACKED_STORED,
        .big_endian = file->big_endian,
        .stream_nbytes = packed ? uz_torch_stream_memory(file) : 0,
    };
    return UZ_OK;
}

/* Checks the persistent id ('storage', class, key, location, numel[, view]); *id is its tuple. */
static int read_id(const struct uz_torch_file *file, const struct site *site,
                   const struct uz_seq **id, struct uz_storage_ref *ref, struct uz_error *err)
{
    const struct uz_node *node = site->node;
    char kind[300];
    const struct uz_seq *seq = node->kind == UZ_NODE_PERSID ? uz_node_list(node->u.persid) : NULL;
    bool known;
    if (!seq || seq->n < 5 || seq->n > 6 || !uz_node_is_str(seq->items[0], "storage"))
        return fail_tensor(file, node, site->what, UZ_CORRUPT, err,
                           "%s stands where its storage must",
                           uz_node_describe(node, kind, sizeof kind));
    ref->class_node = seq->items[1];
    ref->location = seq->items[3];
    ref->dtype = uz_storage_class_dtype(ref->class_node, &known);
    ref->itemsize = uz_storage_class_size(ref->class_node, &known);
    if (!known)
        return fail_tensor(file, node, site->what, UZ_UNSUPPORTED, err, "unknown storage class %s",
                           uz_node_describe(ref->class_node, kind, sizeof kind));
    if (seq->items[4]->kind != UZ_NODE_INT || !uz_node_u64(seq->items[4], &ref->numel) ||
        !uz_mul_u64(ref->numel, ref->itemsize, &ref->nbytes))
        return fail_tensor(file, node, site->what, UZ_CORRUPT, err,
                           "the size of its storage is no size");
    *id = seq;
    return UZ_OK;
}

/*
 * PyTorch before 0.4 had storages that are views of others: (key, offset, size) in elements. The
 * view is a part of the storage that is in the file.
 */
static int read_part(const struct uz_torch_file *file, const struct site *site,
                     const struct uz_seq *id, struct uz_storage_ref *ref, struct uz_error *err)
{
    ref->first = 0;
    if (id->n < 6 || uz_node_is_none(id->items[5]))
        return UZ_OK;
    const struct uz_seq *view = uz_node_list(id->items[5]);
    uint64_t first, n_elems;
    if (!view || view->n != 3 || !uz_node_u64(view->items[1], &first) ||
        !uz_node_u64(view->items[2], &n_elems) || first > ref->numel ||
        n_elems > ref->numel - first)
        return fail_tensor(file, site->node, site->what, UZ_CORRUPT, err,
                           "its storage is no proper view of another storage");
    ref->first = first * ref->itemsize;
    ref->nbytes = n_elems * ref->itemsize;
    return UZ_OK;
}

int uz_torch_storage(struct uz_torch_file *file, const struct uz_node *node, const char *what,
                     struct uz_storage_ref *ref, struct uz_error *err)
{
    const struct site site = {node, what};
    const struct uz_seq *id = NULL;
    uint64_t nbytes, index = 0;
    UZ_TRY(read_id(file, &site, &id, ref, err));
    nbytes = ref->nbytes;
    UZ_TRY(read_part(file, &site, id, ref, err));
    if (file->legacy)
        return place_old_storage(file, &site, id->items[2], nbytes, &ref->storage, err);
    if (file->forward)
        return place_forward(file, &site, id->items[2], nbytes, &ref->storage, err);
    UZ_TRY(find_entry(file, &site, id->items[2], &index, err));
    return place_storage(file, &site, index, nbytes, &ref->storage, err);
}
