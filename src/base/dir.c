/* SPDX-License-Identifier: Apache-2.0 */
/* Lists folders. */
#include "base/dir.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

bool uz_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int uz_each_entry(const char *path, uz_entry_fn fn, void *cookie, struct uz_error *err)
{
    DIR *dir = opendir(path);
    int rc = UZ_OK;
    if (!dir)
        return uz_fail_errno(err, errno, path, "cannot be listed");
    while (rc == UZ_OK) {
        errno = 0; /* the only way to tell a failure from the end */
        const struct dirent *entry = readdir(dir);
        if (!entry && errno)
            rc = uz_fail_errno(err, errno, path, "cannot be listed");
        if (!entry)
            break;
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            rc = fn(cookie, entry->d_name, err);
    }
    closedir(dir);
    return rc;
}
