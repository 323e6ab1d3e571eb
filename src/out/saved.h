/* SPDX-License-Identifier: Apache-2.0 */
/* A file as torch.save writes it: a pickle, and the storages that it names. */
#ifndef UZ_OUT_SAVED_H
#define UZ_OUT_SAVED_H

#include "base/bytes.h"
#include "out/target.h"

/* What stands in the entry data/KEY: elements of a tensor, or bytes that are known. */
struct uz_saved_storage {
    const char *key;
    struct uz_target target; /* its offset is found out here; n_elems 0: `bytes` count */
    const void *bytes;
    size_t nbytes;
};

struct uz_saved {
    const struct uz_bytes *pickle;
    const struct uz_saved_storage *storages; /* in the order of their entries */
    size_t n;
};

/*
 * Lays out the last file of `out`, which has its name and nothing else yet, and adds targets. The
 * archive's folder is called after the file, as PyTorch calls it.
 */
int uz_saved_fill(struct uz_out *out, struct uz_out_file *file, const struct uz_saved *saved,
                  struct uz_error *err);

/* Adds a file of that name (copied; folders in it are the caller's to make) and fills it. */
int uz_out_add_saved(struct uz_out *out, const char *name, const struct uz_saved *saved,
                     struct uz_error *err);

#endif
