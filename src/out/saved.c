/* SPDX-License-Identifier: Apache-2.0 */
/* The entries of an archive in PyTorch's order. */
#include "out/saved.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "out/archive.h"

enum { MAX_ENTRY_NBYTES = 256 };

static int add_target(struct uz_out *out, struct uz_archive *archive, const char *entry,
                      const struct uz_target *target, struct uz_error *err)
{
    struct uz_target placed = *target;
    uint64_t nbytes = target->n_elems * uz_dtype_size(target->dtype);
    UZ_TRY(uz_archive_add_target(archive, entry, nbytes, out->n_targets, &placed.offset, err));
    return uz_out_add_target(out, &placed, err);
}

static int add_storages(struct uz_out *out, struct uz_archive *archive,
                        const struct uz_saved *saved, struct uz_error *err)
{
    char entry[MAX_ENTRY_NBYTES];
    for (size_t i = 0; i < saved->n; i++) {
        const struct uz_saved_storage *storage = &saved->storages[i];
        int n = snprintf(entry, sizeof entry, "data/%s", storage->key);
        if (n < 0 || (size_t)n >= sizeof entry)
            return uz_fail(err, UZ_UNSUPPORTED, "the key of storage number %zu is too long", i);
        UZ_TRY(storage->target.n_elems > 0
                   ? add_target(out, archive, entry, &storage->target, err)
                   : uz_archive_add(archive, entry, storage->bytes ? storage->bytes : "",
                                    storage->nbytes, err));
    }
    return UZ_OK;
}

static int add_entries(struct uz_out *out, struct uz_archive *archive, const struct uz_saved *saved,
                       struct uz_error *err)
{
    UZ_TRY(uz_archive_add_pickle(archive, saved->pickle, err));
    UZ_TRY(add_storages(out, archive, saved, err));
    return uz_archive_add_version(archive, err);
}

int uz_saved_fill(struct uz_out *out, struct uz_out_file *file, const struct uz_saved *saved,
                  struct uz_error *err)
{
    struct uz_archive archive;
    char *root = uz_archive_root_for(uz_path_name(file->name));
    if (!root)
        return uz_fail_nomem(err, strlen(file->name));
    uz_archive_start(&archive, root);
    int rc = add_entries(out, &archive, saved, err);
    if (rc == UZ_OK)
        rc = uz_archive_finish(&archive, file, err);
    uz_archive_free(&archive);
    free(root);
    return rc < 0 ? uz_error_in_file(err, rc, file->name) : UZ_OK;
}

int uz_out_add_saved(struct uz_out *out, const char *name, const struct uz_saved *saved,
                     struct uz_error *err)
{
    struct uz_out_file *file;
    UZ_TRY(uz_out_add_file(out, strdup(name), &file, err));
    UZ_TRY(uz_saved_fill(out, file, saved, err));
    uz_out_end_file(out);
    return UZ_OK;
}
