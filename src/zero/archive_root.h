/* SPDX-License-Identifier: Apache-2.0 */
/* The name an archive was saved under, against the name its file has now. */
#ifndef UZ_ZERO_ARCHIVE_ROOT_H
#define UZ_ZERO_ARCHIVE_ROOT_H

#include "base/notes.h"

/*
 * PyTorch names the archive's folder after the file. One that names another rank's shard of the
 * same kind is UZ_MISMATCH (a shard was swapped), any other name a warning. `archive_root` is "" if
 * the container has none.
 */
int uz_archive_root_check(const char *archive_root, const char *path, struct uz_notes *notes,
                          struct uz_error *err);

#endif
