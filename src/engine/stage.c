/* SPDX-License-Identifier: Apache-2.0 */
/* Staging, commit and clean-up of outputs. */
#include "engine/stage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

struct uz_stage {
    const struct uz_stage_options *options;
    const struct uz_out *out;
    char *staging; /* path of the staging folder */
    char **paths;  /* of the staged files */
    char **finals; /* of the files under their final names */
    int lock_fd;   /* the staging folder, locked; -1 */
    bool made_dir;
    bool committed;
};

static bool is_output_name(const struct uz_out *out, const char *name)
{
    for (size_t i = 0; i < out->n_files; i++)
        if (!strcmp(out->files[i].name, name))
            return true;
    return false;
}

/* True for a name that the commit replaces or removes. */
static bool is_ours(const struct uz_stage_options *options, const struct uz_out *out,
                    const char *name)
{
    return (options->family && options->family(name)) || is_output_name(out, name);
}

/* Calls fn for every name of the output folder that is ours; stops at the first failure. */
static int each_existing(const struct uz_stage_options *options, const struct uz_out *out,
                         int (*fn)(const void *cookie, const char *name, struct uz_error *err),
                         const void *cookie, struct uz_error *err)
{
    DIR *dir = opendir(options->dir);
    int rc = UZ_OK;
    if (!dir)
        return errno == ENOENT ? UZ_OK
                               : uz_fail_errno(err, errno, options->dir, "cannot be listed");
    for (;;) {
        const struct dirent *entry = readdir(dir);
        if (!entry)
            break;
        if (is_ours(options, out, entry->d_name))
            rc = fn(cookie, entry->d_name, err);
        if (rc < 0)
            break;
    }
    closedir(dir);
    return rc;
}

static int refuse_existing(const void *cookie, const char *name, struct uz_error *err)
{
    const struct uz_stage_options *options = cookie;
    return uz_fail_at(err, UZ_ARG, options->dir, UZ_NO_OFFSET,
                      "already holds %s; --force replaces it", name);
}

/* The folder itself, or the nearest one above it that is there. */
static char *existing_parent(const char *dir)
{
    char *path = strdup(dir);
    struct stat st;
    while (path && stat(path, &st) < 0) {
        char *slash = strrchr(path, '/');
        while (slash && slash > path && slash[1] == '\0') { /* slashes at the end */
            *slash = '\0';
            slash = strrchr(path, '/');
        }
        if (!slash) {
            free(path);
            return strdup(".");
        }
        slash[slash == path ? 1 : 0] = '\0';
        if (slash == path)
            break;
    }
    return path;
}

static int check_room(const char *dir, const struct uz_out *out, struct uz_error *err)
{
    struct statvfs fs;
    uint64_t need = 0;
    for (size_t i = 0; i < out->n_files; i++)
        need += out->files[i].nbytes;
    if (statvfs(dir, &fs) < 0)
        return uz_fail_errno(err, errno, dir, "its file system cannot be examined");
    uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (fs.f_blocks > 0 && room < need) /* some virtual file systems count no blocks */
        return uz_fail_at(err, UZ_IO, dir, UZ_NO_OFFSET,
                          "no space: the output needs %llu bytes, the file system has %llu left",
                          (unsigned long long)need, (unsigned long long)room);
    return UZ_OK;
}

int uz_stage_check_room(const struct uz_stage_options *options, const struct uz_out *out,
                        struct uz_error *err)
{
    char *parent = existing_parent(options->dir);
    if (!parent)
        return uz_fail_nomem(err, strlen(options->dir));
    int rc = check_room(parent, out, err);
    free(parent);
    return rc;
}

static int check_parent(const char *dir, const char *parent, struct uz_error *err)
{
    struct stat st;
    if (stat(parent, &st) == 0 && !S_ISDIR(st.st_mode))
        return uz_fail_at(err, UZ_ARG, dir, UZ_NO_OFFSET, "cannot be made a folder: %s is a file",
                          parent);
    if (access(parent, W_OK | X_OK) < 0)
        return uz_fail_errno(err, errno, dir, "cannot be written");
    return UZ_OK;
}

int uz_stage_check(const struct uz_stage_options *options, const struct uz_out *out,
                   struct uz_error *err)
{
    char *parent = existing_parent(options->dir);
    if (!parent)
        return uz_fail_nomem(err, strlen(options->dir));
    int rc = check_parent(options->dir, parent, err);
    free(parent);
    UZ_TRY(rc);
    if (options->force)
        return UZ_OK;
    return each_existing(options, out, refuse_existing, options, err);
}

/* mkdir -p; *made tells whether the last folder is new. */
static int make_dirs(const char *dir, bool *made, struct uz_error *err)
{
    char *path = strdup(dir);
    if (!path)
        return uz_fail_nomem(err, strlen(dir));
    *made = false;
    int rc = UZ_OK;
    for (char *p = path + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char kept = *p;
        *p = '\0';
        *made = mkdir(path, 0777) == 0;
        if (!*made && errno != EEXIST)
            rc = uz_fail_errno(err, errno, path, "cannot be made");
        *p = kept;
        if (kept == '\0' || rc < 0)
            break;
    }
    free(path);
    return rc;
}

/* Removes the files in the staging folder: leftovers of an interrupted run, or our own. */
static void empty_staging(const char *staging)
{
    DIR *dir = opendir(staging);
    if (!dir)
        return;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
}

static int lock_staging(struct uz_stage *stage, struct uz_error *err)
{
    if (mkdir(stage->staging, 0777) < 0 && errno != EEXIST)
        return uz_fail_errno(err, errno, stage->staging, "cannot be made");
    stage->lock_fd = open(stage->staging, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (stage->lock_fd < 0)
        return uz_fail_errno(err, errno, stage->staging, "cannot be opened");
    if (flock(stage->lock_fd, LOCK_EX | LOCK_NB) == 0 || errno == ENOTSUP || errno == ENOLCK ||
        errno == ENOSYS)
        return UZ_OK; /* some network file systems have no locks */
    int rc = uz_fail_at(err, UZ_ARG, stage->staging, UZ_NO_OFFSET,
                        "another run is writing to this folder");
    close(stage->lock_fd);
    stage->lock_fd = -1; /* what is in there is not ours to remove */
    return rc;
}

static int create_file(const char *path, uint64_t nbytes, struct uz_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return uz_fail_errno(err, errno, path, "cannot be made");
    int rc = UZ_OK;
    if (ftruncate(fd, (off_t)nbytes) < 0)
        rc = uz_fail_errno(err, errno, path, "cannot get its size of %llu bytes",
                           (unsigned long long)nbytes);
    if (close(fd) < 0 && rc == UZ_OK)
        rc = uz_fail_errno(err, errno, path, "cannot be closed");
    return rc;
}

static int create_files(struct uz_stage *stage, struct uz_error *err)
{
    size_t n = stage->out->n_files;
    UZ_TRY(uz_alloc(&stage->paths, n, sizeof *stage->paths, err));
    UZ_TRY(uz_alloc(&stage->finals, n, sizeof *stage->finals, err));
    for (size_t i = 0; i < n; i++) {
        const struct uz_out_file *file = &stage->out->files[i];
        stage->paths[i] = uz_path_join(stage->staging, file->name);
        stage->finals[i] = uz_path_join(stage->options->dir, file->name);
        if (!stage->paths[i] || !stage->finals[i])
            return uz_fail_nomem(err, strlen(file->name));
        UZ_TRY(create_file(stage->paths[i], file->nbytes, err));
    }
    return UZ_OK;
}

static int open_staging(struct uz_stage *stage, struct uz_error *err)
{
    UZ_TRY(uz_stage_check_room(stage->options, stage->out, err));
    UZ_TRY(make_dirs(stage->options->dir, &stage->made_dir, err));
    stage->staging = uz_path_join(stage->options->dir, stage->options->staging);
    if (!stage->staging)
        return uz_fail_nomem(err, strlen(stage->options->dir));
    UZ_TRY(lock_staging(stage, err));
    empty_staging(stage->staging);
    return create_files(stage, err);
}

int uz_stage_open(struct uz_stage **out_stage, const struct uz_stage_options *options,
                  const struct uz_out *out, struct uz_error *err)
{
    struct uz_stage *stage;
    UZ_TRY(uz_alloc(&stage, 1, sizeof *stage, err));
    stage->options = options;
    stage->out = out;
    stage->lock_fd = -1;
    int rc = open_staging(stage, err);
    if (rc < 0) {
        uz_stage_close(stage);
        return rc;
    }
    *out_stage = stage;
    return UZ_OK;
}

char *const *uz_stage_paths(const struct uz_stage *stage)
{
    return stage->paths;
}

static int sync_path(const char *path, bool data_only, struct uz_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return uz_fail_errno(err, errno, path, "cannot be opened");
    int failed = data_only ? fdatasync(fd) : fsync(fd);
    int rc = failed ? uz_fail_errno(err, errno, path, "cannot be made durable") : UZ_OK;
    close(fd);
    return rc;
}

static int rename_file(const struct uz_stage *stage, size_t i, struct uz_error *err)
{
    if (rename(stage->paths[i], stage->finals[i]) < 0)
        return uz_fail_errno(err, errno, stage->finals[i], "cannot be given its name");
    return UZ_OK;
}

/* Removes a file of the family that is not among the outputs. */
static int remove_stale(const void *cookie, const char *name, struct uz_error *err)
{
    const struct uz_stage *stage = cookie;
    if (is_output_name(stage->out, name))
        return UZ_OK;
    char *path = uz_path_join(stage->options->dir, name);
    if (!path)
        return uz_fail_nomem(err, strlen(name));
    int rc = UZ_OK;
    if (unlink(path) < 0 && errno != ENOENT)
        rc = uz_fail_errno(err, errno, path, "is stale and cannot be removed");
    free(path);
    return rc;
}

/* An old index would mix old names with new files while they are renamed: it goes first. */
static int remove_old_index(const struct uz_stage *stage, struct uz_error *err)
{
    size_t last = stage->out->n_files - 1;
    if (last > 0 && unlink(stage->finals[last]) < 0 && errno != ENOENT)
        return uz_fail_errno(err, errno, stage->finals[last], "cannot be replaced");
    return UZ_OK;
}

static int give_names(struct uz_stage *stage, struct uz_error *err)
{
    size_t n = stage->out->n_files;
    UZ_TRY(remove_old_index(stage, err));
    for (size_t i = 0; i + 1 < n; i++)
        UZ_TRY(rename_file(stage, i, err));
    if (n == 1)
        UZ_TRY(rename_file(stage, 0, err));
    UZ_TRY(each_existing(stage->options, stage->out, remove_stale, stage, err));
    if (n > 1)
        UZ_TRY(rename_file(stage, n - 1, err));
    stage->committed = true;
    return UZ_OK;
}

/* The names of the files, and that of the output folder if it is new. */
static int sync_names(const struct uz_stage *stage, struct uz_error *err)
{
    UZ_TRY(sync_path(stage->options->dir, false, err));
    if (!stage->made_dir)
        return UZ_OK;
    char *parent = uz_path_join(stage->options->dir, "..");
    int rc = parent ? sync_path(parent, false, err) : uz_fail_nomem(err, 0);
    free(parent);
    return rc;
}

int uz_stage_commit(struct uz_stage *stage, struct uz_error *err)
{
    enum uz_sync sync = stage->options->sync;
    if (sync != UZ_SYNC_NONE)
        for (size_t i = 0; i < stage->out->n_files; i++)
            UZ_TRY(sync_path(stage->paths[i], sync == UZ_SYNC_DATA, err));
    UZ_TRY(give_names(stage, err));
    return sync == UZ_SYNC_FULL ? sync_names(stage, err) : UZ_OK;
}

void uz_stage_close(struct uz_stage *stage)
{
    if (!stage)
        return;
    if (stage->lock_fd >= 0) {
        empty_staging(stage->staging);
        rmdir(stage->staging);
        close(stage->lock_fd);
    }
    if (stage->made_dir && !stage->committed)
        rmdir(stage->options->dir); /* fails, as it should, if someone put something there */
    for (size_t i = 0; i < stage->out->n_files; i++) {
        if (stage->paths)
            free(stage->paths[i]);
        if (stage->finals)
            free(stage->finals[i]);
    }
    free(stage->paths);
    free(stage->finals);
    free(stage->staging);
    free(stage);
}
