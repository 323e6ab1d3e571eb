/* SPDX-License-Identifier: Apache-2.0 */
/* The table of output files. */
#include "out/target.h"

#include <stdlib.h>

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
