/* SPDX-License-Identifier: Apache-2.0 */
/* What all formats of whole weights share: names of files, division among them, the index. */
#ifndef UZ_OUT_FILES_H
#define UZ_OUT_FILES_H

#include "out/items.h"
#include "out/target.h"

/* How Hugging Face calls a format's files: "model" and ".safetensors". */
struct uz_file_names {
    const char *stem, *ending;
};

extern const struct uz_file_names uz_safetensors_names, uz_torch_names;

/* True for the format's whole file, its shards and its index. */
bool uz_is_weights_file(const struct uz_file_names *names, const char *name);

struct uz_files_options {
    const char *file_name;     /* NULL: the format's own names */
    uint64_t max_shard_bytes;  /* 0: one file */
    uint64_t max_header_bytes; /* of a safetensors file */
};

/* An item and the file it goes to. */
struct uz_placed {
    uint32_t shard;
    const struct uz_item *item;
};

/* Items on their way into files. A format sets everything above the line. */
struct uz_files {
    struct uz_out *out;
    const struct uz_items *items;
    const struct uz_model *model;
    const struct uz_files_options *options;
    const struct uz_file_names *names;
    int (*by_place)(const void *, const void *); /* of two uz_placed: by file, then in it */
    /* Adds head, targets (uz_files_add_target) and all else to a file of n items. */
    int (*fill)(const struct uz_files *files, struct uz_out_file *file,
                const struct uz_placed *placed, size_t n, struct uz_error *err);
    /* ---- */
    struct uz_placed *placed; /* sorted by_place */
    uint32_t *shard_of;       /* of each item */
    uint32_t n_shards;
};

/*
 * Divides the items, fills each file, and adds an index if there are several. UZ_ARG if there are
 * more files than five digits can number.
 */
int uz_files_lay_out(struct uz_files *files, struct uz_error *err);

/*
 * Adds the whole of an item, which has elements, at byte `offset` to the last file of the output.
 */
int uz_files_add_target(const struct uz_files *files, const struct uz_item *item, uint64_t offset,
                        struct uz_error *err);

#endif
