/* SPDX-License-Identifier: Apache-2.0 */
/* Makes PyTorch files for tests, byte by byte, and opens them. */
#ifndef UZ_TESTS_TORCH_MAKER_H
#define UZ_TESTS_TORCH_MAKER_H

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zip.h>

#include "base/file.h"
#include "check.h"
#include "torch/file.h"

/* The one file that a test program writes again and again; run_on_file() gives it its name. */
static char path[] = "./test_torch.XXXXXX";

/* Making pickles. */

struct buf {
    uint8_t data[4096];
    size_t nbytes;
};

static inline void put(struct buf *buf, const void *data, size_t nbytes)
{
    if (nbytes > sizeof buf->data - buf->nbytes)
        abort();
    memcpy(buf->data + buf->nbytes, data, nbytes);
    buf->nbytes += nbytes;
}

#define PUT(buf, text) put((buf), (text), sizeof(text) - 1)

static inline void put_text(struct buf *buf, const char *text)
{
    uint8_t head[2] = {0x8c, (uint8_t)strlen(text)};
    put(buf, head, 2);
    put(buf, text, strlen(text));
}

static inline void put_int(struct buf *buf, int64_t value)
{
    PUT(buf, "\x8a\x08");
    put(buf, &value, 8); /* the tests run on little-endian machines */
}

static inline void put_ints(struct buf *buf, const int64_t *values, size_t n)
{
    PUT(buf, "(");
    for (size_t i = 0; i < n; i++)
        put_int(buf, values[i]);
    PUT(buf, "t");
}

/* A tensor; what is zero or NULL takes the default in the comment. */
struct spec {
    const char *class; /* "torch\nFloatStorage\n" */
    const char *dtype; /* for _rebuild_tensor_v3, as "uint16" */
    const char *key;   /* "0" */
    int64_t numel;     /* elements of the storage */
    int64_t first;
    size_t ndim, n_strides; /* n_strides: ndim; SIZE_MAX: none */
    int64_t shape[4], stride[4];
    const char *metadata; /* a whole pickle fragment */
    const char *function; /* by the dtype */
};

static inline void put_tensor(struct buf *buf, const struct spec *spec)
{
    const char *class = spec->class ? spec->class : "torch\nFloatStorage\n";
    const char *v =
        spec->dtype ? "torch._utils\n_rebuild_tensor_v3\n" : "torch._utils\n_rebuild_tensor_v2\n";
    size_t n_strides = spec->n_strides ? spec->n_strides : spec->ndim;
    if (spec->function)
        v = spec->function;
    PUT(buf, "c");
    put(buf, v, strlen(v));
    PUT(buf, "((");
    put_text(buf, "storage");
    PUT(buf, "c");
    put(buf, class, strlen(class));
    put_text(buf, spec->key ? spec->key : "0");
    put_text(buf, "cpu");
    put_int(buf, spec->numel);
    PUT(buf, "tQ");
    put_int(buf, spec->first);
    put_ints(buf, spec->shape, spec->ndim);
    put_ints(buf, spec->stride, n_strides == SIZE_MAX ? 0 : n_strides);
    PUT(buf, "\x89}");
    if (spec->dtype) {
        PUT(buf, "ctorch\n");
        put(buf, spec->dtype, strlen(spec->dtype));
        PUT(buf, "\n");
    }
    if (spec->metadata)
        put(buf, spec->metadata, strlen(spec->metadata));
    PUT(buf, "tR");
}

/* Making archives. */

struct entry {
    const char *name;
    const void *data;
    size_t nbytes;
};

static inline void write_zip(const struct entry *entries, size_t n, bool deflated)
{
    int error = 0;
    zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &error);
    if (!zip)
        abort();
    for (size_t i = 0; i < n; i++) {
        zip_source_t *src = zip_source_buffer(zip, entries[i].data, entries[i].nbytes, 0);
        zip_int64_t index = zip_file_add(zip, entries[i].name, src, 0);
        if (index < 0 || zip_set_file_compression(zip, (zip_uint64_t)index,
                                                  deflated ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0) < 0)
            abort();
    }
    if (zip_close(zip) < 0)
        abort();
}

/* A file "r" with this pickle and one storage of nbytes that counts up from 0. */
static inline void write_file(const struct buf *pickle, size_t nbytes, bool deflated)
{
    uint8_t data[256];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)i;
    struct entry entries[] = {{"r/data.pkl", pickle->data, pickle->nbytes},
                              {"r/byteorder", "little", 6},
                              {"r/data/0", data, nbytes}};
    write_zip(entries, 3, deflated);
}

static inline uint8_t *read_whole(size_t *nbytes)
{
    char *data;
    if (uz_read_file(path, 1 << 24, &data, nbytes, NULL) < 0)
        abort();
    return (uint8_t *)data;
}

static inline void write_whole(const void *data, size_t nbytes)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, nbytes, file) != nbytes || fclose(file) != 0)
        abort();
}

static inline int open_file(struct uz_torch_file **file, struct uz_error *err)
{
    struct uz_limits limits;
    uz_limits_default(&limits);
    uz_error_clear(err);
    *file = NULL;
    return uz_torch_open(file, path, &limits, err);
}

/* Opens the file and resolves its value as a tensor. */
static inline int resolve(struct uz_view *view, struct uz_error *err)
{
    struct uz_torch_file *file;
    int rc = open_file(&file, err);
    if (rc == UZ_OK)
        rc = uz_torch_tensor(file, uz_torch_root(file), "w", view, err);
    uz_torch_close(file);
    return rc;
}

static inline int resolve_spec(const struct spec *spec, size_t nbytes, struct uz_view *view,
                               struct uz_error *err)
{
    struct buf pickle = {.nbytes = 0};
    put_tensor(&pickle, spec);
    PUT(&pickle, ".");
    write_file(&pickle, nbytes, false);
    return resolve(view, err);
}

/* A tensor of 2 x 3 over a storage of 24 bytes. */
static const struct spec plain = {.numel = 6, .ndim = 2, .shape = {2, 3}, .stride = {3, 1}};

static inline void write_plain(bool deflated)
{
    struct buf pickle = {.nbytes = 0};
    put_tensor(&pickle, &plain);
    PUT(&pickle, ".");
    write_file(&pickle, 24, deflated);
}

static inline size_t open_files(void)
{
    size_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

/* check_run() with a file at `path`, which is removed; leaked descriptors are a failure, too. */
static inline int run_on_file(const char *suite_name, CU_TestInfo *tests)
{
    int fd = mkstemp(path);
    if (fd < 0)
        return 99;
    close(fd);
    size_t before = open_files();
    int rc = check_run(suite_name, tests);
    size_t after = open_files();
    unlink(path);
    if (after != before) {
        (void)fprintf(stderr, "descriptors leaked: %zu before, %zu after\n", before, after);
        return 1;
    }
    return rc;
}

#endif
