/* SPDX-License-Identifier: Apache-2.0 */
/* Staging and clean-up of outputs; commit.c gives them their names. */
#include "engine/stage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/stage_impl.h"

/* UZ_ARG if something is in the way: without --force any file, with it what no file replaces. */
static int refuse_existing(const struct uz_stage_options *options, const struct uz_map *outputs,
                           struct uz_error *err)
{
    struct uz_names names = {0};
    int rc = uz_stage_existing(&names, options, outputs, err);
    if (rc == UZ_OK && names.n > 0 && !options->force)
        rc = uz_fail_at(err, UZ_ARG, options->dir, UZ_NO_OFFSET,
                        "already holds %s; --force replaces it", names.items[0]);
    uz_names_free(&names);
    return rc;
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
        if (!uz_add_u64(need, out->files[i].nbytes, &need))
            return uz_fail_at(err, UZ_IO, dir, UZ_NO_OFFSET,
                              "no space: the output needs more than 2^64 bytes");
    if (statvfs(dir, &fs) < 0)
        return uz_fail_errno(err, errno, dir, "its file system cannot be examined");
    uint64_t room;
    if (!uz_mul_u64(fs.f_bavail, fs.f_frsize, &room))
        room = UINT64_MAX;
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
    struct uz_map *outputs;
    UZ_TRY(uz_stage_outputs(&outputs, out, err));
    rc = refuse_existing(options, outputs, err);
    uz_map_free(outputs);
    return rc;
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
        char kept = *p;
        if (kept != '/' && kept != '\0')
            continue;
        if (p[-1] != '/') { /* else no component ends here: a second slash, or one at the end */
            *p = '\0';
            *made = mkdir(path, 0777) == 0;
            if (!*made && errno != EEXIST)
                rc = uz_fail_errno(err, errno, path, "cannot be made");
            *p = kept;
        }
        if (kept == '\0' || rc < 0)
            break;
    }
    free(path);
    return rc;
}

/*
 * Removes the files in the staging folder: leftovers of an interrupted run, or our own. What cannot
 * be removed, such as a folder that someone made there, stays.
 */
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

/* Makes, opens and locks the staging folder; lock_fd stays -1 if it is gone meanwhile. */
static int try_lock(struct uz_stage *stage, struct uz_error *err)
{
    const char *path = stage->staging;
    struct stat locked, named;
    if (mkdir(path, 0777) < 0 && errno != EEXIST)
        return uz_fail_errno(err, errno, path, "cannot be made");
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? UZ_OK : uz_fail_errno(err, errno, path, "cannot be opened");
    int rc = UZ_OK;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            rc = uz_fail_at(err, UZ_ARG, path, UZ_NO_OFFSET,
                            "another run is writing to this folder");
        else if (errno != ENOTSUP && errno != ENOLCK && errno != ENOSYS)
            rc = uz_fail_errno(err, errno, path, "cannot be locked");
    } /* some network file systems have no locks */
    bool same = rc == UZ_OK && fstat(fd, &locked) == 0 && lstat(path, &named) == 0 &&
                locked.st_dev == named.st_dev && locked.st_ino == named.st_ino;
    if (same)
        stage->lock_fd = fd;
    else
        close(fd); /* what is in there is not ours to remove */
    return rc;
}

/*
 * The lock holds a folder, the work goes by its name: when a run that was about to end removed the
 * folder between open() and flock(), the lock is worth nothing, and a new folder must be locked.
 */
static int lock_staging(struct uz_stage *stage, struct uz_error *err)
{
    enum { N_ATTEMPTS = 10 };
    for (int i = 0; i < N_ATTEMPTS && stage->lock_fd < 0; i++)
        UZ_TRY(try_lock(stage, err));
    if (stage->lock_fd < 0)
        return uz_fail_at(err, UZ_ARG, stage->staging, UZ_NO_OFFSET,
                          "other runs keep making and removing this folder");
    return UZ_OK;
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
        UZ_TRY(uz_create_file(stage->paths[i], file->nbytes, err));
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
    UZ_TRY(uz_stage_outputs(&stage->outputs, stage->out, err));
    UZ_TRY(lock_staging(stage, err));
    UZ_TRY(refuse_existing(stage->options, stage->outputs, err));
    UZ_TRY(uz_stage_recover(stage, err));
    stage->may_empty = true;
    empty_staging(stage->staging);
    UZ_TRY(refuse_existing(stage->options, stage->outputs, err)); /* what has been put back */
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

void uz_stage_close(struct uz_stage *stage)
{
    if (!stage)
        return;
    if (stage->lock_fd >= 0) {
        if (stage->may_empty)
            empty_staging(stage->staging);
        rmdir(stage->staging); /* fails, as it should, if something stays in it */
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
    uz_map_free(stage->outputs);
    free(stage);
}
