/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the header, a dictionary as Python prints it. */
#include "input/npy.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

enum { PREFIX_NBYTES = 12, MAX_HEADER_NBYTES = 64 * 1024, MAX_NDIM = 64 };

static const char magic[] = "\x93NUMPY";

enum { MAGIC_NBYTES = sizeof magic - 1 };

struct header {
    const char *path;
    char *text; /* terminated */
    const char *at;
    uint64_t data; /* byte of the file where the elements begin */
    uint64_t file_nbytes;
    bool has_descr, has_order, has_shape;
    enum uz_dtype dtype;
    bool big_endian;
    unsigned ndim;
    uint64_t shape[MAX_NDIM];
};

static int corrupt(const struct header *header, const char *what, struct uz_error *err)
{
    return uz_fail_at(err, UZ_CORRUPT, header->path, UZ_NO_OFFSET, "broken .npy header: %s", what);
}

static void skip_blanks(struct header *header)
{
    header->at += strspn(header->at, " \n\t");
}

/* True, and behind it, if the text goes on with `token`. */
static bool take(struct header *header, const char *token)
{
    skip_blanks(header);
    size_t n = strlen(token);
    if (strncmp(header->at, token, n))
        return false;
    header->at += n;
    return true;
}

/* A string between quotes of either kind, without escapes. */
static bool take_string(struct header *header, char *buf, size_t size)
{
    skip_blanks(header);
    char quote = *header->at;
    if (quote != '\'' && quote != '"')
        return false;
    const char *end = strchr(header->at + 1, quote);
    if (!end || (size_t)(end - header->at - 1) >= size)
        return false;
    size_t n = (size_t)(end - header->at - 1);
    memcpy(buf, header->at + 1, n);
    buf[n] = '\0';
    header->at = end + 1;
    return true;
}

static int read_descr(struct header *header, struct uz_error *err)
{
    char descr[64], shown[128];
    if (!take_string(header, descr, sizeof descr))
        return uz_fail_at(err, UZ_UNSUPPORTED, header->path, UZ_NO_OFFSET,
                          "an array of records is not a tensor");
    header->big_endian = descr[0] == '>';
    for (enum uz_dtype dtype = 1; dtype < UZ_DTYPE_COUNT; dtype++) {
        const char *code = uz_dtype_npy_code(dtype);
        if (code && descr[0] && strchr("<>|=", descr[0]) && !strcmp(descr + 1, code)) {
            header->dtype = dtype;
            header->has_descr = true;
            return UZ_OK;
        }
    }
    return uz_fail_at(err, UZ_UNSUPPORTED, header->path, UZ_NO_OFFSET,
                      "its dtype '%s' is none that tensors have",
                      uz_printable(shown, sizeof shown, descr, strlen(descr)));
}

static int read_order(struct header *header, struct uz_error *err)
{
    if (take(header, "True"))
        return uz_fail_at(err, UZ_UNSUPPORTED, header->path, UZ_NO_OFFSET,
                          "is in column-major order; save numpy.ascontiguousarray of it");
    if (!take(header, "False"))
        return corrupt(header, "fortran_order is neither True nor False", err);
    header->has_order = true;
    return UZ_OK;
}

static int read_shape(struct header *header, struct uz_error *err)
{
    if (!take(header, "("))
        return corrupt(header, "the shape is no tuple", err);
    while (!take(header, ")")) {
        uint64_t size = 0;
        skip_blanks(header);
        if (*header->at < '0' || *header->at > '9' || header->ndim == MAX_NDIM)
            return corrupt(header, "the shape is no tuple of sizes", err);
        for (; *header->at >= '0' && *header->at <= '9'; header->at++)
            if (!uz_mul_u64(size, 10, &size) ||
                !uz_add_u64(size, (uint64_t)(*header->at - '0'), &size))
                return corrupt(header, "a size does not fit 64 bits", err);
        header->shape[header->ndim++] = size;
        if (!take(header, ",") && *header->at != ')')
            return corrupt(header, "the shape is no tuple of sizes", err);
    }
    header->has_shape = true;
    return UZ_OK;
}

static int read_pair(struct header *header, struct uz_error *err)
{
    char key[32];
    if (!take_string(header, key, sizeof key) || !take(header, ":"))
        return corrupt(header, "no key stands where one must", err);
    if (!strcmp(key, "descr") && !header->has_descr)
        return read_descr(header, err);
    if (!strcmp(key, "fortran_order") && !header->has_order)
        return read_order(header, err);
    if (!strcmp(key, "shape") && !header->has_shape)
        return read_shape(header, err);
    return corrupt(header, "a key that does not belong there, or twice", err);
}

static int read_dict(struct header *header, struct uz_error *err)
{
    if (!take(header, "{"))
        return corrupt(header, "it is no dictionary", err);
    while (!take(header, "}")) {
        UZ_TRY(read_pair(header, err));
        if (!take(header, ",") && *header->at != '}')
            return corrupt(header, "no comma behind a value", err);
    }
    skip_blanks(header);
    if (*header->at || !header->has_descr || !header->has_order || !header->has_shape)
        return corrupt(header, "a key is missing, or something follows", err);
    return UZ_OK;
}

static int read_text(struct header *header, int fd, struct uz_error *err)
{
    unsigned char p[PREFIX_NBYTES];
    UZ_TRY(uz_pread_all(fd, p, sizeof p, 0, header->path, err));
    if (memcmp(p, magic, MAGIC_NBYTES))
        return uz_fail_at(err, UZ_FORMAT, header->path, 0, "is not a .npy file");
    if (p[6] < 1 || p[6] > 2)
        return uz_fail_at(err, UZ_UNSUPPORTED, header->path, 6, "is a .npy file of version %u",
                          p[6]);
    uint64_t at = p[6] == 1 ? 10 : 12;
    uint64_t n = (uint64_t)p[8] | (uint64_t)p[9] << 8;
    if (p[6] == 2)
        n |= (uint64_t)p[10] << 16 | (uint64_t)p[11] << 24;
    if (n > MAX_HEADER_NBYTES)
        return uz_fail_at(err, UZ_LIMIT, header->path, 8, "its .npy header has %llu bytes",
                          (unsigned long long)n);
    UZ_TRY(uz_alloc(&header->text, n + 1, 1, err));
    UZ_TRY(uz_pread_all(fd, header->text, (size_t)n, at, header->path, err));
    if (strlen(header->text) != n)
        return corrupt(header, "it holds a NUL", err);
    header->at = header->text;
    header->data = at + n;
    return read_dict(header, err);
}

static int add_array(const struct header *header, const char *name, struct uz_model *model,
                     struct uz_error *err)
{
    struct uz_piece piece = {0};
    uint64_t nbytes;
    UZ_TRY(uz_shape_numel(header->ndim, header->shape, &piece.n_elems, err));
    if (!uz_mul_u64(piece.n_elems, uz_dtype_size(header->dtype), &nbytes) ||
        nbytes != header->file_nbytes - header->data)
        return corrupt(header, "the shape does not fit the file's size", err);
    struct uz_place place = {
        .big_endian = header->big_endian, .offset = header->data, .nbytes = nbytes};
    UZ_TRY(uz_model_add_file(model, header->path, &place.file, err));
    UZ_TRY(uz_model_add_place(model, &place, &piece.storage, err));
    UZ_TRY(uz_model_add_tensor(model, name, strlen(name), UZ_ROLE_PARAM, header->dtype,
                               header->ndim, header->shape, &piece.tensor, err));
    UZ_TRY(uz_model_add_piece(model, &piece, err));
    return uz_model_finish(model, err);
}

bool uz_is_npy(const char *path)
{
    char head[MAGIC_NBYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = pread(fd, head, sizeof head, 0);
    close(fd);
    return n == (ssize_t)sizeof head && !memcmp(head, magic, sizeof head);
}

int uz_npy_read(const char *path, const char *name, const struct uz_limits *limits,
                struct uz_model *model, struct uz_error *err)
{
    struct header header = {.path = path};
    int fd;
    UZ_TRY(uz_open_read(path, &fd, &header.file_nbytes, err));
    int rc = read_text(&header, fd, err);
    close(fd);
    if (rc == UZ_OK)
        rc = uz_model_init(model, limits, err);
    if (rc == UZ_OK) {
        rc = add_array(&header, name, model, err);
        if (rc < 0)
            uz_model_free(model);
    }
    free(header.text);
    return rc;
}
