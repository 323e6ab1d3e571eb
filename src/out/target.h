/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: the files of an output, and where in them which elements go. */
#ifndef UZ_OUT_TARGET_H
#define UZ_OUT_TARGET_H

#include <stddef.h>
#include <stdint.h>

#include <unzero/dtype.h>

#include "base/error.h"

/* Elements [lo, lo + n_elems) of a tensor, stored without gaps from byte `offset` of a file on. */
struct uz_target {
    uint32_t tensor;
    enum uz_dtype dtype;
    uint64_t lo, n_elems;
    uint64_t offset;
};

/* Bytes of a file beyond its head that are no tensor's: headers between targets, a directory. */
struct uz_blob {
    uint64_t offset; /* in the file */
    uint64_t nbytes;
    char *data; /* in the file's blob_data */
};

/* Four bytes of a head or blob that hold, little-endian, the CRC-32 of a target's bytes. */
struct uz_crc_slot {
    size_t target; /* index into uz_out.targets */
    char *at;      /* filled in by the engine when the target's bytes are known */
};

enum { UZ_SEAL_ID_NBYTES = 40 };

/*
 * An identifier of a file's contents that stands inside the file: 40 digits made of `hash` (all
 * that is known when the file is laid out) and the checksums of the targets.
 */
struct uz_seal {
    uint64_t hash;
    char *id;      /* the digits, in a head or blob; NULL: the file has none */
    char *crcs[2]; /* where the CRC-32 of the digits stands, little-endian */
};

/*
 * A file: `head`, then its targets in the order of their offsets, with the blobs (by offset) in the
 * gaps between them and behind the last. Every byte belongs to one of them; every target begins at
 * a multiple of its element size counted from the end of the head. Without targets and blobs it is
 * the head.
 */
struct uz_out_file {
    char *name; /* within the output folder */
    char *head;
    uint64_t head_nbytes;
    struct uz_blob *blobs;
    size_t n_blobs;
    char *blob_data;          /* owns the bytes of all blobs */
    struct uz_crc_slot *crcs; /* by target; slots of one target follow one another */
    size_t n_crcs;
    struct uz_seal seal; /* made by uz_seal_file when the slots are filled in */
    uint64_t nbytes;     /* of the whole file */
    size_t first_target, n_targets;
    size_t n_tensors; /* those without elements, which need no target, included */
};

/* An output: files in the order of their numbers; the index, if any, is the last. */
struct uz_out {
    struct uz_out_file *files;
    size_t n_files, cap_files;
    struct uz_target *targets; /* by file, then offset; those without elements are left out */
    size_t n_targets, cap_targets;
    uint64_t data_nbytes; /* of all targets */
};

void uz_out_free(struct uz_out *out);

/*
 * Adds a file without contents, whose name (malloc'ed; NULL: UZ_NOMEM) is taken over, also on
 * failure. *file is borrowed until the next file is added.
 */
int uz_out_add_file(struct uz_out *out, char *name, struct uz_out_file **file,
                    struct uz_error *err);

/* Adds a target to the last file. */
int uz_out_add_target(struct uz_out *out, const struct uz_target *target, struct uz_error *err);

/* Counts the targets of the last file, which gets no more. */
void uz_out_end_file(struct uz_out *out);

/* Writes the file's identifier, if it has one, from the checksums in its slots. */
void uz_seal_file(const struct uz_out_file *file);

#endif
