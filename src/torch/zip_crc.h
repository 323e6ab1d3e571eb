/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums of a zip archive whose stored entries were changed in place. */
#ifndef UZ_TORCH_ZIP_CRC_H
#define UZ_TORCH_ZIP_CRC_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Computes the CRC-32 of each stored entry that one of the n bytes `offsets` of the file lies in
 * anew, and writes it to the central directory and to the entry's local header or data descriptor
 * (APPNOTE.TXT 4.3.7, 4.3.9, 4.3.12). An archive in which no entry has a CRC stays as it is. The
 * file was opened as an archive before, so that a directory which contradicts itself is UZ_CORRUPT
 * here without more ado.
 */
int uz_zip_renew_crcs(const char *path, const uint64_t *offsets, size_t n, struct uz_error *err);

#endif
