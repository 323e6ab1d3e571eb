/* SPDX-License-Identifier: Apache-2.0 */
/* Tells folders from files by what is there, then by the name's ending. */
#include "convert/target_path.h"

#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n > n_end && !strcmp(text + n - n_end, end);
}

bool uz_is_safetensors_model_file(const char *name)
{
    static const char *const patterns[] = {
        "model.safetensors",
        "model.safetensors.index.json",
        "model-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].safetensors",
    };
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
        if (fnmatch(patterns[i], name, 0) == 0)
            return true;
    return false;
}

#define STAGING ".unzero-partial"

/* Bytes of path without slashes at its end; "/" stays. */
static size_t without_slashes(const char *path, size_t n)
{
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n;
}

static int split_file(struct uz_target_path *target, const char *out, struct uz_error *err)
{
    const char *name = uz_path_name(out);
    size_t n_dir = without_slashes(out, (size_t)(name - out));
    size_t max_nbytes = NAME_MAX - strlen(STAGING "."); /* the staging folder needs a name too */
    if (strlen(name) > max_nbytes)
        return uz_fail_at(err, UZ_ARG, out, UZ_NO_OFFSET,
                          "name too long: a file's name has at most %zu bytes", max_nbytes);
    target->file_name = strdup(name);
    target->dir = n_dir ? strndup(out, n_dir) : strdup(".");
    if (!target->file_name || !target->dir || asprintf(&target->staging, STAGING ".%s", name) < 0)
        return uz_fail_nomem(err, strlen(out));
    return UZ_OK;
}

/* `slash`: the name ended in one, so a folder is meant whatever it is called. */
static int parse_stripped(struct uz_target_path *target, const char *out, bool slash,
                          struct uz_error *err)
{
    struct stat st;
    bool there = stat(out, &st) == 0;
    if (!(there && S_ISDIR(st.st_mode)) && !slash && ends_with(out, ".safetensors"))
        return split_file(target, out, err);
    if (there && !S_ISDIR(st.st_mode))
        return uz_fail_at(err, UZ_ARG, out, UZ_NO_OFFSET,
                          "is a file; the output is a folder, or a file named *.safetensors");
    if (!slash && (ends_with(out, ".bin") || ends_with(out, ".pt") || ends_with(out, ".pth")))
        return uz_fail_at(err, UZ_ARG, out, UZ_NO_OFFSET,
                          "looks like a PyTorch file, which is not written yet; give a folder, or "
                          "a file named *.safetensors");
    target->dir = strdup(out);
    target->staging = strdup(STAGING);
    return target->dir && target->staging ? UZ_OK : uz_fail_nomem(err, strlen(out));
}

int uz_target_path_parse(struct uz_target_path *target, const char *out, struct uz_error *err)
{
    size_t n = strlen(out), n_kept = without_slashes(out, n);
    *target = (struct uz_target_path){0};
    if (n == 0)
        return uz_fail(err, UZ_ARG, "the output has an empty name");
    char *stripped = strndup(out, n_kept);
    if (!stripped)
        return uz_fail_nomem(err, n);
    int rc = parse_stripped(target, stripped, n_kept < n, err);
    free(stripped);
    return rc;
}

int uz_target_path_existing(const struct uz_target_path *target, char **dir, struct uz_error *err)
{
    struct stat st;
    char *path = strdup(target->dir);
    if (!path)
        return uz_fail_nomem(err, strlen(target->dir));
    while (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)) {
        const char *name = uz_path_name(path);
        size_t n = without_slashes(path, (size_t)(name - path));
        if (n == 0 || (n == 1 && *path == '/' && !name[0])) {
            strcpy(path, n ? "/" : "."); /* the name has at least one character */
            break;
        }
        path[n] = '\0';
    }
    *dir = path;
    return UZ_OK;
}

int uz_target_path_file(struct uz_target_path *target, const char *path, struct uz_error *err)
{
    *target = (struct uz_target_path){0};
    if (!*uz_path_name(path))
        return uz_fail_at(err, UZ_ARG, path, UZ_NO_OFFSET, "is not the name of a file");
    return split_file(target, path, err);
}

void uz_target_path_free(struct uz_target_path *target)
{
    free(target->dir);
    free(target->file_name);
    free(target->staging);
    *target = (struct uz_target_path){0};
}
