/* SPDX-License-Identifier: Apache-2.0 */
/* A new checkpoint on a file system without room: refused before anything is copied. */
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include <unzero/get.h>
#include <unzero/set.h>

#include "check.h"
#include "scratch.h"

static char checkpoint[PATH_NBYTES], values[PATH_NBYTES], out[PATH_NBYTES];
static bool no_space;

int __real_statvfs(const char *path, struct statvfs *fs);
int __wrap_statvfs(const char *path, struct statvfs *fs);
int __real_statvfs64(const char *path, struct statvfs *fs);
int __wrap_statvfs64(const char *path, struct statvfs *fs);

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

static bool save_values(void)
{
    struct uz_get_options options;
    struct uz_got *got;
    struct uz_error err;
    uz_get_options_default(&options);
    if (!CHECK_EQ_I64(uz_get(&got, checkpoint, "emb.weight", &options, &err), UZ_OK))
        return false;
    bool ok = CHECK_EQ_I64(uz_got_save(got, values, UZ_ARRAY_NPY, true, NULL, NULL, &err), UZ_OK);
    uz_got_free(got);
    return ok;
}

/* Makes the new checkpoint; *copies tells whether the file system had to copy anything. */
static int set(bool *copies, struct uz_error *err)
{
    struct uz_set_options options;
    struct uz_setting *job;
    uz_set_options_default(&options);
    if (!CHECK_EQ_I64(uz_setting_plan(&job, checkpoint, "emb.weight", values, out, &options, err),
                      UZ_OK))
        return UZ_ARG;
    int rc = uz_setting_run(job, NULL, NULL, err);
    const struct uz_set_summary *summary = uz_setting_summary(job);
    /* where files that are shared are reflinks, those that change are, too */
    *copies = summary->n_files_linked > 0 || summary->n_files_copied > 0;
    uz_setting_free(job);
    return rc;
}

static void test_no_room(void)
{
    struct uz_error err;
    bool copies;
    if (!save_values())
        return;
    CHECK_EQ_I64(set(&copies, &err), UZ_OK);
    CHECK(path_exists(out));
    remove_tree(out);
    if (!copies)
        return; /* nothing needs room here */
    size_t n_entries = count_entries(scratch_dir);
    no_space = true;
    CHECK_EQ_I64(set(&copies, &err), UZ_IO);
    CHECK_F(strstr(err.message, "no space") && strstr(err.message, "has 0 left"), "%s",
            err.message);
    CHECK(!path_exists(out));
    CHECK_EQ_U64(count_entries(scratch_dir), n_entries); /* nothing half made is left */
    no_space = false;
    CHECK_EQ_I64(set(&copies, &err), UZ_OK);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"no room", test_no_room},
        CU_TEST_INFO_NULL,
    };
    const char *srcdir = getenv("srcdir"), *fixtures = getenv("UNZERO_FIXTURES");
    const char *name = "good-z2-bf16-w2-2groups-tiny";
    scratch_make();
    path_of(values, "%s/values.npy", scratch_dir);
    path_of(out, "%s/out", scratch_dir);
    if (fixtures)
        path_of(checkpoint, "%s/%s", fixtures, name);
    else
        path_of(checkpoint, "%s/fixtures/%s", srcdir ? srcdir : ".", name);
    return check_run("set", tests);
}
