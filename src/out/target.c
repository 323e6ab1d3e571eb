/* SPDX-License-Identifier: Apache-2.0 */
/* The table of output files, and what identifies a file's contents. */
#include "out/target.h"

#include <inttypes.h>
#include <libdeflate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

void uz_out_free(struct uz_out *out)
{
    for (size_t i = 0; i < out->n_files; i++) {
        free(out->files[i].name);
        free(out->files[i].head);
        free(out->files[i].blobs);
        free(out->files[i].blob_data);
        free(out->files[i].crcs);
    }
    free(out->files);
    free(out->targets);
    *out = (struct uz_out){0};
}

void uz_seal_file(const struct uz_out_file *file)
{
    const struct uz_seal *seal = &file->seal;
    char id[UZ_SEAL_ID_NBYTES + 1];
    uint64_t sums = 0;
    if (!seal->id)
        return;
    for (size_t i = 0; i < file->n_crcs; i++)
        sums = uz_hash_bytes(sums, file->crcs[i].at, 4);
    (void)snprintf(id, sizeof id, "%020" PRIu64 "%020" PRIu64, seal->hash, sums);
    memcpy(seal->id, id, UZ_SEAL_ID_NBYTES);
    uint32_t crc = libdeflate_crc32(0, id, UZ_SEAL_ID_NBYTES);
    for (size_t i = 0; i < sizeof seal->crcs / sizeof seal->crcs[0]; i++)
        for (unsigned b = 0; b < 4; b++)
            seal->crcs[i][b] = (char)(unsigned char)(crc >> 8 * b);
}
