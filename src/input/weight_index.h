/* SPDX-License-Identifier: Apache-2.0 */
/* Reads model.safetensors.index.json and its kin, as Hugging Face's transformers writes them. */
#ifndef UZ_INPUT_WEIGHT_INDEX_H
#define UZ_INPUT_WEIGHT_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include <unzero/limits.h>

#include "base/error.h"
#include "base/map.h"
#include "base/mem.h"

struct uz_weight_entry {
    const char *tensor, *file; /* a name beside the index */
};

struct uz_weight_index {
    struct uz_weight_entry *entries; /* of weight_map, in order */
    size_t n_entries, cap_entries;
    const char **files; /* each once, in the order of the map */
    size_t n_files, cap_files;
    struct uz_map *tensors;      /* name -> index of entries */
    struct uz_map *file_numbers; /* name -> index of files */
    bool has_total;
    uint64_t total_nbytes; /* metadata.total_size: bytes of all tensors */
    struct uz_arena *arena;
};

/*
 * Reads {"metadata": {...}, "weight_map": {tensor: file}}. UZ_CORRUPT if it is no proper JSON, has
 * a tensor twice, or names a file outside its folder; UZ_FORMAT without weight_map. Free it, after
 * failures too.
 */
int uz_weight_index_read(struct uz_weight_index *index, const char *path,
                         const struct uz_limits *limits, struct uz_error *err);

void uz_weight_index_free(struct uz_weight_index *index);

#endif
