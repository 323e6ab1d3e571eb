/* SPDX-License-Identifier: Apache-2.0 */
/* Writes one tensor as .npy or .safetensors. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "convert/got.h"
#include "convert/target_path.h"
#include "engine/stage.h"
#include "out/json_text.h"

enum { NPY_PREFIX = 10, NPY_ALIGN = 64, NPY_MAX_HEADER = 0xffff, SAFETENSORS_ALIGN = 8 };

/* The dictionary of a .npy header (numpy's format 1.0, described in NEP 1). */
static void print_npy(FILE *to, const struct uz_got_info *info)
{
    fprintf(to, "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
            uz_dtype_size(info->dtype) > 1 ? '<' : '|', uz_dtype_npy_code(info->dtype));
    for (unsigned j = 0; j < info->ndim; j++)
        fprintf(to, "%s%" PRIu64, j ? ", " : "", info->shape[j]);
    fputs(info->ndim == 1 ? ",), }" : "), }", to);
}

static int print_safetensors(FILE *to, const struct uz_got_info *info, struct uz_error *err)
{
    fputs("{\"__metadata__\":{\"format\":\"pt\"},", to);
    UZ_TRY(uz_json_string(to, info->name, err));
    fprintf(to, ":{\"dtype\":\"%s\",\"shape\":[", uz_dtype_safetensors_name(info->dtype));
    for (unsigned j = 0; j < info->ndim; j++)
        fprintf(to, "%s%" PRIu64, j ? "," : "", info->shape[j]);
    fprintf(to, "],\"data_offsets\":[0,%" PRIu64 "]}}", info->numel * uz_dtype_size(info->dtype));
    return UZ_OK;
}

/* Puts the text between a prefix and padding: spaces, and for .npy a line's end. */
static int frame(enum uz_array_format format, const char *text, size_t n, char **head,
                 size_t *head_nbytes, struct uz_error *err)
{
    bool npy = format == UZ_ARRAY_NPY;
    size_t prefix = npy ? NPY_PREFIX : 8, align = npy ? NPY_ALIGN : SAFETENSORS_ALIGN;
    size_t total = (prefix + n + npy + align - 1) / align * align;
    uint64_t inner = total - prefix;
    if (npy && inner > NPY_MAX_HEADER)
        return uz_fail(err, UZ_LIMIT, "the .npy header would have %" PRIu64 " bytes", inner);
    UZ_TRY(uz_alloc(head, total, 1, err));
    memset(*head, ' ', total);
    if (npy)
        memcpy(*head, "\x93NUMPY\x01", 8); /* with a terminating 0: version 1.0 */
    for (size_t i = 0; i < (npy ? 2u : 8u); i++)
        (*head)[(npy ? 8 : 0) + i] = (char)(inner >> (8 * i));
    memcpy(*head + prefix, text, n);
    if (npy)
        (*head)[total - 1] = '\n';
    *head_nbytes = total;
    return UZ_OK;
}

static int check_dtype(const struct uz_got_info *info, enum uz_array_format format,
                       struct uz_error *err)
{
    bool npy = format == UZ_ARRAY_NPY;
    if (npy ? uz_dtype_npy_code(info->dtype) != NULL
            : uz_dtype_safetensors_name(info->dtype) != NULL)
        return UZ_OK;
    return uz_fail(err, UZ_UNSUPPORTED, "%s has no dtype %s; %s", npy ? "numpy" : "safetensors",
                   uz_dtype_name(info->dtype),
                   npy && uz_dtype_is_castable(info->dtype)
                       ? "ask for fp32 (--dtype fp32), or a .safetensors file"
                       : "the values of this tensor cannot be written so");
}

static int make_head(const struct uz_got_info *info, enum uz_array_format format, char **head,
                     size_t *head_nbytes, struct uz_error *err)
{
    char *text = NULL;
    size_t n = 0;
    UZ_TRY(check_dtype(info, format, err));
    FILE *to = open_memstream(&text, &n);
    if (!to)
        return uz_fail_nomem(err, 0);
    int rc = UZ_OK;
    if (format == UZ_ARRAY_NPY)
        print_npy(to, info);
    else
        rc = print_safetensors(to, info, err);
    if (fclose(to) != 0 && rc == UZ_OK)
        rc = uz_fail_nomem(err, n);
    if (rc == UZ_OK)
        rc = frame(format, text, n, head, head_nbytes, err);
    free(text);
    return rc;
}

static int write_all(int fd, const void *bytes, size_t nbytes, const char *what,
                     struct uz_error *err)
{
    for (const char *at = bytes; nbytes > 0;) {
        ssize_t n = write(fd, at, nbytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return uz_fail_errno(err, errno, what, "cannot be written");
        at += n;
        nbytes -= (size_t)n;
    }
    return UZ_OK;
}

/* Who is told how far it is. */
struct listener {
    uz_progress_fn progress; /* NULL: nobody */
    void *cookie;
};

static int write_elems(struct uz_got *got, int fd, const char *what, struct listener listener,
                       struct uz_error *err)
{
    size_t size = uz_dtype_size(got->info.dtype);
    uint64_t at_once = UZ_GOT_BLOCK_NBYTES / size;
    unsigned char *block;
    int rc = UZ_OK;
    UZ_TRY(uz_alloc(&block, UZ_GOT_BLOCK_NBYTES, 1, err));
    for (uint64_t first = 0, n; first < got->info.numel && rc == UZ_OK; first += n) {
        n = got->info.numel - first < at_once ? got->info.numel - first : at_once;
        rc = uz_got_read(got, first, n, block, err);
        if (rc == UZ_OK)
            rc = write_all(fd, block, (size_t)n * size, what, err);
        if (rc == UZ_OK && listener.progress &&
            listener.progress(listener.cookie, (first + n) * size, got->info.numel * size))
            rc = uz_fail(err, UZ_CANCELLED, "cancelled");
    }
    free(block);
    return rc;
}

/* What comes before the elements. */
struct head {
    char *bytes;
    size_t nbytes;
};

static int write_array(struct uz_got *got, int fd, const struct head *head, const char *what,
                       struct listener listener, struct uz_error *err)
{
    UZ_TRY(write_all(fd, head->bytes, head->nbytes, what, err));
    return write_elems(got, fd, what, listener, err);
}

int uz_got_write(struct uz_got *got, int fd, enum uz_array_format format, const char *what,
                 uz_progress_fn progress, void *cookie, struct uz_error *err)
{
    struct head head = {0};
    uz_error_clear(err);
    UZ_TRY(make_head(&got->info, format, &head.bytes, &head.nbytes, err));
    int rc = write_array(got, fd, &head, what, (struct listener){progress, cookie}, err);
    free(head.bytes);
    return rc;
}

static int write_file(struct uz_got *got, const char *path, const struct head *head,
                      struct listener listener, struct uz_error *err)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return uz_fail_errno(err, errno, path, "cannot be opened");
    int rc = write_array(got, fd, head, path, listener, err);
    if (close(fd) < 0 && rc == UZ_OK)
        rc = uz_fail_errno(err, errno, path, "cannot be written");
    return rc;
}

/* Staged as every output is: the file has its name when all of it is there. */
static int save_staged(struct uz_got *got, const struct uz_stage_options *options,
                       const struct uz_out *out, const struct head *head, struct listener listener,
                       struct uz_error *err)
{
    struct uz_stage *stage;
    UZ_TRY(uz_stage_check(options, out, err));
    UZ_TRY(uz_stage_open(&stage, options, out, err));
    int rc = write_file(got, uz_stage_paths(stage)[0], head, listener, err);
    if (rc == UZ_OK)
        rc = uz_stage_commit(stage, err);
    uz_stage_close(stage);
    return rc;
}

int uz_got_save(struct uz_got *got, const char *path, enum uz_array_format format, bool force,
                uz_progress_fn progress, void *cookie, struct uz_error *err)
{
    struct uz_target_path target;
    struct head head = {0};
    uz_error_clear(err);
    UZ_TRY(make_head(&got->info, format, &head.bytes, &head.nbytes, err));
    int rc = uz_target_path_file(&target, path, err);
    if (rc == UZ_OK) {
        struct uz_stage_options options = {
            .dir = target.dir, .staging = target.staging, .force = force, .sync = UZ_SYNC_FULL};
        struct uz_out_file file = {.name = target.file_name,
                                   .nbytes = head.nbytes +
                                             got->info.numel * uz_dtype_size(got->info.dtype)};
        struct uz_out out = {.files = &file, .n_files = 1};
        rc = save_staged(got, &options, &out, &head, (struct listener){progress, cookie}, err);
    }
    uz_target_path_free(&target);
    free(head.bytes);
    return rc;
}
