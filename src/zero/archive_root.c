/* SPDX-License-Identifier: Apache-2.0 */
/* Tells swapped and renamed shards by the name they were saved under. */
#include "zero/archive_root.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/utf8.h"
#include "zero/shard_name.h"

/* The file's stem before ".pt". */
static bool root_fits_name(const char *archive_root, const char *path)
{
    const char *name = uz_path_name(path);
    size_t n = strlen(archive_root);
    return !strncmp(name, archive_root, n) && !strncmp(name + n, ".pt", 3);
}

/* True if the archive was saved under the name of another rank's shard of the same kind. */
static bool names_other_rank(const char *archive_root, const char *path)
{
    char name[300];
    struct uz_shard_file was, is;
    snprintf(name, sizeof name, "%s.pt", archive_root);
    return uz_parse_shard_name(name, &was) && uz_parse_shard_name(uz_path_name(path), &is) &&
           was.kind == is.kind && (was.dp != is.dp || was.mp != is.mp || was.layer != is.layer);
}

/* PyTorch names the root "archive" where the path has characters beyond ASCII. */
static bool is_ascii_path(const char *path)
{
    char *real = realpath(path, NULL);
    const char *text = real ? real : path;
    size_t n = strlen(text);
    bool ascii = uz_ascii_prefix((const unsigned char *)text, n) == n;
    free(real);
    return ascii;
}

int uz_archive_root_check(const char *archive_root, const char *path, struct uz_notes *notes,
                          struct uz_error *err)
{
    if (!*archive_root || root_fits_name(archive_root, path))
        return UZ_OK;
    if (!strcmp(archive_root, "archive") && !is_ascii_path(path))
        return UZ_OK;
    if (names_other_rank(archive_root, path))
        return uz_fail_at(err, UZ_MISMATCH, path, UZ_NO_OFFSET,
                          "was saved as %s.pt, the shard of another rank: it was swapped or copied "
                          "under a wrong name",
                          archive_root);
    return uz_warn_of_data(
        notes, err, "%s was saved under the name %s: was it renamed, or taken from elsewhere?",
        path, archive_root);
}
