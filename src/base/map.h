/* SPDX-License-Identifier: Apache-2.0 */
/* A map from byte strings to numbers; keys that collide on purpose cost nothing extra. */
#ifndef UZ_BASE_MAP_H
#define UZ_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct uz_map;

/* NULL without memory. */
struct uz_map *uz_map_new(void);

/* NULL is allowed. Keys are borrowed and are not freed. */
void uz_map_free(struct uz_map *map);

/*
 * Adds key -> value; the key must outlive the map. If the key is there already, the map stays as
 * it is and *present (may be NULL) is set.
 */
int uz_map_add(struct uz_map *map, const char *key, size_t key_nbytes, uint64_t value,
               bool *present, struct uz_error *err);

/* True and the value if the key is there; value may be NULL. */
bool uz_map_get(const struct uz_map *map, const char *key, size_t key_nbytes, uint64_t *value);

#endif
