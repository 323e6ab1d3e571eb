/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the container before PyTorch 1.6. */
#include "torch/legacy.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/map.h"
#include "torch/pickle.h"
#include "torch/prefix.h"
#include "torch/storage_class.h"

enum { COUNT_NBYTES = 8, PROTOCOL = 1001 };

struct uz_legacy {
    struct uz_legacy_storage *storages;
    size_t n;
    struct uz_map *by_key; /* keys live in the arena */
    struct uz_seq globals; /* the classes that its pickles name */
};

/* The pickles, as far as they are needed later. */
struct pickles {
    const struct uz_node *root, *keys;
    struct uz_pickle_lists lists; /* of the value; the classes are those of all pickles */
    uint64_t nbytes;              /* of all five together */
};

bool uz_legacy_is_magic(const uint8_t *head, size_t nbytes)
{
    /* LONG1 of ten bytes; before it stand PROTO and, in protocol 4, FRAME. */
    static const uint8_t magic[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46,
                                    0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
    if (nbytes < 2 || head[0] != 0x80)
        return false;
    for (size_t i = 2; i + sizeof magic <= nbytes && i <= 16; i++)
        if (memcmp(head + i, magic, sizeof magic) == 0)
            return true;
    return false;
}

/* ---- The pickles ---- */

static int check_protocol(struct uz_cursor *cur, const struct uz_node *node, struct uz_error *err)
{
    int64_t protocol;
    if (!uz_node_int(node, &protocol) || protocol != PROTOCOL)
        return uz_fail_at(err, UZ_UNSUPPORTED, cur->file, uz_cursor_offset(cur),
                          "the old container of another protocol than %d", PROTOCOL);
    return UZ_OK;
}

static int read_pickles(struct uz_cursor *cur, const struct uz_limits *limits,
                        struct uz_arena *arena, struct pickles *p, struct uz_error *err)
{
    const struct uz_node *node;
    struct uz_pickle_lists *lists = &p->lists;
    UZ_TRY(uz_pickle_read_lists(cur, limits, arena, &node, lists, err)); /* the magic number */
    UZ_TRY(uz_pickle_read_lists(cur, limits, arena, &node, lists, err));
    UZ_TRY(check_protocol(cur, node, err));
    /* sys_info: nothing depends on it */
    UZ_TRY(uz_pickle_read_lists(cur, limits, arena, &node, lists, err));
    lists->ids.n = 0; /* those of the value count */
    UZ_TRY(uz_pickle_read_lists(cur, limits, arena, &p->root, lists, err));
    size_t n_ids = lists->ids.n;
    UZ_TRY(uz_pickle_read_lists(cur, limits, arena, &p->keys, lists, err));
    lists->ids.n = n_ids;
    p->nbytes = cur->pos;
    return UZ_OK;
}

/* The pickles while it is not known yet how many bytes they have. */
struct attempt {
    const struct uz_limits *limits;
    struct uz_arena **arena;
    struct pickles *p;
};

static int try_prefix(void *cookie, struct uz_cursor *cur, struct uz_error *err)
{
    struct attempt *attempt = cookie;
    uz_pickle_lists_free(&attempt->p->lists);
    uz_arena_free(*attempt->arena);
    *attempt->p = (struct pickles){0};
    *attempt->arena = uz_arena_new(attempt->limits->max_pickle_arena);
    return *attempt->arena ? read_pickles(cur, attempt->limits, *attempt->arena, attempt->p, err)
                           : uz_fail_nomem(err, 0);
}

/* ---- The storages ---- */

static int index_keys(struct uz_legacy *legacy, const struct uz_content *content,
                      const struct uz_node *keys, const struct uz_limits *limits,
                      struct uz_error *err)
{
    const char *path = uz_content_path(content);
    const struct uz_seq *list = uz_node_list(keys);
    if (!list)
        return uz_fail_at(err, UZ_CORRUPT, path, UZ_NO_OFFSET,
                          "the list of storages that follows the value is no list");
    if (list->n > limits->max_zip_entries)
        return uz_fail_at(err, UZ_LIMIT, path, UZ_NO_OFFSET,
                          "%zu storages, the cap is %" PRIu64 " (max_zip_entries)", list->n,
                          limits->max_zip_entries);
    UZ_TRY(uz_alloc(&legacy->storages, list->n, sizeof *legacy->storages, err));
    legacy->n = list->n;
    for (size_t i = 0; i < list->n; i++) {
        const struct uz_node *key = list->items[i];
        bool present = false;
        if (key->kind == UZ_NODE_STR)
            UZ_TRY(
                uz_map_add(legacy->by_key, key->u.text.data, key->u.text.nbytes, i, &present, err));
        if (key->kind != UZ_NODE_STR || present)
            return uz_fail_at(err, UZ_CORRUPT, path, key->offset, "the list of storages has %s",
                              present ? "one key twice" : "a key that is no text");
    }
    return UZ_OK;
}

/* What the value's persistent ids say of the storages; a storage of size 0 is in none of them. */
static int find_sizes(struct uz_legacy *legacy, const struct uz_content *content,
                      const struct uz_seq *ids, struct uz_error *err)
{
    for (size_t i = 0; i < ids->n; i++) {
        const struct uz_seq *id = uz_node_list(ids->items[i]->u.persid);
        uint64_t index;
        bool known;
        if (!id || id->n < 5 || !uz_node_is_str(id->items[0], "storage") ||
            id->items[2]->kind != UZ_NODE_STR ||
            !uz_legacy_find(legacy, id->items[2]->u.text.data, id->items[2]->u.text.nbytes, &index))
            continue; /* whoever needs this storage says what is wrong with it */
        struct uz_legacy_storage *storage = &legacy->storages[index];
        size_t size = uz_storage_class_size(id->items[1], &known);
        if (known && storage->itemsize && storage->itemsize != size)
            return uz_fail_at(err, UZ_UNSUPPORTED, uz_content_path(content), ids->items[i]->offset,
                              "one storage is referred to as elements of different sizes");
        if (known && uz_node_u64(id->items[4], &storage->numel))
            storage->itemsize = size;
    }
    return UZ_OK;
}

static int read_count(const struct uz_legacy_storage *storage, struct uz_content *content,
                      uint64_t *count, struct uz_error *err)
{
    uint8_t bytes[COUNT_NBYTES];
    UZ_TRY(uz_content_read(content, bytes, sizeof bytes, storage->offset - COUNT_NBYTES, err));
    *count = 0;
    for (size_t k = sizeof bytes; k-- > 0;)
        *count = *count << 8 | bytes[k];
    return UZ_OK;
}

int uz_legacy_check_count(const struct uz_legacy_storage *storage, struct uz_content *content,
                          struct uz_error *err)
{
    uint64_t count;
    UZ_TRY(read_count(storage, content, &count, err));
    if (count != storage->numel)
        return uz_fail_at(err, UZ_CORRUPT, uz_content_path(content), storage->offset - COUNT_NBYTES,
                          "a storage of %" PRIu64 " elements, of which the value says that it has "
                          "%" PRIu64,
                          count, storage->numel);
    return UZ_OK;
}

/*
 * Gives the storage its place, behind a number of elements at `pos`. That is read at once, unless
 * the file is compressed whole: then whoever goes through it compares the numbers.
 */
static int place_storage(struct uz_legacy_storage *storage, struct uz_content *content,
                         uint64_t pos, struct uz_error *err)
{
    uint64_t count = storage->numel, all = INT64_MAX;
    if (!storage->itemsize)
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_content_path(content), pos,
                          "a storage of an unknown class: where the next one begins cannot be "
                          "told");
    storage->offset = pos + COUNT_NBYTES;
    if (!uz_content_is_packed(content)) {
        UZ_TRY(uz_content_size(content, &all, err));
        UZ_TRY(read_count(storage, content, &count, err));
    }
    if (!uz_mul_u64(count, storage->itemsize, &storage->nbytes) || storage->offset > all ||
        storage->nbytes > all - storage->offset)
        return uz_fail_at(err, UZ_CORRUPT, uz_content_path(content), pos,
                          "a storage of %" PRIu64 " elements leaves the file: it was cut short",
                          count);
    return UZ_OK;
}

static int find_storages(struct uz_legacy *legacy, struct uz_content *content,
                         const struct pickles *p, const struct uz_limits *limits,
                         struct uz_error *err)
{
    uint64_t pos = p->nbytes;
    UZ_TRY(index_keys(legacy, content, p->keys, limits, err));
    UZ_TRY(find_sizes(legacy, content, &p->lists.ids, err));
    for (size_t i = 0; i < legacy->n; i++) {
        UZ_TRY(place_storage(&legacy->storages[i], content, pos, err));
        pos = legacy->storages[i].offset + legacy->storages[i].nbytes;
    }
    return UZ_OK;
}

int uz_legacy_open(struct uz_legacy **out, struct uz_content *content,
                   const struct uz_limits *limits, struct uz_arena **arena,
                   const struct uz_node **root, struct uz_error *err)
{
    struct uz_legacy *legacy;
    struct pickles p = {0};
    struct attempt attempt = {limits, arena, &p};
    *arena = NULL;
    UZ_TRY(uz_alloc(&legacy, 1, sizeof *legacy, err));
    legacy->by_key = uz_map_new();
    int rc = legacy->by_key
                 ? uz_read_prefix(content, 0, limits->max_pickle_bytes, try_prefix, &attempt, err)
                 : uz_fail_nomem(err, sizeof(void *));
    if (rc == UZ_OK)
        rc = find_storages(legacy, content, &p, limits, err);
    legacy->globals = p.lists.globals;
    p.lists.globals = (struct uz_seq){0};
    uz_pickle_lists_free(&p.lists);
    if (rc < 0) {
        uz_legacy_close(legacy);
        return rc;
    }
    *root = p.root;
    *out = legacy;
    return UZ_OK;
}

void uz_legacy_close(struct uz_legacy *legacy)
{
    if (!legacy)
        return;
    uz_map_free(legacy->by_key);
    free(legacy->storages);
    free(legacy->globals.items);
    free(legacy);
}

const struct uz_seq *uz_legacy_globals(const struct uz_legacy *legacy)
{
    return &legacy->globals;
}

size_t uz_legacy_count(const struct uz_legacy *legacy)
{
    return legacy->n;
}

const struct uz_legacy_storage *uz_legacy_storage(const struct uz_legacy *legacy, size_t index)
{
    return &legacy->storages[index];
}

bool uz_legacy_find(const struct uz_legacy *legacy, const char *key, size_t key_nbytes,
                    uint64_t *index)
{
    return uz_map_get(legacy->by_key, key, key_nbytes, index);
}
