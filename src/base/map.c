/* SPDX-License-Identifier: Apache-2.0 */
/* String map on uthash, hashed by XXH3 with a secret seed so that keys can't be chosen to collide.
 */
#include "base/map.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct uz_map {
    struct entry *head;
    uint64_t seed;
};

/* The seed of the map at work: uthash's hash hook sees only key and length. */
static _Thread_local uint64_t hook_seed;

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, nbytes, hash)                                                           \
    ((hash) = (unsigned)XXH3_64bits_withSeed((key), (nbytes), hook_seed))
#include <uthash.h>

struct entry {
    const char *key;
    uint64_t value;
    UT_hash_handle hh;
};

struct uz_map *uz_map_new(void)
{
    struct uz_map *map = calloc(1, sizeof *map);
    if (!map)
        return NULL;
    if (getrandom(&map->seed, sizeof map->seed, GRND_NONBLOCK) != (ssize_t)sizeof map->seed)
        map->seed = (uint64_t)(uintptr_t)map; /* early boot: the address is the next best secret */
    return map;
}

void uz_map_free(struct uz_map *map)
{
    if (!map)
        return;
    struct entry *entry, *next;
    HASH_ITER (hh, map->head, entry, next) {
        HASH_DEL(map->head, entry);
        free(entry);
    }
    free(map);
}

static struct entry *find(const struct uz_map *map, const char *key, size_t key_nbytes)
{
    struct entry *entry = NULL;
    hook_seed = map->seed;
    HASH_FIND(hh, map->head, key, key_nbytes, entry);
    return entry;
}

int uz_map_add(struct uz_map *map, const char *key, size_t key_nbytes, uint64_t value,
               bool *present, struct uz_error *err)
{
    bool there = find(map, key, key_nbytes) != NULL;
    if (present)
        *present = there;
    if (there)
        return UZ_OK;
    struct entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return uz_fail_nomem(err, sizeof *entry);
    entry->key = key;
    entry->value = value;
    HASH_ADD_KEYPTR(hh, map->head, entry->key, key_nbytes, entry);
    if (!entry->hh.tbl) { /* uthash could not grow its table */
        free(entry);
        return uz_fail_nomem(err, sizeof *entry);
    }
    return UZ_OK;
}

bool uz_map_get(const struct uz_map *map, const char *key, size_t key_nbytes, uint64_t *value)
{
    const struct entry *entry = find(map, key, key_nbytes);
    if (entry && value)
        *value = entry->value;
    return entry != NULL;
}
