/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the container before PyTorch 1.6. */
#include "torch/legacy.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/map.h"
#include "torch/pickle.h"
#include "torch/storage_class.h"

enum { FIRST_PREFIX_NBYTES = 256 * 1024, COUNT_NBYTES = 8, PROTOCOL = 1001 };

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

/* Tries the first nbytes of the content. */
static int try_prefix(struct uz_content *content, size_t nbytes, const struct uz_limits *limits,
                      struct uz_arena *arena, struct pickles *p, struct uz_error *err)
{
    uint8_t *bytes;
    struct uz_cursor cur;
    UZ_TRY(uz_alloc(&bytes, nbytes, 1, err));
    int rc = uz_content_read(content, bytes, nbytes, 0, err);
    uz_cursor_init(&cur, bytes, nbytes, uz_content_path(content), 0);
    if (rc == UZ_OK)
        rc = read_pickles(&cur, limits, arena, p, err);
    free(bytes);
    return rc;
}

/*
 * Nothing tells where the pickles end but they themselves: what does not parse may only have been
 * cut, so twice as much is tried, up to what one pickle may have.
 */
static int find_pickles(struct uz_content *content, const struct uz_limits *limits,
                        struct uz_arena **arena, struct pickles *p, struct uz_error *err)
{
    uint64_t all = uz_content_nbytes(content);
    uint64_t most = all < limits->max_pickle_bytes ? all : limits->max_pickle_bytes;
    for (uint64_t n = FIRST_PREFIX_NBYTES;; n *= 2) {
        n = n < most ? n : most;
        *p = (struct pickles){0};
        *arena = uz_arena_new(limits->max_pickle_arena);
        if (!*arena)
            return uz_fail_nomem(err, 0);
        int rc = try_prefix(content, (size_t)n, limits, *arena, p, err);
        if (rc != UZ_CORRUPT || n == most)
            return rc;
        uz_pickle_lists_free(&p->lists);
        uz_arena_free(*arena);
        *arena = NULL;
    }
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

/* Element sizes of the storages, by what refers to them; 0: nothing does. */
static int find_sizes(const struct uz_legacy *legacy, const struct uz_content *content,
                      const struct uz_seq *ids, uint8_t *sizes, struct uz_error *err)
{
    for (size_t i = 0; i < ids->n; i++) {
        const struct uz_seq *id = uz_node_list(ids->items[i]->u.persid);
        uint64_t index;
        bool known;
        if (!id || id->n < 5 || !uz_node_is_str(id->items[0], "storage") ||
            id->items[2]->kind != UZ_NODE_STR ||
            !uz_legacy_find(legacy, id->items[2]->u.text.data, id->items[2]->u.text.nbytes, &index))
            continue; /* whoever needs this storage says what is wrong with it */
        size_t size = uz_storage_class_size(id->items[1], &known);
        if (known && sizes[index] && sizes[index] != size)
            return uz_fail_at(err, UZ_UNSUPPORTED, uz_content_path(content), ids->items[i]->offset,
                              "one storage is referred to as elements of different sizes");
        if (known)
            sizes[index] = (uint8_t)size;
    }
    return UZ_OK;
}

static int place_storages(struct uz_legacy *legacy, struct uz_content *content, uint64_t pos,
                          const uint8_t *sizes, struct uz_error *err)
{
    for (size_t i = 0; i < legacy->n; i++) {
        struct uz_legacy_storage *storage = &legacy->storages[i];
        uint8_t bytes[COUNT_NBYTES];
        uint64_t count = 0, left;
        UZ_TRY(uz_content_read(content, bytes, sizeof bytes, pos, err));
        for (size_t k = sizeof bytes; k-- > 0;)
            count = count << 8 | bytes[k];
        if (!sizes[i])
            return uz_fail_at(err, UZ_UNSUPPORTED, uz_content_path(content), pos,
                              "a storage of an unknown class: where the next one begins cannot be "
                              "told");
        storage->offset = pos + COUNT_NBYTES;
        left = uz_content_nbytes(content) - storage->offset;
        if (!uz_mul_u64(count, sizes[i], &storage->nbytes) || storage->nbytes > left)
            return uz_fail_at(err, UZ_CORRUPT, uz_content_path(content), pos,
                              "a storage of %" PRIu64 " elements leaves the file: it was cut short",
                              count);
        pos = storage->offset + storage->nbytes;
    }
    return UZ_OK;
}

static int find_storages(struct uz_legacy *legacy, struct uz_content *content,
                         const struct pickles *p, const struct uz_limits *limits,
                         struct uz_error *err)
{
    uint8_t *sizes;
    UZ_TRY(index_keys(legacy, content, p->keys, limits, err));
    UZ_TRY(uz_alloc(&sizes, legacy->n, 1, err));
    int rc = find_sizes(legacy, content, &p->lists.ids, sizes, err);
    if (rc == UZ_OK)
        rc = place_storages(legacy, content, p->nbytes, sizes, err);
    free(sizes);
    return rc;
}

int uz_legacy_open(struct uz_legacy **out, struct uz_content *content,
                   const struct uz_limits *limits, struct uz_arena **arena,
                   const struct uz_node **root, struct uz_error *err)
{
    struct uz_legacy *legacy;
    struct pickles p = {0};
    UZ_TRY(uz_alloc(&legacy, 1, sizeof *legacy, err));
    legacy->by_key = uz_map_new();
    int rc = legacy->by_key ? find_pickles(content, limits, arena, &p, err)
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
