/* SPDX-License-Identifier: Apache-2.0 */
/* A manifest as JSON, a line for each file and tensor. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "check/manifest.h"
#include "out/json_text.h"

/* ---- The text ---- */

static int print_pair(FILE *to, const char *key, const char *text, struct uz_error *err)
{
    fprintf(to, "\"%s\": ", key);
    return uz_json_string(to, text, err);
}

static int print_file(FILE *to, const struct uz_manifest_file *file, struct uz_error *err)
{
    fputs("{", to);
    UZ_TRY(print_pair(to, "name", file->name, err));
    fprintf(to, ", \"bytes\": %" PRIu64 ", \"xxh3_128\": \"%s\"}", file->nbytes, file->text);
    return UZ_OK;
}

static int print_tensor(FILE *to, const struct uz_manifest_tensor *tensor, struct uz_error *err)
{
    fputs("{", to);
    UZ_TRY(print_pair(to, "name", tensor->name, err));
    fprintf(to, ", \"state\": %s, \"dtype\": \"%s\", \"shape\": [",
            tensor->is_state ? "true" : "false", uz_dtype_name(tensor->dtype));
    for (unsigned i = 0; i < tensor->ndim; i++)
        fprintf(to, "%s%" PRIu64, i ? ", " : "", tensor->shape[i]);
    fputs("], \"xxh3_128\": {", to);
    for (unsigned i = 0; i < tensor->n_digests; i++)
        fprintf(to, "%s\"%s\": \"%s\"", i ? ", " : "", uz_dtype_name(tensor->digests[i].dtype),
                tensor->digests[i].text);
    fputs("}}", to);
    return UZ_OK;
}

static int print_alias(FILE *to, const struct uz_manifest_alias *alias, struct uz_error *err)
{
    fputs("{", to);
    UZ_TRY(print_pair(to, "name", alias->name, err));
    fputs(", ", to);
    UZ_TRY(print_pair(to, "of", alias->of, err));
    fputs("}", to);
    return UZ_OK;
}

static void begin(FILE *to, const char *list)
{
    fprintf(to, ",\n  \"%s\": [", list);
}

static void next(FILE *to, size_t i)
{
    fprintf(to, "%s\n    ", i ? "," : "");
}

static int print(FILE *to, const struct uz_manifest *m, struct uz_error *err)
{
    fprintf(to, "{\n  \"format\": \"unzero-manifest\",\n  \"version\": %d,\n  \"kind\": \"%s\"",
            UZ_MANIFEST_VERSION, m->kind);
    begin(to, "files");
    for (size_t i = 0; i < m->n_files; i++) {
        next(to, i);
        UZ_TRY(print_file(to, &m->files[i], err));
    }
    fputs("\n  ]", to);
    begin(to, "tensors");
    for (size_t i = 0; i < m->n_tensors; i++) {
        next(to, i);
        UZ_TRY(print_tensor(to, &m->tensors[i], err));
    }
    fputs("\n  ]", to);
    begin(to, "aliases");
    for (size_t i = 0; i < m->n_aliases; i++) {
        next(to, i);
        UZ_TRY(print_alias(to, &m->aliases[i], err));
    }
    fputs("\n  ]\n}\n", to);
    return UZ_OK;
}

/* ---- The file ---- */

/* Makes the folder's entries durable; where a file system cannot, the file is there all the same.
 */
static void sync_folder(const char *path)
{
    size_t n = (size_t)(uz_path_name(path) - path);
    char *dir = n ? strndup(path, n) : strdup(".");
    int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(dir);
}

/* Puts the text into a new file beside the final one, and gives it the name. */
static int replace(const char *path, const char *staged, int fd, const char *text, size_t nbytes,
                   struct uz_error *err)
{
    int rc = uz_pwrite_all(fd, text, nbytes, 0, path, err);
    if (rc == UZ_OK && fsync(fd) < 0)
        rc = uz_fail_errno(err, errno, path, "cannot be made durable");
    if (close(fd) < 0 && rc == UZ_OK)
        rc = uz_fail_errno(err, errno, path, "cannot be written");
    if (rc == UZ_OK && rename(staged, path) < 0)
        rc = uz_fail_errno(err, errno, path, "cannot be put in place");
    if (rc < 0)
        (void)unlink(staged);
    else
        sync_folder(path);
    return rc;
}

static int write_text(const char *path, const char *text, size_t nbytes, struct uz_error *err)
{
    char *staged;
    size_t n = strlen(path) + 40;
    UZ_TRY(uz_alloc(&staged, n, 1, err));
    (void)snprintf(staged, n, "%s.%ld.partial", path, (long)getpid());
    int fd = open(staged, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    int rc = fd < 0 ? uz_fail_errno(err, errno, path, "cannot be written")
                    : replace(path, staged, fd, text, nbytes, err);
    free(staged);
    return rc;
}

int uz_manifest_save(const struct uz_manifest *manifest, const char *path, struct uz_error *err)
{
    char *text = NULL;
    size_t nbytes = 0;
    FILE *to = open_memstream(&text, &nbytes);
    if (!to)
        return uz_fail_nomem(err, 0);
    int rc = print(to, manifest, err);
    bool failed = ferror(to) != 0;
    if ((fclose(to) != 0 || failed) && rc == UZ_OK)
        rc = uz_fail_nomem(err, nbytes);
    if (rc == UZ_OK)
        rc = write_text(path, text, nbytes, err);
    free(text);
    return rc;
}
