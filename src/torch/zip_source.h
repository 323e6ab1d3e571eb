/* SPDX-License-Identifier: Apache-2.0 */
/* The source through which libzip reads a file: it notes where libzip looks. */
#ifndef UZ_TORCH_ZIP_SOURCE_H
#define UZ_TORCH_ZIP_SOURCE_H

#include <stdint.h>

#include <zip.h>

#include "torch/content.h"

enum { UZ_ZIP_WINDOW_NBYTES = 16384 };

/* Owned by the caller; must outlive the zip_source_t made from it. */
struct uz_zip_source {
    struct uz_content *content;
    uint64_t file_nbytes;
    uint64_t pos;
    uint64_t lowest_seek;       /* since it was last set: where libzip expects a local header */
    uint64_t last_read;         /* where libzip's last read began */
    uint64_t budget;            /* bytes that libzip may still read */
    int read_rc;                /* of the read that failed, UZ_OK if none did, */
    struct uz_error read_error; /* and why it failed */
    zip_error_t error;
    uint64_t window_pos, window_n; /* bytes of the file that `window` holds */
    uint8_t window[UZ_ZIP_WINDOW_NBYTES];
};

int uz_zip_source_init(struct uz_zip_source *src, struct uz_content *content, struct uz_error *err);

/* A source for zip_open_from_source; NULL without memory. */
zip_source_t *uz_zip_source_new(struct uz_zip_source *src, zip_error_t *error);

#endif
