/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of staging and commit: what is replaced, kept, refused, and left behind by failures. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <unzero/consolidate.h>

#include "check.h"
#include "engine/stage.h"
#include "scratch.h"

/* ---- System calls that fail on request (-Wl,--wrap) ---- */

static int fail_pwrite_after = -1; /* calls that still succeed; -1: all */
static int fail_rename_after = -1;
static int pwrite_errno = ENOSPC;
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
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);

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
    return injected(&fail_rename_after, EIO) ? -1 : __real_rename(from, to);
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

static void test_failed_rename(void)
{
    struct uz_out_file files[N_FILES];
    const struct uz_out out = make_out(files, 3);
    const struct uz_stage_options options = make_options(true);
    for (int n = 0; n < N_FILES; n++) {
        struct uz_error err;
        fresh_dir("rename");
        CHECK_EQ_I64(mkdir(dir, 0777), 0);
        put("part.index", "old");
        put("keep", "me");
        fail_rename_after = n;
        CHECK_EQ_I64(write_out(&out, &options, &err), UZ_IO);
        fail_rename_after = -1;
        CHECK_EQ_I64(err.sys_errno, EIO);
        CHECK(strstr(err.file, names[n]) != NULL);
        /* what has its name has all its bytes, and no index tells of files that are not there */
        CHECK_EQ_U64(count_entries(dir), (size_t)n + 1);
        CHECK(!holds("part.index", "old") && holds("keep", "me"));
        CHECK_EQ_I64(write_out(&out, &options, &err), UZ_OK);
        CHECK_EQ_U64(count_entries(dir), 4);
    }
}

/* A folder with an output's name cannot be replaced by a file. */
static void test_folder_in_the_way(void)
{
    char path[PATH_NBYTES];
    struct uz_out_file files[N_FILES];
    struct uz_error err;
    const struct uz_out out = make_out(files, 3);
    const struct uz_stage_options options = make_options(true);
    fresh_dir("folder");
    CHECK_EQ_I64(mkdir(dir, 0777), 0);
    CHECK_EQ_I64(mkdir(path_of(path, "%s/part-2-of-2", dir), 0777), 0);
    CHECK_EQ_I64(write_out(&out, &options, &err), UZ_IO);
    CHECK(strstr(err.file, "part-2-of-2") != NULL);
    CHECK(!path_exists(path_of(path, "%s/.staging", dir)));
    CHECK(!path_exists(path_of(path, "%s/part.index", dir)));
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
    options.threads = 1;
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
        {"a folder in the way", test_folder_in_the_way},
        {"impossible targets", test_impossible_targets},
        {"a link in the way", test_link_in_the_way},
        {"cancelling leaves nothing", test_cancel},
        {"failed writes leave nothing", test_failed_writes},
        CU_TEST_INFO_NULL,
    };
    const char *srcdir = getenv("srcdir");
    path_of(checkpoint, "%s/fixtures/good-z2-bf16-w2-2groups-tiny", srcdir ? srcdir : ".");
    scratch_make();
    path_of(dir, "%s/none", scratch_dir);
    return check_run("stage", tests);
}
