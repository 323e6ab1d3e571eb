/* SPDX-License-Identifier: Apache-2.0 */
/* A strict shell over libzip: lists a zip archive and finds where its entries lie in the file. */
#ifndef UZ_TORCH_ZIP_H
#define UZ_TORCH_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <unzero/limits.h>

#include "base/error.h"
#include "torch/content.h"

struct uz_zip;

struct uz_zip_entry {
    uint64_t nbytes;        /* of data; a claim until the data has been read */
    uint64_t packed_nbytes; /* that it takes in the archive */
    uint32_t crc;           /* CRC-32; 0 in every entry of files saved without checksums */
    bool deflated;          /* else stored as it is */
};

/*
 * Reads the central directory of the archive that `content` is, which is borrowed: it must stay
 * open as long as the archive. Refuses entries of one name. One thread at a time may use the
 * archive.
 */
int uz_zip_open(struct uz_zip **out, struct uz_content *content, const struct uz_limits *limits,
                struct uz_error *err);

/* NULL is allowed. Leaves the content open. */
void uz_zip_close(struct uz_zip *zip);

uint64_t uz_zip_count(const struct uz_zip *zip);

/* Name of entry `index` < uz_zip_count, as it stands in the directory. */
const char *uz_zip_name(const struct uz_zip *zip, uint64_t index);

/* True and the index if an entry has that name. */
bool uz_zip_find(const struct uz_zip *zip, const char *name, uint64_t *index);

/* What the directory claims of an entry. UZ_UNSUPPORTED if it is encrypted or packed unusually. */
int uz_zip_stat(struct uz_zip *zip, uint64_t index, struct uz_zip_entry *entry,
                struct uz_error *err);

/*
 * The byte of the (decoded) content at which the data of an entry begins, proven against the
 * entry's local header, with all packed_nbytes inside the file. 0 for an entry of no bytes.
 */
int uz_zip_offset(struct uz_zip *zip, uint64_t index, uint64_t *offset, struct uz_error *err);

/*
 * The whole content of an entry: exactly its nbytes, of which there may be at most max_nbytes.
 * Checks the CRC unless it is 0. The caller frees *data.
 */
int uz_zip_read(struct uz_zip *zip, uint64_t index, uint64_t max_nbytes, uint8_t **data,
                uint64_t *nbytes, struct uz_error *err);

/* A piece of an entry's content, unchecked; what lies before it in a deflated entry is skipped. */
int uz_zip_read_at(struct uz_zip *zip, uint64_t index, uint64_t first, void *buf, size_t nbytes,
                   struct uz_error *err);

#endif
