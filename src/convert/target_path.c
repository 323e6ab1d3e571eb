/* SPDX-License-Identifier: Apache-2.0 */
/* Tells folders from files by what is there, then by the name's ending. */
#include "convert/target_path.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/dir.h"
#include "base/file.h"
#include "out/files.h"

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

static const struct ending {
    const char *text;
    enum uz_format format;
} endings[] = {
    {".safetensors", UZ_FORMAT_SAFETENSORS},
    {".bin", UZ_FORMAT_PT},
    {".pt", UZ_FORMAT_PT},
    {".pth", UZ_FORMAT_PT},
};

enum { N_ENDINGS = sizeof endings / sizeof endings[0] };

/* The format of a file's name; AUTO if it has none of the endings. */
static enum uz_format format_of_name(const char *name)
{
    for (size_t i = 0; i < N_ENDINGS; i++)
        if (uz_has_suffix(name, endings[i].text))
            return endings[i].format;
    return UZ_FORMAT_AUTO;
}

enum uz_format uz_output_file_format(const char *out)
{
    /* a slash at the end is no ending */
    return uz_is_dir(out) ? UZ_FORMAT_AUTO : format_of_name(out);
}

static bool ends_with_in_any_case(const char *name, const char *end)
{
    size_t n = strlen(name), n_end = strlen(end);
    return n > n_end && !strcasecmp(name + n - n_end, end);
}

/*
 * Files that people expect weights in. Folders may have a dot in their names (llama-3.1, run.old),
 * so that not every ending tells of a file.
 */
static bool is_named_like_a_file(const char *path)
{
    static const char *const others[] = {
        ".gguf", ".ggml",    ".ckpt", ".npz",   ".npy",        ".h5",  ".hdf5",
        ".onnx", ".msgpack", ".pkl",  ".zip",   ".tar",        ".tgz", ".gz",
        ".zst",  ".json",    ".yaml", ".torch", ".safetensor",
    };
    const char *name = uz_path_name(path);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (ends_with_in_any_case(name, others[i]))
            return true;
    for (size_t i = 0; i < N_ENDINGS; i++)
        if (ends_with_in_any_case(name, endings[i].text) && !uz_has_suffix(name, endings[i].text))
            return true;
    return false;
}

int uz_output_name_check(const char *out, struct uz_error *err)
{
    uz_error_clear(err);
    if (!*out)
        return uz_fail(err, UZ_ARG, "the output has an empty name");
    if (!strcmp(out, "-"))
        return uz_fail_at(err, UZ_ARG, out, UZ_NO_OFFSET,
                          "weights are not written to standard output; give a folder or a file");
    if (!uz_is_dir(out) && is_named_like_a_file(out))
        return uz_fail_at(err, UZ_ARG, out, UZ_NO_OFFSET,
                          "is named like a file of a format that is not written; files are named "
                          "*.safetensors, *.bin, *.pt or *.pth, and a slash at the end makes any "
                          "name a folder's");
    return UZ_OK;
}

static int parse_stripped(struct uz_target_path *target, const char *out, enum uz_format of_name,
                          struct uz_error *err)
{
    struct stat st;
    if (of_name != UZ_FORMAT_AUTO)
        return split_file(target, out, err);
    if (stat(out, &st) == 0 && !S_ISDIR(st.st_mode))
        return uz_fail_at(err, UZ_ARG, out, UZ_NO_OFFSET,
                          "is a file; the output is a folder, or a file named *.safetensors, "
                          "*.bin, *.pt or *.pth");
    target->dir = strdup(out);
    target->staging = strdup(STAGING);
    return target->dir && target->staging ? UZ_OK : uz_fail_nomem(err, strlen(out));
}

int uz_target_path_parse(struct uz_target_path *target, const char *out, enum uz_format format,
                         struct uz_error *err)
{
    size_t n = strlen(out);
    enum uz_format of_name = uz_output_file_format(out);
    *target = (struct uz_target_path){0};
    UZ_TRY(uz_output_name_check(out, err));
    if (of_name != UZ_FORMAT_AUTO && format != UZ_FORMAT_AUTO && of_name != format)
        return uz_fail_at(err, UZ_ARG, out, UZ_NO_OFFSET,
                          "is not named as a file of the format that was asked for");
    target->format = of_name != UZ_FORMAT_AUTO  ? of_name
                     : format != UZ_FORMAT_AUTO ? format
                                                : UZ_FORMAT_SAFETENSORS;
    char *stripped = strndup(out, without_slashes(out, n));
    if (!stripped)
        return uz_fail_nomem(err, n);
    int rc = parse_stripped(target, stripped, of_name, err);
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

static bool is_safetensors_file(const char *name)
{
    return uz_is_weights_file(&uz_safetensors_names, name);
}

static bool is_torch_file(const char *name)
{
    return uz_is_weights_file(&uz_torch_names, name);
}

uz_family_fn uz_target_path_family(const struct uz_target_path *target)
{
    if (target->file_name)
        return NULL;
    return target->format == UZ_FORMAT_PT ? is_torch_file : is_safetensors_file;
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
