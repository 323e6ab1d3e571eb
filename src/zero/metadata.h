/* SPDX-License-Identifier: Apache-2.0 */
/* What all model-states files of one checkpoint must agree on. */
#ifndef UZ_ZERO_METADATA_H
#define UZ_ZERO_METADATA_H

#include <stdbool.h>
#include <stdint.h>

#include "torch/file.h"

struct uz_metadata {
    char ds_version[64];    /* "" if not recorded */
    char archive_root[256]; /* name of the archive's folder: the file's stem when it was saved */
    bool has_steps;
    int64_t global_steps;   /* optimizer steps since the training began, skipped ones included */
    int64_t skipped_steps;  /* those of them that overflowed */
    uint64_t dp_world_size; /* 0 if not recorded */
    uint64_t mp_world_size; /* 1 if not recorded */
    uint64_t tp_degree, pp_degree; /* 0 if not recorded */
    uint64_t param_shapes_hash;
    uint64_t frozen_shapes_hash;
};

/* Reads the metadata of an open model-states file. */
int uz_metadata_read(struct uz_metadata *metadata, const struct uz_torch_file *file,
                     struct uz_error *err);

/* The metadata of a file whose pickle is that of one that agrees with `same`: only the name of the
 * archive's folder is its own. */
void uz_metadata_copy(struct uz_metadata *metadata, const struct uz_metadata *same,
                      const struct uz_torch_file *file);

/*
 * UZ_MISMATCH, naming what differs, if a file was not saved together with the first one: step,
 * version, number of data-parallel ranks.
 */
int uz_metadata_same_save(const struct uz_metadata *first, const char *first_path,
                          const struct uz_metadata *other, const char *other_path,
                          struct uz_error *err);

/* The same, and for files of one model-parallel rank: they must list the same parameters, and the
 * same grid of model-parallel ranks. */
int uz_metadata_agree(const struct uz_metadata *first, const char *first_path,
                      const struct uz_metadata *other, const char *other_path,
                      struct uz_error *err);

#endif
