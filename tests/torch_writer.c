/* SPDX-License-Identifier: Apache-2.0 */
/* A pickle of protocol 2 and stored zip entries, with zip64 where torch.save has it. */
#include "torch_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    ALIGNMENT = 64,            /* of a storage in its file */
    FILL_NBYTES = 1024 * 1024, /* made and written at a time */
};

#define ZIP_MAX32 UINT64_C(0xffffffff)

void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)fputs("make_sparse: ", stderr);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void *grow(void *old, size_t nbytes)
{
    void *p = realloc(old, nbytes);

    if (p == NULL)
        die("no memory for %zu bytes", nbytes);
    return p;
}

static void put(struct bytes *b, const void *data, size_t nbytes)
{
    if (b->cap - b->n < nbytes) {
        b->cap = 2 * (b->cap + nbytes);
        b->data = grow(b->data, b->cap);
    }
    memcpy(b->data + b->n, data, nbytes);
    b->n += nbytes;
}

/* The low n_bytes bytes of a number, little-endian. */
static void put_le(struct bytes *b, uint64_t number, unsigned n_bytes)
{
    uint8_t raw[8];

    for (unsigned i = 0; i < n_bytes; i++)
        raw[i] = (uint8_t)(number >> (8 * i));
    put(b, raw, n_bytes);
}

void pickle_free(struct pickle *p)
{
    for (size_t i = 0; i < p->n_storages; i++)
        free(p->storages[i].cookie);
    free(p->b.data);
    free(p->storages);
    memset(p, 0, sizeof *p);
}

static void op(struct pickle *p, char opcode)
{
    put(&p->b, &opcode, 1);
}

void pk_ops(struct pickle *p, const char *opcodes)
{
    put(&p->b, opcodes, strlen(opcodes));
}

static void memo_op(struct pickle *p, const char *short_long, uint32_t number)
{
    op(p, short_long[number < 256 ? 0 : 1]);
    put_le(&p->b, number, number < 256 ? 1 : 4);
}

static void memoize(struct pickle *p)
{
    memo_op(p, "qr", p->n_memo++);
}

/* True if the constant was written before: then it is fetched. */
static bool recall(struct pickle *p, const char *word)
{
    for (size_t i = 0; i < p->n_words; i++) {
        if (strcmp(p->words[i], word) == 0) {
            memo_op(p, "hj", p->word_memo[i]);
            return true;
        }
    }
    return false;
}

static void remember(struct pickle *p, const char *word)
{
    if (p->n_words == MAX_WORDS)
        die("more than %d constants in a pickle", (int)MAX_WORDS);
    p->words[p->n_words] = word;
    p->word_memo[p->n_words++] = p->n_memo;
    memoize(p);
}

void pk_text(struct pickle *p, const char *s)
{
    op(p, 'X');
    put_le(&p->b, strlen(s), 4);
    pk_ops(p, s);
    memoize(p);
}

void pk_key(struct pickle *p, const char *s)
{
    if (recall(p, s))
        return;
    op(p, 'X');
    put_le(&p->b, strlen(s), 4);
    pk_ops(p, s);
    remember(p, s);
}

void pk_global(struct pickle *p, const char *module_and_name)
{
    if (recall(p, module_and_name))
        return;
    op(p, 'c');
    pk_ops(p, module_and_name);
    remember(p, module_and_name);
}

void pk_integer(struct pickle *p, uint64_t value)
{
    if (value < 256) {
        op(p, 'K');
        put_le(&p->b, value, 1);
    } else if (value < 65536) {
        op(p, 'M');
        put_le(&p->b, value, 2);
    } else if (value <= INT32_MAX) {
        op(p, 'J');
        put_le(&p->b, value, 4);
    } else { /* LONG1, two's complement: the last byte of a positive number has its sign bit clear
              */
        unsigned n = 1;
        while (n < 8 && value >> (8 * n - 1) != 0)
            n++;
        op(p, '\x8a');
        put_le(&p->b, n, 1);
        put_le(&p->b, value, n);
    }
}

void pk_real(struct pickle *p, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    bits = __builtin_bswap64(bits);
    op(p, 'G');
    put_le(&p->b, bits, 8);
}

void pk_key_int(struct pickle *p, const char *name, uint64_t value)
{
    pk_key(p, name);
    pk_integer(p, value);
}

void pk_key_real(struct pickle *p, const char *name, double value)
{
    pk_key(p, name);
    pk_real(p, value);
}

void pk_key_ops(struct pickle *p, const char *name, const char *opcodes)
{
    pk_key(p, name);
    pk_ops(p, opcodes);
}

void pk_made(struct pickle *p, const char *opcodes)
{
    pk_ops(p, opcodes);
    memoize(p);
}

void pk_ordered_dict(struct pickle *p)
{
    pk_global(p, "collections\nOrderedDict\n");
    pk_made(p, ")R");
}

void pk_tuple_of(struct pickle *p, unsigned ndim, const uint64_t *numbers)
{
    for (unsigned i = 0; i < ndim; i++)
        pk_integer(p, numbers[i]);
    if (ndim == 0) {
        op(p, ')');
        return;
    }
    op(p, ndim == 1 ? '\x85' : '\x86'); /* no tensor here has more than two dimensions */
    memoize(p);
}

size_t pk_new_storage(struct pickle *p, uint64_t nbytes, float value)
{
    if (p->n_storages == p->cap_storages) {
        p->cap_storages = 2 * p->cap_storages + 16;
        p->storages = grow(p->storages, p->cap_storages * sizeof *p->storages);
    }
    p->storages[p->n_storages] = (struct storage){.nbytes = nbytes, .value = value};
    return p->n_storages++;
}

void pk_fill_storage(struct pickle *p, size_t storage, fill_fn fill, void *cookie)
{
    p->storages[storage].fill = fill;
    p->storages[storage].cookie = cookie;
}

void pk_tensor_args(struct pickle *p, const char *class, size_t storage, uint64_t storage_numel,
                    uint64_t first, unsigned ndim, const uint64_t *shape)
{
    char number[24];
    uint64_t stride[2] = {ndim == 2 ? shape[1] : 1, 1};

    pk_ops(p, "((");
    pk_key(p, "storage");
    pk_global(p, class);
    (void)snprintf(number, sizeof number, "%zu", storage);
    pk_text(p, number);
    pk_key(p, "cpu");
    pk_integer(p, storage_numel);
    pk_made(p, "t");
    pk_ops(p, "Q");
    pk_integer(p, first);
    pk_tuple_of(p, ndim, shape);
    pk_tuple_of(p, ndim, stride);
    pk_ops(p, "\x89");
    pk_ordered_dict(p);
    pk_made(p, "t");
}

void pk_tensor(struct pickle *p, const char *class, size_t storage, uint64_t storage_numel,
               uint64_t first, unsigned ndim, const uint64_t *shape)
{
    pk_global(p, REBUILD_TENSOR);
    pk_tensor_args(p, class, storage, storage_numel, first, ndim, shape);
    pk_made(p, "R");
}

struct zip {
    const char *path;
    int fd;
    const char *root;
    struct bytes pending; /* bytes that belong at `flushed` */
    uint64_t flushed;
    struct bytes directory;
    uint64_t n_entries;
};

static uint64_t zip_pos(const struct zip *z)
{
    return z->flushed + z->pending.n;
}

static void zip_flush(struct zip *z)
{
    size_t done = 0;

    while (done < z->pending.n) {
        ssize_t n =
            pwrite(z->fd, z->pending.data + done, z->pending.n - done, (off_t)(z->flushed + done));
        if (n <= 0)
            die("%s: cannot be written: %s", z->path, strerror(errno));
        done += (size_t)n;
    }
    z->flushed += done;
    z->pending.n = 0;
}

/* The zip64 field with what does not fit 32 bits. */
static void zip64_extra(struct bytes *b, uint64_t nbytes, uint64_t offset)
{
    uint64_t n = (nbytes >= ZIP_MAX32 ? 16U : 0U) + (offset >= ZIP_MAX32 ? 8U : 0U);

    if (n == 0)
        return;
    put_le(b, 1, 2);
    put_le(b, n, 2);
    if (nbytes >= ZIP_MAX32) {
        put_le(b, nbytes, 8);
        put_le(b, nbytes, 8);
    }
    if (offset >= ZIP_MAX32)
        put_le(b, offset, 8);
}

static uint64_t low32(uint64_t number)
{
    return number < ZIP_MAX32 ? number : ZIP_MAX32;
}

static void zip_directory_record(struct zip *z, const char *name, uint64_t nbytes, uint32_t crc,
                                 uint64_t offset)
{
    struct bytes *d = &z->directory, extra = {0};

    zip64_extra(&extra, nbytes, offset);
    put(d, "PK\1\2\0\0\0\0", 8);
    put_le(d, nbytes > 0 ? 0x808 : 0x800, 2);
    put_le(d, 0, 6); /* method, time, date */
    put_le(d, crc, 4);
    put_le(d, low32(nbytes), 4);
    put_le(d, low32(nbytes), 4);
    put_le(d, strlen(name), 2);
    put_le(d, extra.n, 2);
    put_le(d, 0, 8); /* comment, disk, attributes */
    put_le(d, 0, 2);
    put_le(d, low32(offset), 4);
    put(d, name, strlen(name));
    if (extra.n > 0)
        put(d, extra.data, extra.n);
    free(extra.data);
}

static void zip_local_header(struct zip *z, const char *name, uint64_t nbytes, bool *zip64)
{
    struct bytes extra = {0};
    uint64_t offset = zip_pos(z), padding;

    zip64_extra(&extra, nbytes, offset);
    *zip64 = extra.n > 0;
    padding = (offset + 30 + strlen(name) + extra.n + 4) % ALIGNMENT;
    padding = padding > 0 ? ALIGNMENT - padding : 0;
    put(&extra, "FB", 2);
    put_le(&extra, padding, 2);
    for (uint64_t i = 0; i < padding; i++)
        put(&extra, "Z", 1);
    put(&z->pending, "PK\3\4\0\0", 6);
    put_le(&z->pending, nbytes > 0 ? 0x808 : 0x800, 2);
    put_le(&z->pending, 0, 8); /* method, time, date, CRC and sizes: the descriptor has them */
    put_le(&z->pending, 0, 8);
    put_le(&z->pending, 0, 2);
    put_le(&z->pending, strlen(name), 2);
    put_le(&z->pending, extra.n, 2);
    put(&z->pending, name, strlen(name));
    put(&z->pending, extra.data, extra.n);
    free(extra.data);
}

/* Makes and writes a storage; gives its CRC. */
static uint32_t zip_fill(struct zip *z, const struct storage *s)
{
    static unsigned char block[FILL_NBYTES];
    uint32_t crc = 0;

    for (uint64_t done = 0; done < s->nbytes;) {
        size_t n = s->nbytes - done < FILL_NBYTES ? (size_t)(s->nbytes - done) : FILL_NBYTES;
        s->fill(block, s->cookie, done, n);
        crc = libdeflate_crc32(crc, block, n);
        put(&z->pending, block, n);
        zip_flush(z);
        done += n;
    }
    return crc;
}

/* Adds ROOT/entry with the contents of a storage. A hole's CRC is left 0. */
static void zip_add_storage(struct zip *z, const char *entry, const struct storage *s)
{
    char name[256];
    bool zip64;
    uint64_t offset = zip_pos(z);
    uint32_t crc = 0;

    (void)snprintf(name, sizeof name, "%s/%s", z->root, entry);
    zip_local_header(z, name, s->nbytes, &zip64);
    if (s->fill != NULL) {
        crc = zip_fill(z, s);
    } else if (s->nbytes > 0) {
        zip_flush(z);
        z->flushed += s->nbytes;
    }
    if (s->nbytes > 0) {
        put(&z->pending, "PK\7\10", 4);
        put_le(&z->pending, crc, 4);
        put_le(&z->pending, s->nbytes, zip64 ? 8 : 4);
        put_le(&z->pending, s->nbytes, zip64 ? 8 : 4);
    }
    zip_directory_record(z, name, s->nbytes, crc, offset);
    z->n_entries++;
}

static void copy_bytes(void *data, const void *cookie, uint64_t first, size_t nbytes)
{
    memcpy(data, (const char *)cookie + first, nbytes);
}

static void zip_add(struct zip *z, const char *entry, void *data, uint64_t nbytes)
{
    zip_add_storage(z, entry,
                    &(struct storage){.nbytes = nbytes, .fill = copy_bytes, .cookie = data});
}

/* The directory and both kinds of end record. */
static void zip_finish(struct zip *z)
{
    struct bytes *b = &z->pending;
    uint64_t directory = zip_pos(z);

    put(b, z->directory.data, z->directory.n);
    uint64_t end = zip_pos(z);
    put(b, "PK\6\6", 4);
    put_le(b, 44, 8);
    put_le(b, 0x2d031e, 4); /* version made by, version needed */
    put_le(b, 0, 8);        /* disks */
    put_le(b, z->n_entries, 8);
    put_le(b, z->n_entries, 8);
    put_le(b, z->directory.n, 8);
    put_le(b, directory, 8);
    put(b, "PK\6\7", 4);
    put_le(b, 0, 4);
    put_le(b, end, 8);
    put_le(b, 1, 4);
    put(b, "PK\5\6", 4);
    put_le(b, 0, 4);
    put_le(b, z->n_entries < 0xffff ? z->n_entries : 0xffff, 2);
    put_le(b, z->n_entries < 0xffff ? z->n_entries : 0xffff, 2);
    put_le(b, low32(z->directory.n), 4);
    put_le(b, low32(directory), 4);
    put_le(b, 0, 2);
    zip_flush(z);
    if (close(z->fd) < 0)
        die("%s: cannot be closed: %s", z->path, strerror(errno));
    free(z->pending.data);
    free(z->directory.data);
}

void torch_save(const char *dir, const char *stem, const struct pickle *p)
{
    char path[4096], entry[32];
    struct zip z = {.path = path, .root = stem};

    (void)snprintf(path, sizeof path, "%s/%s.pt", dir, stem);
    z.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (z.fd < 0)
        die("%s: cannot be made: %s", path, strerror(errno));
    zip_add(&z, "data.pkl", p->b.data, p->b.n);
    zip_add(&z, ".format_version", (char[]){"1"}, 1);
    zip_add(&z, ".storage_alignment", (char[]){"64"}, 2);
    zip_add(&z, "byteorder", (char[]){"little"}, 6);
    for (size_t i = 0; i < p->n_storages; i++) {
        struct storage *s = &p->storages[i];
        (void)snprintf(entry, sizeof entry, "data/%zu", i);
        if (s->nbytes == sizeof(s->value) && s->fill == NULL)
            zip_add(&z, entry, &s->value, s->nbytes);
        else
            zip_add_storage(&z, entry, s);
    }
    zip_add(&z, "version", (char[]){"3\n"}, 2);
    zip_add(&z, ".data/serialization_id", (char[]){"0123456789012345678901234567890123456789"}, 40);
    zip_finish(&z);
}
