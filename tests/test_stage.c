/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of staging and commit: what is replaced, kept, refused, and left behind by failures. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <unzero/consolidate.h>

#include "check.h"
#include "engine/stage.h"
#include "scratch.h"

/* ---- System calls that fail on request (-Wl,--wrap) ---- */

static int fail_pwrite_after = -1; /* calls that still succeed; -1: all */
static int fail_rename_after = -1;
static int n_rename_failures = -1; /* then calls succeed again; -1: never */
static int die_at_rename = -1;     /* calls that are made before the process ends; -1: never */
static int fail_readdir_after = -1;
static int flock_errno;
static void (*before_flock)(void);
static int pwrite_errno = ENOSPC;
static int fail_fallocate_after = -1; /* this call and, unless EINTR, all after it fail */
static int fallocate_errno;
static unsigned n_injected;
static bool no_space;

ssize_t __real_pwrite(int fd, const void *buf, size_t n, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t n, off_t offset);
ssize_t __real_pwrite64(int fd, const void *buf, size_t n, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t n, off_t offset);
int __real_statvfs(const char *path, struct statvfs *fs);
int __wrap_statvfs(const char *path, struct statvfs *fs);
int __real_statvfs64(const char *path, struct statvfs *fs);
int __wrap_statvfs64(const char *path, struct statvfs *fs);
int __real_fallocate(int fd, int mode, off_t offset, off_t n);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t n);
int __real_fallocate64(int fd, int mode, off64_t offset, off64_t n);
int __wrap_fallocate64(int fd, int mode, off64_t offset, off64_t n);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
struct dirent *__real_readdir(DIR *from);
struct dirent *__wrap_readdir(DIR *from);
struct dirent64 *__real_readdir64(DIR *from);
struct dirent64 *__wrap_readdir64(DIR *from);
int __real_flock(int fd, int how);
int __wrap_flock(int fd, int how);

/* True, and errno is set, when the call must fail. Only one thread writes in these tests. */
static bool injected(int *left, int error)
{
    if (*left < 0)
        return false;
    if (*left > 0) {
        --*left;
        return false;
    }
    n_injected++;
    errno = error;
    return true;
}

ssize_t __wrap_pwrite(int fd, const void *buf, size_t n, off_t offset)
{
    if (injected(&fail_pwrite_after, pwrite_errno))
        return -1;
    return __real_pwrite(fd, buf, n > 100 ? 100 : n, offset); /* short writes are allowed */
}

ssize_t __wrap_pwrite64(int fd, const void *buf, size_t n, off_t offset)
{
    if (injected(&fail_pwrite_after, pwrite_errno))
        return -1;
    return __real_pwrite64(fd, buf, n > 100 ? 100 : n, offset);
}

static bool fallocate_fails(void)
{
    if (!injected(&fail_fallocate_after, fallocate_errno))
        return false;
    if (fallocate_errno == EINTR)
        fail_fallocate_after = -1;
    return true;
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t n)
{
    return fallocate_fails() ? -1 : __real_fallocate(fd, mode, offset, n);
}

int __wrap_fallocate64(int fd, int mode, off64_t offset, off64_t n)
{
    return fallocate_fails() ? -1 : __real_fallocate64(fd, mode, offset, n);
}

int __wrap_statvfs(const char *path, struct statvfs *fs)
{
    int rc = __real_statvfs(path, fs);
    if (rc == 0 && no_space)
        fs->f_bavail = 0;
    return rc;
}

int __wrap_statvfs64(const char *path, struct statvfs *fs)
{
    int rc = __real_statvfs64(path, fs);
    if (rc == 0 && no_space)
        fs->f_bavail = 0;
    return rc;
}

int __wrap_rename(const char *from, const char *to)
{
    if (die_at_rename == 0)
        _exit(0);
    die_at_rename -= die_at_rename > 0;
    if (n_rename_failures == 0 || !injected(&fail_rename_after, EIO))
        return __real_rename(from, to);
    n_rename_failures -= n_rename_failures > 0;
    return -1;
}

struct dirent *__wrap_readdir(DIR *from)
{
    return injected(&fail_readdir_after, EIO) ? NULL : __real_readdir(from);
}

struct dirent64 *__wrap_readdir64(DIR *from)
{
    return injected(&fail_readdir_after, EIO) ? NULL : __real_readdir64(from);
}

int __wrap_flock(int fd, int how)
{
    if (before_flock)
        before_flock();
    if (flock_errno) {
        errno = flock_errno;
        return -1;
    }
    return __real_flock(fd, how);
}

/* ---- An output of two files and an index ---- */

static char dir[PATH_NBYTES];

enum { N_FILES = 3 };
static char names[N_FILES][32] = {"part-1-of-2", "part-2-of-2", "part.index"};
static char heads[N_FILES][16] = {"first", "second", "index"};

static bool is_part(const char *name)
{
    return fnmatch("part*", name, 0) == 0;
}

/* The first n_files of them; with fewer than three the last stands for the index. */
static struct uz_out make_out(struct uz_out_file files[N_FILES], size_t n_files)
{
    for (size_t i = 0; i < n_files; i++)
        files[i] =
            (struct uz_out_file){.name = names[i], .head = heads[i], .head_nbytes = 6, .nbytes = 6};
    return (struct uz_out){.files = files, .n_files = n_files};
}

static struct uz_stage_options make_options(bool force)
{
    return (struct uz_stage_options){
        .dir = dir, .staging = ".staging", .family = is_part, .force = force, .sync = UZ_SYNC_FULL};
}

static bool holds(const char *name, const char *want)
{
    char path[PATH_NBYTES];
    char *data = slurp(path_of(path, "%s/%s", dir, name), NULL);
    bool same = data && !strcmp(data, want);
    free(data);
    return same;
}

static void put(const char *name, const char *text)
{
    char path[PATH_NBYTES];
    CHECK_F(write_file(path_of(path, "%s/%s", dir, name), text, strlen(text)), "%s", path);
}

/* Stages, fills and commits; the status of the first call that failed. */
static int write_out(const struct uz_out *out, const struct uz_stage_options *options,
                     struct uz_error *err)
{
    struct uz_stage *stage = NULL;
    int rc = uz_stage_check(options, out, err);
    if (rc < 0)
        return rc;
    rc = uz_stage_open(&stage, options, out, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < out->n_files; i++)
        CHECK_F(write_file(uz_stage_paths(stage)[i], out->files[i].head, 6), "%s",
                uz_stage_paths(stage)[i]);
    rc = uz_stage_commit(stage, err);
    uz_stage_close(stage);
    return rc;
}

static void fresh_dir(const char *name)
{
    remove_tree(dir);
    path_of(dir, "%s/%s", scratch_dir, name);
    remove_tree(dir);
}

static void test_new_folder(void)
{
    static const enum uz_sync syncs[] = {UZ_SYNC_NONE, UZ_SYNC_DATA, UZ_SYNC_FULL};
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    const struct uz_out out = make_out(files, 3);
    for (size_t i = 0; i < 3; i++) {
        struct uz_stage_options options = make_options(false);
        fresh_dir("new");
        path_of(dir, "%s/new/deep/er", scratch_dir);
        options.sync = syncs[i];
        CHECK_EQ_I64(uz_stage_check(&options, &out, &err), UZ_OK);
        CHECK_F(!path_exists(dir), "the check made something");
        CHECK_EQ_I64(write_out(&out, &options, &err), UZ_OK);
        CHECK(holds("part-1-of-2", "first") && holds("part-2-of-2", "second"));
        CHECK(holds("part.index", "index"));
        CHECK_EQ_U64(count_entries(dir), 3);
    }
}

static void test_replacing(void)
{
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    const struct uz_out out = make_out(files, 3);
    struct uz_stage_options options = make_options(false);
    fresh_dir("replace");
    CHECK_EQ_I64(mkdir(dir, 0777), 0);
    put("config.json", "{}");
    put("other-part", "x");
    CHECK_EQ_I64(uz_stage_check(&options, &out, &err), UZ_OK);
    put("part-3-of-3", "stale");
    CHECK_EQ_I64(write_out(&out, &options, &err), UZ_ARG); /* of the family: in the way */
    CHECK(strstr(err.message, "part-3-of-3") && strstr(err.message, "--force"));
    CHECK_EQ_U64(count_entries(dir), 3);
    put("part-1-of-2", "old");
    put("part.index", "old index");
    options.force = true;
    CHECK_EQ_I64(write_out(&out, &options, &err), UZ_OK);
    CHECK(holds("part-1-of-2", "first") && holds("part.index", "index"));
    CHECK(holds("config.json", "{}") && holds("other-part", "x")); /* not ours */
    CHECK_EQ_U64(count_entries(dir), 5);                           /* the stale one is gone */
    options.family = NULL; /* without a family only the outputs' own names are in the way */
    put("part-3-of-3", "someone's");
    CHECK_EQ_I64(write_out(&out, &options, &err), UZ_OK);
    CHECK(holds("part-3-of-3", "someone's"));
    options.force = false;
    CHECK_EQ_I64(write_out(&out, &options, &err), UZ_ARG);
}

/* One file where several with an index were: the old index must not stay. */
static void test_stale_index(void)
{
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    struct uz_stage_options options = make_options(true);
    const struct uz_out three = make_out(files, 3), one = make_out(files, 1);
    fresh_dir("stale");
    CHECK_EQ_I64(write_out(&three, &options, &err), UZ_OK);
    CHECK_EQ_I64(write_out(&one, &options, &err), UZ_OK);
    CHECK_EQ_U64(count_entries(dir), 1);
    CHECK(holds("part-1-of-2", "first"));
}

static void test_leftovers(void)
{
    char path[PATH_NBYTES];
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    const struct uz_out out = make_out(files, 3);
    const struct uz_stage_options options = make_options(false);
    fresh_dir("leftovers");
    CHECK_EQ_I64(mkdir(dir, 0777), 0);
    CHECK_EQ_I64(mkdir(path_of(path, "%s/.staging", dir), 0777), 0);
    put(".staging/part-1-of-2", "half");
    put(".staging/unknown", "half");
    CHECK_EQ_I64(write_out(&out, &options, &err), UZ_OK);
    CHECK_EQ_U64(count_entries(dir), 3);
    CHECK(holds("part-1-of-2", "first"));
    fresh_dir("leftovers"); /* someone's folder in there stays, and stops nothing */
    CHECK_EQ_I64(mkdir(dir, 0777), 0);
    CHECK_EQ_I64(mkdir(path, 0777), 0);
    CHECK_EQ_I64(mkdir(path_of(path, "%s/.staging/sub", dir), 0777), 0);
    put(".staging/sub/file", "x");
    CHECK_EQ_I64(write_out(&out, &options, &err), UZ_OK);
    CHECK(holds(".staging/sub/file", "x"));
    CHECK_EQ_U64(count_entries(dir), 4);
}

static void test_second_run(void)
{
    char path[PATH_NBYTES];
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    struct uz_stage *first = NULL, *second = NULL;
    const struct uz_out out = make_out(files, 3);
    const struct uz_stage_options options = make_options(true);
    fresh_dir("second");
    CHECK_EQ_I64(uz_stage_open(&first, &options, &out, &err), UZ_OK);
    CHECK_EQ_I64(uz_stage_open(&second, &options, &out, &err), UZ_ARG);
    CHECK(strstr(err.message, "another run") != NULL);
    /* the refused one took nothing from the first */
    CHECK_EQ_U64(count_entries(path_of(path, "%s/.staging", dir)), 3);
    CHECK_EQ_I64(uz_stage_commit(first, &err), UZ_OK);
    uz_stage_close(first);
    CHECK_EQ_U64(count_entries(dir), 3);
}

static void test_giving_up(void)
{
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    struct uz_stage *stage = NULL;
    const struct uz_out out = make_out(files, 3);
    const struct uz_stage_options options = make_options(true);
    fresh_dir("gone");
    CHECK_EQ_I64(uz_stage_open(&stage, &options, &out, &err), UZ_OK);
    CHECK(path_exists(uz_stage_paths(stage)[2]));
    uz_stage_close(stage);
    CHECK_F(!path_exists(dir), "the folder stays though nothing came of it");
    CHECK_EQ_I64(mkdir(dir, 0777), 0);
    put("part-1-of-2", "old");
    CHECK_EQ_I64(uz_stage_open(&stage, &options, &out, &err), UZ_OK);
    uz_stage_close(stage);
    CHECK_EQ_U64(count_entries(dir), 1);
    CHECK(holds("part-1-of-2", "old"));
    uz_stage_close(NULL);
}

/* Two files that go, one that is stale, one that is foreign; part-2-of-2 is not there. */
static void put_old(const char *name)
{
    fresh_dir(name);
    CHECK_EQ_I64(mkdir(dir, 0777), 0);
    put("part-1-of-2", "old 1");
    put("part-3-of-3", "old 3");
    put("part.index", "old index");
    put("keep", "me");
}

static bool holds_old(void)
{
    return holds("part-1-of-2", "old 1") && holds("part-3-of-3", "old 3") &&
           holds("part.index", "old index") && holds("keep", "me");
}

/* Renames of a commit over put_old: three old files go aside, three new ones get their names. */
enum { N_OLD = 3, N_RENAMES = N_OLD + N_FILES };

static void test_failed_rename(void)
{
    struct uz_out_file files[N_FILES];
    const struct uz_out out = make_out(files, 3);
    const struct uz_stage_options options = make_options(true);
    for (int n = 0; n <= N_RENAMES; n++) {
        struct uz_error err;
        put_old("rename");
        fail_rename_after = n;
        n_rename_failures = 1;
        int rc = write_out(&out, &options, &err);
        fail_rename_after = n_rename_failures = -1;
        CHECK_EQ_I64(rc, n < N_RENAMES ? UZ_IO : UZ_OK);
        if (rc == UZ_OK)
            break;
        CHECK_EQ_I64(err.sys_errno, EIO);
        CHECK(strstr(err.file, n < N_OLD ? "part" : names[n - N_OLD]) != NULL);
        CHECK_F(holds_old() && count_entries(dir) == 4, "rename %d", n);
    }
    CHECK(holds("part-1-of-2", "first") && holds("part-2-of-2", "second"));
    CHECK(holds("part.index", "index") && holds("keep", "me"));
    CHECK_EQ_U64(count_entries(dir), 4);
}

/* When nothing can be put back, the old files wait in the staging folder for the next run. */
static void test_failed_roll_back(void)
{
    struct uz_out_file files[N_FILES];
    const struct uz_out out = make_out(files, 3);
    for (int n = 1; n < N_RENAMES; n++) {
        struct uz_error err;
        struct uz_stage_options options = make_options(true);
        put_old("roll-back");
        fail_rename_after = n;
        CHECK_EQ_I64(write_out(&out, &options, &err), UZ_IO);
        CHECK(strstr(err.message, "roll-back/.staging as *.replaced") != NULL);
        CHECK_EQ_I64(uz_stage_check(&options, &out, &err), UZ_OK);
        CHECK_EQ_I64(write_out(&out, &options, &err), UZ_IO); /* nothing is lost here either */
        fail_rename_after = -1;
        options.force = n % 2 == 0;
        int rc = write_out(&out, &options, &err);
        CHECK_EQ_I64(rc, options.force ? UZ_OK : UZ_ARG);
        if (rc == UZ_OK)
            CHECK(holds("part-1-of-2", "first") && holds("part.index", "index"));
        else if (n < N_OLD) /* the check refused, since some were never moved */
            CHECK(strstr(err.message, "already holds") != NULL);
        else
            CHECK_F(holds_old() && count_entries(dir) == 4, "rename %d", n);
        CHECK(holds("keep", "me"));
    }
}

/* Runs a commit in a process that ends at its n-th rename, as a killed one does. */
static void die_in_commit(int n)
{
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    const struct uz_out out = make_out(files, 3);
    const struct uz_stage_options options = make_options(true);
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        die_at_rename = n;
        (void)write_out(&out, &options, &err);
        _exit(1);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    CHECK_EQ_I64(WEXITSTATUS(status), 0);
}

static void test_killed_commit(void)
{
    struct uz_out_file files[N_FILES];
    const struct uz_out out = make_out(files, 3);
    for (int n = 0; n < N_RENAMES; n++) {
        struct uz_error err;
        struct uz_stage_options options = make_options(false);
        struct uz_stage *stage = NULL;
        put_old("killed");
        die_in_commit(n);
        size_t n_left = count_entries(dir);
        CHECK_EQ_I64(uz_stage_open(&stage, &options, &out, &err), UZ_ARG);
        CHECK(strstr(err.message, "already holds") != NULL);
        if (n == N_OLD) /* no name was taken: the refused run put all of them back */
            CHECK(holds_old() && count_entries(dir) == 4);
        else
            CHECK_EQ_U64(count_entries(dir), n_left);
        options.force = true;
        CHECK_EQ_I64(uz_stage_open(&stage, &options, &out, &err), UZ_OK);
        uz_stage_close(stage); /* given up: the old output is there, nothing of the new one in it */
        CHECK_F(holds_old(), "rename %d", n);
        CHECK_EQ_I64(write_out(&out, &options, &err), UZ_OK);
        CHECK(holds("part-1-of-2", "first") && holds("part.index", "index"));
        CHECK_EQ_U64(count_entries(dir), 4);
    }
}

/* Killed when all was done but for the cleaning up: what was replaced must not come back. */
static void test_killed_cleaning(void)
{
    char path[PATH_NBYTES];
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    struct uz_stage *stage = NULL;
    const struct uz_out out = make_out(files, 3);
    const struct uz_stage_options options = make_options(true);
    fresh_dir("cleaning");
    CHECK_EQ_I64(write_out(&out, &options, &err), UZ_OK);
    CHECK_EQ_I64(mkdir(path_of(path, "%s/.staging", dir), 0777), 0);
    put(".staging/part-1-of-2.replaced", "old");
    put(".staging/part-3-of-3.replaced", "stale");
    CHECK_EQ_I64(uz_stage_open(&stage, &options, &out, &err), UZ_OK);
    uz_stage_close(stage);
    CHECK_EQ_U64(count_entries(dir), 3);
    CHECK(holds("part-1-of-2", "first") && holds("part.index", "index"));
    /* the only copy comes back; what no commit ever moved does not */
    fresh_dir("cleaning");
    CHECK_EQ_I64(mkdir(dir, 0777), 0);
    CHECK_EQ_I64(mkdir(path, 0777), 0);
    put(".staging/part-3-of-3.replaced", "precious");
    put(".staging/other.replaced", "x");
    CHECK_EQ_I64(uz_stage_open(&stage, &options, &out, &err), UZ_OK);
    uz_stage_close(stage);
    CHECK(holds("part-3-of-3", "precious"));
    CHECK_EQ_U64(count_entries(dir), 1);
}

static void test_one_for_one(void)
{
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    const struct uz_out out = make_out(files, 1);
    const struct uz_stage_options options = make_options(true);
    fresh_dir("one");
    CHECK_EQ_I64(mkdir(dir, 0777), 0);
    put("part-1-of-2", "old");
    fail_rename_after = 0;
    CHECK_EQ_I64(write_out(&out, &options, &err), UZ_IO);
    CHECK(holds("part-1-of-2", "old"));
    fail_rename_after = 1; /* one rename is enough */
    CHECK_EQ_I64(write_out(&out, &options, &err), UZ_OK);
    fail_rename_after = -1;
    CHECK(holds("part-1-of-2", "first"));
    CHECK_EQ_U64(count_entries(dir), 1);
}

/* A folder with an output's name cannot be replaced by a file; with another name it is foreign. */
static void test_folder_in_the_way(void)
{
    char path[PATH_NBYTES];
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    struct uz_stage *stage = NULL;
    const struct uz_out out = make_out(files, 3);
    struct uz_stage_options options = make_options(true);
    put_old("folder");
    CHECK_EQ_I64(mkdir(path_of(path, "%s/part-2-of-2", dir), 0777), 0);
    CHECK_EQ_I64(uz_stage_check(&options, &out, &err), UZ_ARG);
    CHECK(strstr(err.file, "part-2-of-2") && strstr(err.message, "is a folder"));
    CHECK_EQ_I64(uz_stage_open(&stage, &options, &out, &err), UZ_ARG);
    CHECK(holds_old() && count_entries(dir) == 5);
    CHECK_EQ_I64(rmdir(path), 0);
    CHECK_EQ_I64(uz_stage_open(&stage, &options, &out, &err), UZ_OK);
    CHECK_EQ_I64(mkdir(path, 0777), 0); /* while the run writes */
    CHECK_EQ_I64(uz_stage_commit(stage, &err), UZ_ARG);
    uz_stage_close(stage);
    CHECK(holds_old() && count_entries(dir) == 5);
    CHECK_EQ_I64(rmdir(path), 0);
    CHECK_EQ_I64(mkfifo(path_of(path, "%s/part-7", dir), 0666), 0);
    CHECK_EQ_I64(uz_stage_check(&options, &out, &err), UZ_ARG);
    CHECK(strstr(err.file, "part-7") && strstr(err.message, "no regular file"));
    CHECK_EQ_I64(unlink(path), 0);
    CHECK_EQ_I64(mkdir(path, 0777), 0);
    CHECK_EQ_I64(write_out(&out, &options, &err), UZ_OK);
    CHECK(path_exists(path) && holds("part.index", "index"));
    fresh_dir("folder");
    CHECK_EQ_I64(mkdir(dir, 0777), 0);
    CHECK_EQ_I64(mkdir(path, 0777), 0);
    options.force = false;
    CHECK_EQ_I64(write_out(&out, &options, &err), UZ_OK);
}

/* Links are replaced, not what they name. */
static void test_link_is_replaced(void)
{
    char path[PATH_NBYTES];
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    const struct uz_out out = make_out(files, 3);
    const struct uz_stage_options options = make_options(true);
    fresh_dir("links");
    CHECK_EQ_I64(mkdir(dir, 0777), 0);
    put("kept", "mine");
    CHECK_EQ_I64(symlink("kept", path_of(path, "%s/part-1-of-2", dir)), 0);
    CHECK_EQ_I64(symlink(".", path_of(path, "%s/part-2-of-2", dir)), 0);
    CHECK_EQ_I64(write_out(&out, &options, &err), UZ_OK);
    CHECK(holds("kept", "mine") && holds("part-1-of-2", "first"));
    CHECK_EQ_U64(count_entries(dir), 4);
}

static void test_put_there_meanwhile(void)
{
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    struct uz_stage *stage = NULL;
    const struct uz_out out = make_out(files, 3);
    const struct uz_stage_options options = make_options(false);
    fresh_dir("meanwhile");
    CHECK_EQ_I64(uz_stage_open(&stage, &options, &out, &err), UZ_OK);
    put("part-9", "someone's");
    CHECK_EQ_I64(uz_stage_commit(stage, &err), UZ_ARG);
    CHECK(strstr(err.message, "part-9") != NULL);
    uz_stage_close(stage);
    CHECK(holds("part-9", "someone's"));
    CHECK_EQ_U64(count_entries(dir), 1);
}

/* ---- The lock ---- */

static unsigned n_swaps; /* how often the folder is still replaced before it is locked */

static void swap_staging(void)
{
    char path[PATH_NBYTES];
    if (n_swaps == 0)
        return;
    n_swaps--;
    CHECK_EQ_I64(rmdir(path_of(path, "%s/.staging", dir)), 0);
    if (n_swaps % 2) /* replaced, or just gone */
        CHECK_EQ_I64(mkdir(path, 0777), 0);
}

static void test_lock(void)
{
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    struct uz_stage *stage = NULL, *second = NULL;
    const struct uz_out out = make_out(files, 1);
    const struct uz_stage_options options = make_options(true);
    fresh_dir("lock");
    before_flock = swap_staging;
    n_swaps = 4;
    CHECK_EQ_I64(uz_stage_open(&stage, &options, &out, &err), UZ_OK);
    CHECK_EQ_U64(n_swaps, 0);
    CHECK_EQ_I64(uz_stage_open(&second, &options, &out, &err), UZ_ARG);
    uz_stage_close(stage);
    n_swaps = 1000;
    CHECK_EQ_I64(uz_stage_open(&stage, &options, &out, &err), UZ_ARG);
    CHECK(strstr(err.message, "keep making and removing") != NULL);
    before_flock = NULL;
    static const int tolerated[] = {ENOTSUP, ENOLCK, ENOSYS};
    for (size_t i = 0; i < 3; i++) {
        flock_errno = tolerated[i];
        CHECK_EQ_I64(uz_stage_open(&stage, &options, &out, &err), UZ_OK);
        uz_stage_close(stage);
    }
    flock_errno = EIO;
    CHECK_EQ_I64(uz_stage_open(&stage, &options, &out, &err), UZ_IO);
    CHECK_EQ_I64(err.sys_errno, EIO);
    flock_errno = 0;
}

/* A listing that fails is no empty folder. */
static void test_failed_listing(void)
{
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    const struct uz_out out = make_out(files, 3);
    const struct uz_stage_options options = make_options(false);
    put_old("listing");
    fail_readdir_after = 0;
    CHECK_EQ_I64(uz_stage_check(&options, &out, &err), UZ_IO);
    fail_readdir_after = -1;
    CHECK_EQ_I64(err.sys_errno, EIO);
    CHECK(strstr(err.message, "listed") != NULL);
}

/* A folder that was made for nothing goes, however its name was written. */
static void test_slashes(void)
{
    static const char *const ends[] = {"", "/", "///"};
    char path[PATH_NBYTES];
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    struct uz_stage *stage = NULL;
    const struct uz_out out = make_out(files, 3);
    struct uz_stage_options options = make_options(false);
    fresh_dir("slashes");
    for (size_t i = 0; i < 3; i++) {
        options.dir = path_of(path, "%s//slashes%s", scratch_dir, ends[i]);
        CHECK_EQ_I64(uz_stage_open(&stage, &options, &out, &err), UZ_OK);
        CHECK(path_exists(dir));
        uz_stage_close(stage);
        CHECK_F(!path_exists(dir), "'%s'", ends[i]);
    }
}

static void test_impossible_targets(void)
{
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    struct uz_out out = make_out(files, 1);
    struct uz_stage_options options = make_options(true);
    char below[PATH_NBYTES], text[3072];
    fresh_dir("file");
    CHECK(write_file(dir, "x", 1));
    CHECK_EQ_I64(uz_stage_check(&options, &out, &err), UZ_ARG);
    options.dir = path_of(below, "%s/file/below/it", scratch_dir);
    CHECK_EQ_I64(uz_stage_check(&options, &out, &err), UZ_ARG);
    CHECK(strstr(uz_error_format(&err, text, sizeof text), "is a file") != NULL);
    CHECK(write_out(&out, &options, &err) < 0);
    struct uz_stage *stage = NULL;
    CHECK_EQ_I64(uz_stage_open(&stage, &options, &out, &err), UZ_IO);
    CHECK(stage == NULL);
    fresh_dir("space");
    options.dir = dir;
    no_space = true;
    CHECK_EQ_I64(uz_stage_check(&options, &out, &err), UZ_OK);
    CHECK_EQ_I64(uz_stage_check_room(&options, &out, &err), UZ_IO);
    CHECK_EQ_I64(uz_stage_open(&stage, &options, &out, &err), UZ_IO);
    CHECK(stage == NULL);
    no_space = false;
    CHECK(strstr(err.message, "no space") && strstr(err.message, " 6 bytes"));
    CHECK_EQ_I64(uz_stage_check_room(&options, &out, &err), UZ_OK);
    files[0].nbytes = (uint64_t)1 << 62; /* no file system has so much */
    CHECK_EQ_I64(uz_stage_check_room(&options, &out, &err), UZ_IO);
    struct uz_out two = make_out(files, 2);
    files[0].nbytes = files[1].nbytes = (uint64_t)1 << 63; /* the sum wraps */
    CHECK_EQ_I64(uz_stage_check_room(&options, &two, &err), UZ_IO);
    CHECK(strstr(err.message, "no space") != NULL);
    CHECK(!path_exists(dir));
}

/* The lock that keeps two runs apart is on the staging folder, not on one that a link names. */
static void test_link_in_the_way(void)
{
    char path[PATH_NBYTES], elsewhere[PATH_NBYTES];
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    const struct uz_out out = make_out(files, 1);
    const struct uz_stage_options options = make_options(true);
    fresh_dir("link");
    CHECK_EQ_I64(mkdir(dir, 0777), 0);
    path_of(elsewhere, "%s/elsewhere", scratch_dir);
    CHECK_EQ_I64(mkdir(elsewhere, 0777), 0);
    CHECK(write_file(path_of(path, "%s/precious", elsewhere), "x", 1));
    CHECK_EQ_I64(symlink(elsewhere, path_of(path, "%s/.staging", dir)), 0);
    CHECK_EQ_I64(write_out(&out, &options, &err), UZ_IO);
    CHECK(path_exists(path_of(path, "%s/precious", elsewhere)));
}

/* ---- The same through the public interface ---- */

static char checkpoint[PATH_NBYTES];

static int stop_at_once(void *cookie, uint64_t nbytes_done, uint64_t nbytes_total)
{
    unsigned *n_calls = cookie;
    (void)nbytes_done;
    (void)nbytes_total;
    ++*n_calls;
    return 1;
}

static int convert(const struct uz_consolidate_options *options, uz_progress_fn progress,
                   unsigned *n_calls, struct uz_error *err)
{
    struct uz_consolidation *job = NULL;
    int rc = uz_consolidation_plan(&job, checkpoint, dir, options, err);
    if (rc == UZ_OK)
        rc = uz_consolidation_run(job, progress, n_calls, err);
    uz_consolidation_free(job);
    return rc;
}

static void test_cancel(void)
{
    struct uz_consolidate_options options;
    struct uz_error err;
    unsigned n_calls = 0;
    uz_consolidate_options_default(&options);
    fresh_dir("cancel");
    CHECK_EQ_I64(convert(&options, stop_at_once, &n_calls, &err), UZ_CANCELLED);
    CHECK_EQ_U64(n_calls, 1);
    CHECK_F(!path_exists(dir), "the cancelled run left something");
    CHECK_EQ_I64(mkdir(dir, 0777), 0);
    put("model.safetensors", "old");
    options.force = true;
    CHECK_EQ_I64(convert(&options, stop_at_once, &n_calls, &err), UZ_CANCELLED);
    CHECK(holds("model.safetensors", "old"));
    CHECK_EQ_U64(count_entries(dir), 1);
}

/* Whichever write fails: an error that names the file, and nothing is left. */
static void test_failed_writes(void)
{
    struct uz_consolidate_options options;
    int rc = UZ_IO;
    uz_consolidate_options_default(&options);
    options.input.threads = 1;
    options.max_shard_bytes = 600;
    for (int n = 0; n < 1000 && rc != UZ_OK; n++) {
        struct uz_error err;
        fresh_dir("writes");
        pwrite_errno = n % 2 ? EIO : ENOSPC;
        fail_pwrite_after = n;
        n_injected = 0;
        rc = convert(&options, NULL, NULL, &err);
        fail_pwrite_after = -1;
        CHECK_EQ_I64(rc, n_injected ? UZ_IO : UZ_OK);
        if (rc == UZ_OK)
            CHECK(n > 5);
        else if (CHECK_EQ_I64(err.sys_errno, pwrite_errno))
            CHECK(strstr(err.file, ".safetensors") != NULL && !path_exists(dir));
    }
    CHECK_EQ_I64(rc, UZ_OK);
}

/* Pages of a file in memory; -1 if they cannot leave it, as on tmpfs, or it is not known. */
static int64_t resident_pages(const char *path)
{
    enum { PAGE_NBYTES = 4096, MAX_PAGES = 4096 };
    static unsigned char in_memory[MAX_PAGES];
    struct statfs fs;
    struct stat st;
    int64_t n = -1;
    int fd = open(path, O_RDONLY);
    if (fd >= 0 && fstatfs(fd, &fs) == 0 && fs.f_type == EXT4_SUPER_MAGIC && fstat(fd, &st) == 0 &&
        st.st_size <= MAX_PAGES * PAGE_NBYTES) {
        size_t nbytes = (size_t)st.st_size;
        void *map = mmap(NULL, nbytes, PROT_READ, MAP_SHARED, fd, 0);
        if (map != MAP_FAILED && mincore(map, nbytes, in_memory) == 0) {
            n = 0;
            for (size_t i = 0; i * PAGE_NBYTES < nbytes; i++)
                n += in_memory[i] & 1;
        }
        if (map != MAP_FAILED)
            munmap(map, nbytes);
    }
    if (fd >= 0)
        close(fd);
    return n;
}

/* The same bytes, but nothing of them in memory. */
static void test_drop_cache(void)
{
    struct uz_consolidate_options options;
    struct uz_error err;
    char path[PATH_NBYTES];
    size_t n_kept = 0, n_dropped = 0;
    uz_consolidate_options_default(&options);
    fresh_dir("keep");
    CHECK_EQ_I64(convert(&options, NULL, NULL, &err), UZ_OK);
    char *kept = slurp(path_of(path, "%s/model.safetensors", dir), &n_kept);
    fresh_dir("drop");
    options.drop_cache = true;
    CHECK_EQ_I64(convert(&options, NULL, NULL, &err), UZ_OK);
    path_of(path, "%s/model.safetensors", dir);
    CHECK(resident_pages(path) <= 0);
    char *dropped = slurp(path, &n_dropped);
    CHECK(n_kept > 0 && n_dropped == n_kept && memcmp(dropped, kept, n_kept) == 0);
    free(kept);
    free(dropped);
}

/* Room for each file before the first byte is written; done without where there is no such call. */
static void test_room_of_files(void)
{
    static const struct {
        int error, rc;
    } rows[] = {{ENOSPC, UZ_IO}, {EDQUOT, UZ_IO},     {EFBIG, UZ_IO},
                {EINTR, UZ_OK},  {EOPNOTSUPP, UZ_OK}, {ENOSYS, UZ_OK}};
    struct uz_out_file files[N_FILES];
    const struct uz_out out = make_out(files, 2);
    const struct uz_stage_options options = make_options(true);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct uz_error err;
        fresh_dir("room");
        fallocate_errno = rows[i].error;
        fail_fallocate_after = 1; /* the first file has got its room */
        n_injected = 0;
        CHECK_EQ_I64(write_out(&out, &options, &err), rows[i].rc);
        fail_fallocate_after = -1;
        CHECK_EQ_U64(n_injected, 1);
        CHECK(path_exists(dir) == (rows[i].rc == UZ_OK));
        if (rows[i].rc < 0) {
            CHECK_EQ_I64(err.sys_errno, rows[i].error);
            CHECK(strstr(err.file, files[1].name) && strstr(err.message, " 6 bytes"));
        } else {
            for (size_t k = 0; k < 2; k++)
                CHECK(holds(files[k].name, heads[k]));
        }
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a new folder", test_new_folder},
        {"an output that is there", test_replacing},
        {"an index that is stale", test_stale_index},
        {"leftovers of an interrupted run", test_leftovers},
        {"a second run", test_second_run},
        {"giving up", test_giving_up},
        {"renames that fail", test_failed_rename},
        {"roll-backs that fail", test_failed_roll_back},
        {"a run killed in its commit", test_killed_commit},
        {"a run killed after its commit", test_killed_cleaning},
        {"one file for one", test_one_for_one},
        {"a folder in the way", test_folder_in_the_way},
        {"links are replaced", test_link_is_replaced},
        {"a file that came meanwhile", test_put_there_meanwhile},
        {"the lock", test_lock},
        {"a listing that fails", test_failed_listing},
        {"slashes at the end", test_slashes},
        {"impossible targets", test_impossible_targets},
        {"room for files", test_room_of_files},
        {"a link in the way", test_link_in_the_way},
        {"cancelling leaves nothing", test_cancel},
        {"nothing stays in memory", test_drop_cache},
        {"failed writes leave nothing", test_failed_writes},
        CU_TEST_INFO_NULL,
    };
    const char *srcdir = getenv("srcdir");
    path_of(checkpoint, "%s/fixtures/good-z2-bf16-w2-2groups-tiny", srcdir ? srcdir : ".");
    scratch_make();
    path_of(dir, "%s/none", scratch_dir);
    return check_run("stage", tests);
}
