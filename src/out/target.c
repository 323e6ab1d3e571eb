/* SPDX-License-Identifier: Apache-2.0 */
/* The table of output files, and what identifies a file's contents. */
#include "out/target.h"

#include <inttypes.h>
#include <libdeflate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

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

int uz_out_add_file(struct uz_out *out, char *name, struct uz_out_file **file, struct uz_error *err)
{
    int rc = name ? uz_reserve(&out->files, &out->cap_files, (uint64_t)out->n_files + 1,
                               sizeof *out->files, err)
                  : uz_fail_nomem(err, 0);
    if (rc < 0) {
        free(name);
        return rc;
    }
    *file = &out->files[out->n_files++];
    **file = (struct uz_out_file){.name = name, .first_target = out->n_targets};
    return UZ_OK;
}

int uz_out_add_target(struct uz_out *out, const struct uz_target *target, struct uz_error *err)
{
    struct uz_target *added;
    UZ_TRY(UZ_APPEND(out->targets, out->n_targets, out->cap_targets, &added, err));
    *added = *target;
    return UZ_OK;
}

void uz_out_end_file(struct uz_out *out)
{
    struct uz_out_file *file = &out->files[out->n_files - 1];
    file->n_targets = out->n_targets - file->first_target;
    for (size_t i = file->first_target; i < out->n_targets; i++)
        out->data_nbytes += out->targets[i].n_elems * uz_dtype_size(out->targets[i].dtype);
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
