/* SPDX-License-Identifier: Apache-2.0 */
/* A zip archive as PyTorch's writer lays it out: stored entries, their contents 64-byte aligned. */
#ifndef UZ_OUT_ARCHIVE_H
#define UZ_OUT_ARCHIVE_H

#include "base/bytes.h"
#include "out/target.h"

/* A run of bytes of the file that are no target's. */
struct uz_archive_run {
    uint64_t offset; /* in the file */
    size_t first;    /* in `bytes`; it goes to where the next run begins */
};

/* Where the checksum of a target goes. */
struct uz_archive_crc {
    size_t target;
    size_t at;           /* in `bytes` */
    size_t in_directory; /* in `directory` */
};

/* An archive in the making. Start with uz_archive_start, end with uz_archive_finish. */
struct uz_archive {
    const char *root; /* folder that all entries are in; borrowed */
    struct uz_bytes bytes, directory;
    struct uz_archive_run *runs;
    size_t n_runs, cap_runs;
    struct uz_archive_crc *crcs;
    size_t n_crcs, cap_crcs;
    uint64_t n_entries;
    uint64_t nbytes;   /* of the file so far */
    uint64_t hash;     /* of the entries' names and sizes, and of the contents added as bytes */
    bool target_ended; /* the file ends with a target, so the next bytes are a new run */
};

void uz_archive_start(struct uz_archive *archive, const char *root);

/*
 * malloc'ed name of the folder that PyTorch puts a file's entries in: the file's stem, if it can be
 * a folder's name in ASCII, else "archive". NULL without memory.
 */
char *uz_archive_root_for(const char *file_name);

/*
 * Adds the entries that stand before the storages, in PyTorch's order; 1 of `.format_version` is
 * that of 2.13. The entry behind the storages is uz_archive_add_version's: 3, also of 2.13.
 */
int uz_archive_add_pickle(struct uz_archive *archive, const struct uz_bytes *pickle,
                          struct uz_error *err);
int uz_archive_add_version(struct uz_archive *archive, struct uz_error *err);

/* Adds the entry ROOT/name with these contents. */
int uz_archive_add(struct uz_archive *archive, const char *name, const void *data, size_t nbytes,
                   struct uz_error *err);

/*
 * Adds the entry ROOT/name for contents that come later: those of target number `target` of the
 * output, nbytes (more than 0) from byte *offset of the file on. Without contents there is no
 * target: use uz_archive_add.
 */
int uz_archive_add_target(struct uz_archive *archive, const char *name, uint64_t nbytes,
                          size_t target, uint64_t *offset, struct uz_error *err);

/*
 * Adds `.data/serialization_id` and the directory, and hands head, blobs, slots and seal over to
 * the file. The structure is that of miniz in PyTorch 2.13: readers that compute where a storage
 * lies (torch.load with calculate_storage_offsets) rely on it. So sizes and CRC-32 follow an
 * entry's contents, and zip64 fields stand where a size or an offset takes more than 32 bits, and
 * at the end always.
 */
int uz_archive_finish(struct uz_archive *archive, struct uz_out_file *file, struct uz_error *err);

void uz_archive_free(struct uz_archive *archive);

#endif
