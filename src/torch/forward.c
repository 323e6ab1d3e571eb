/* SPDX-License-Identifier: Apache-2.0 */
/* Goes through the archive's entries: the value, what is small, the storages, the directory. */
#include "torch/forward.h"

#include <stdlib.h>
#include <string.h>

#include "torch/forward_impl.h"
#include "torch/storage_class.h"

#define NOT_MET    UINT64_MAX
#define NO_STORAGE SIZE_MAX

/* ---- Opening ---- */

static int open_first(struct uz_forward *fw, bool *fits, struct uz_error *err)
{
    static const char tail[] = "/data.pkl";
    const size_t tail_nbytes = sizeof tail - 1;
    const struct uz_local_header *first = &fw->current;
    UZ_TRY(uz_forward_header(fw, fits, err));
    *fits = *fits && first->is_stored && first->name_nbytes > tail_nbytes &&
            !memchr(first->name, '\0', first->name_nbytes);
    if (!*fits)
        return UZ_OK;
    size_t root_nbytes = first->name_nbytes - tail_nbytes;
    *fits = !memcmp(first->name + root_nbytes, tail, tail_nbytes) &&
            !memchr(first->name, '/', root_nbytes);
    if (!*fits)
        return UZ_OK;
    fw->root = strndup(first->name, root_nbytes);
    fw->keys = uz_arena_new(fw->max_keys_nbytes);
    fw->by_key = uz_map_new();
    return fw->root && fw->keys && fw->by_key ? UZ_OK : uz_fail_nomem(err, root_nbytes);
}

int uz_forward_open(struct uz_forward **out, struct uz_content *content,
                    const struct uz_limits *limits, struct uz_error *err)
{
    struct uz_forward *fw;
    bool fits = false;
    *out = NULL;
    UZ_TRY(uz_alloc(&fw, 1, sizeof *fw, err));
    fw->content = content;
    fw->max_entries = limits->max_zip_entries;
    fw->max_keys_nbytes = limits->max_pickle_arena;
    fw->open = NO_STORAGE;
    int rc = open_first(fw, &fits, err);
    if (rc < 0 || !fits) {
        uz_forward_close(fw);
        return rc;
    }
    *out = fw;
    return UZ_OK;
}

void uz_forward_close(struct uz_forward *fw)
{
    if (!fw)
        return;
    uz_map_free(fw->by_key);
    uz_arena_free(fw->keys);
    free(fw->storages);
    free(fw->entries);
    free(fw->root);
    free(fw);
}

const char *uz_forward_root(const struct uz_forward *fw)
{
    return fw->root;
}

uint64_t uz_forward_pickle(const struct uz_forward *fw)
{
    return fw->current.data;
}

const char *uz_forward_byteorder(const struct uz_forward *fw)
{
    return fw->byteorder;
}

bool uz_forward_find(const struct uz_forward *fw, const char *key, size_t key_nbytes,
                     uint64_t *index, uint64_t *nbytes)
{
    if (!uz_map_get(fw->by_key, key, key_nbytes, index))
        return false;
    *nbytes = fw->storages[*index].nbytes;
    return true;
}

/* ---- The storages that the value refers to ---- */

/* Bytes that a persistent id says its storage has; *known is false if nobody can tell. */
static uint64_t size_of(const struct uz_seq *id, bool *known)
{
    uint64_t numel, nbytes = 0;
    size_t itemsize = uz_storage_class_size(id->items[1], known);
    *known = *known && uz_node_u64(id->items[4], &numel) && uz_mul_u64(numel, itemsize, &nbytes);
    return nbytes;
}

/* Other ids than those of storages are refused by whoever needs what they stand for. */
static int add_storage(struct uz_forward *fw, const struct uz_node *node, bool *known,
                       struct uz_error *err)
{
    const struct uz_seq *id = uz_node_list(node->u.persid);
    struct uz_known_storage *storage;
    uint64_t index;
    const char *key;
    if (!id || id->n < 5 || !uz_node_is_str(id->items[0], "storage") ||
        id->items[2]->kind != UZ_NODE_STR)
        return UZ_OK;
    const struct uz_text *text = &id->items[2]->u.text;
    if (uz_map_get(fw->by_key, text->data, text->nbytes, &index))
        return UZ_OK;
    UZ_TRY(uz_arena_strndup(fw->keys, text->data, text->nbytes, &key, err));
    UZ_TRY(uz_map_add(fw->by_key, key, text->nbytes, fw->n_storages, NULL, err));
    UZ_TRY(UZ_APPEND(fw->storages, fw->n_storages, fw->cap_storages, &storage, err));
    *storage = (struct uz_known_storage){size_of(id, known), NOT_MET};
    return UZ_OK;
}

static int add_storages(struct uz_forward *fw, const struct uz_seq *ids, bool *known,
                        struct uz_error *err)
{
    *known = true;
    for (size_t i = 0; i < ids->n && *known; i++)
        UZ_TRY(add_storage(fw, ids->items[i], known, err));
    return UZ_OK;
}

/* ---- Entries ---- */

/* The rest of the name of the entry that is being passed, if it begins with ROOT/prefix. */
static const char *name_in_root(const struct uz_forward *fw, const char *prefix, size_t *nbytes)
{
    const struct uz_local_header *current = &fw->current;
    size_t root = strlen(fw->root), n = strlen(prefix);
    if (current->name_nbytes <= root + n || memcmp(current->name, fw->root, root) != 0 ||
        memcmp(current->name + root, prefix, n) != 0)
        return NULL;
    *nbytes = current->name_nbytes - root - n;
    return current->name + root + n;
}

static bool is_named(const char *name, size_t nbytes, const char *what)
{
    return name && nbytes == strlen(what) && memcmp(name, what, nbytes) == 0;
}

static bool is_pickle(const struct uz_local_header *header)
{
    static const char tail[] = "/data.pkl";
    const char *slash = memchr(header->name, '/', header->name_nbytes);
    size_t left = slash ? header->name_nbytes - (size_t)(slash - header->name) : 0;
    return is_named(slash, left, tail);
}

/* An entry that is no storage: most are about the archive itself. */
static int pass_other(struct uz_forward *fw, struct uz_error *err)
{
    const struct uz_local_header *current = &fw->current;
    uint8_t data[UZ_FORWARD_MAX_BYTEORDER];
    size_t name_nbytes = 0, nbytes;
    const char *name = name_in_root(fw, "/", &name_nbytes);
    bool is_byteorder = is_named(name, name_nbytes, "byteorder");
    if (is_pickle(current))
        return uz_forward_fail(fw, UZ_CORRUPT, current->header, err,
                               "a second data.pkl in one archive");
    if (is_named(name, name_nbytes, "constants.pkl"))
        return uz_forward_fail(fw, UZ_UNSUPPORTED, current->header, err,
                               "a TorchScript program (torch.jit.save), not saved values");
    if (is_byteorder && fw->has_byteorder)
        return uz_forward_fail(fw, UZ_CORRUPT, current->header, err, "a second of that name");
    UZ_TRY(uz_forward_pass_small(fw, data, sizeof data - 1, &nbytes, err));
    if (is_byteorder) {
        memcpy(fw->byteorder, data, nbytes);
        fw->has_byteorder = true;
    }
    return UZ_OK;
}

/* The number of the storage whose header was read; NO_STORAGE if no tensor refers to it. */
static size_t current_storage(const struct uz_forward *fw)
{
    size_t key_nbytes = 0;
    uint64_t index;
    const char *key = name_in_root(fw, "/data/", &key_nbytes);
    return key && uz_map_get(fw->by_key, key, key_nbytes, &index) ? (size_t)index : NO_STORAGE;
}

/* Goes on to the header of a storage, or to the end. */
static int find_storage(struct uz_forward *fw, struct uz_error *err)
{
    bool found;
    for (fw->open = NO_STORAGE; fw->open == NO_STORAGE;) {
        UZ_TRY(uz_forward_header(fw, &found, err));
        if (!found) {
            fw->at_end = true;
            return uz_forward_directory(fw, err);
        }
        if (!fw->current.is_stored)
            return uz_forward_fail(fw, UZ_UNSUPPORTED, fw->current.header, err,
                                   "deflated in a file that is compressed whole: decompress the "
                                   "file first, zstd -d");
        fw->open = current_storage(fw);
        if (fw->open == NO_STORAGE)
            UZ_TRY(pass_other(fw, err));
    }
    struct uz_known_storage *storage = &fw->storages[fw->open];
    if (storage->offset != NOT_MET)
        return uz_forward_fail(fw, UZ_CORRUPT, fw->current.header, err, "a second of that name");
    storage->offset = fw->current.data;
    fw->is_given = false;
    return UZ_OK;
}

int uz_forward_begin(struct uz_forward *fw, const struct uz_forward_value *value, bool *known,
                     struct uz_error *err)
{
    uint32_t crc;
    UZ_TRY(add_storages(fw, value->ids, known, err));
    if (!*known)
        return UZ_OK;
    UZ_TRY(uz_forward_pass(fw, value->nbytes, &crc, err));
    if (crc != 0 && crc != value->crc)
        return uz_forward_fail(fw, UZ_CORRUPT, fw->current.data, err,
                               "its bytes do not match their CRC-32: the file was damaged");
    return find_storage(fw, err);
}

int uz_forward_next(struct uz_forward *fw, struct uz_forward_storage *storage, bool *found,
                    struct uz_error *err)
{
    uint32_t crc = 0;
    if (!fw->at_end && fw->is_given) {
        UZ_TRY(uz_forward_pass(fw, fw->storages[fw->open].nbytes, &crc, err));
        UZ_TRY(find_storage(fw, err));
    }
    fw->is_given = true;
    *found = !fw->at_end;
    *storage = (struct uz_forward_storage){.crc_before = crc};
    if (*found) {
        storage->index = fw->open;
        storage->offset = fw->storages[fw->open].offset;
        storage->nbytes = fw->storages[fw->open].nbytes;
    }
    return UZ_OK;
}

int uz_forward_read(struct uz_forward *fw, uint64_t index, uint64_t first, void *buf, size_t nbytes,
                    struct uz_error *err)
{
    const struct uz_known_storage *wanted = &fw->storages[index];
    struct uz_forward_storage passed;
    for (bool found = true; wanted->offset == NOT_MET && found;)
        UZ_TRY(uz_forward_next(fw, &passed, &found, err));
    if (wanted->offset == NOT_MET)
        return uz_fail_at(err, UZ_CORRUPT, uz_content_path(fw->content), UZ_NO_OFFSET,
                          "storage %llu is not in the archive", (unsigned long long)index);
    if (first > wanted->nbytes || nbytes > wanted->nbytes - first)
        return uz_fail_at(err, UZ_CORRUPT, uz_content_path(fw->content), wanted->offset,
                          "a storage is too short");
    return uz_content_read(fw->content, buf, nbytes, wanted->offset + first, err);
}
