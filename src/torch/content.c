/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random access to a compressed file by keeping what is asked for in practice. A zip says only at
 * its end where its entries are; without what is kept, each look at an entry's header would decode
 * the file again.
 */
#include "torch/content.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "torch/zst.h"

enum {
    HEAD_NBYTES = 1024 * 1024,
    TAIL_NBYTES = 1024 * 1024, /* in two halves, so that at least one half is there */
    BLOCK_NBYTES = 64 * 1024,
    HEADER_NBYTES = 512, /* kept of each local header: name and extra fields are shorter */
    MAX_HEADERS = 2048,
    MAX_REWINDS = 64,
};

/* A range of the decoded bytes that is kept. */
struct range {
    uint64_t first;
    size_t n;
    uint8_t *bytes;
};

struct uz_content {
    char *path;
    int fd;
    uint64_t nbytes;
    struct uz_zst *zst; /* NULL: not compressed */
    struct range head, tail[2];
    struct range *headers; /* ascending */
    size_t n_headers, cap_headers;
    uint8_t *header_bytes;
    unsigned n_rewinds;
};

/* ---- The first pass ---- */

static void extend(struct range *range, size_t room, const uint8_t *block, size_t n)
{
    size_t take = n < room - range->n ? n : room - range->n;
    memcpy(range->bytes + range->n, block, take);
    range->n += take;
}

/* Appends to the younger half of the tail; a full one becomes the older. */
static void keep_tail(struct uz_content *c, uint64_t pos, const uint8_t *block, size_t n)
{
    if (c->tail[1].n + n > TAIL_NBYTES / 2) {
        struct range oldest = c->tail[0];
        c->tail[0] = c->tail[1];
        c->tail[1] = oldest;
        c->tail[1].first = pos;
        c->tail[1].n = 0;
    }
    extend(&c->tail[1], TAIL_NBYTES / 2, block, n);
}

/* Begins a range at each signature in the block, which may have begun in the block before. */
static int find_headers(struct uz_content *c, uint64_t pos, const uint8_t *block, size_t n,
                        uint32_t *last_bytes, struct uz_error *err)
{
    static const uint8_t signature[] = {'P', 'K', 3, 4};
    for (size_t i = 0; i < n; i++) {
        *last_bytes = *last_bytes << 8 | block[i];
        if (*last_bytes != 0x504b0304 || c->n_headers == MAX_HEADERS)
            continue;
        struct range *range;
        UZ_TRY(UZ_APPEND(c->headers, c->n_headers, c->cap_headers, &range, err));
        range->first = pos + i + 1 - sizeof signature;
        range->bytes = c->header_bytes + (c->n_headers - 1) * HEADER_NBYTES;
        memcpy(range->bytes, signature, sizeof signature);
        range->n = sizeof signature;
    }
    return UZ_OK;
}

/* Adds the block's bytes to the ranges that reach into it: only the last ones can. */
static void fill_headers(struct uz_content *c, uint64_t pos, const uint8_t *block, size_t n)
{
    for (size_t h = c->n_headers; h-- > 0;) {
        struct range *range = &c->headers[h];
        uint64_t next = range->first + range->n;
        if (range->n == HEADER_NBYTES)
            break;
        if (next >= pos && next < pos + n)
            extend(range, HEADER_NBYTES, block + (next - pos), n - (size_t)(next - pos));
    }
}

static int survey(struct uz_content *c, uint8_t *block, struct uz_error *err)
{
    uint32_t last_bytes = 0;
    for (size_t n = BLOCK_NBYTES; n == BLOCK_NBYTES; c->nbytes += n) {
        UZ_TRY(uz_zst_read(c->zst, block, BLOCK_NBYTES, &n, err));
        extend(&c->head, HEAD_NBYTES, block, n);
        keep_tail(c, c->nbytes, block, n);
        UZ_TRY(find_headers(c, c->nbytes, block, n, &last_bytes, err));
        fill_headers(c, c->nbytes, block, n);
    }
    return UZ_OK;
}

static int open_packed(struct uz_content *c, struct uz_error *err)
{
    uint8_t *block;
    UZ_TRY(uz_zst_open(&c->zst, c->fd, c->path, err));
    UZ_TRY(uz_alloc(&c->head.bytes, HEAD_NBYTES, 1, err));
    for (size_t i = 0; i < 2; i++)
        UZ_TRY(uz_alloc(&c->tail[i].bytes, TAIL_NBYTES / 2, 1, err));
    UZ_TRY(uz_alloc(&c->header_bytes, MAX_HEADERS, HEADER_NBYTES, err));
    UZ_TRY(uz_alloc(&block, BLOCK_NBYTES, 1, err));
    c->nbytes = 0;
    int rc = survey(c, block, err);
    free(block);
    return rc;
}

static int open_all(struct uz_content *c, const char *path, struct uz_error *err)
{
    uint8_t head[4];
    c->path = strdup(path);
    if (!c->path)
        return uz_fail_nomem(err, strlen(path) + 1);
    UZ_TRY(uz_open_read(path, &c->fd, &c->nbytes, err));
    if (c->nbytes < sizeof head)
        return UZ_OK;
    UZ_TRY(uz_pread_all(c->fd, head, sizeof head, 0, path, err));
    return uz_zst_is_magic(head, sizeof head) ? open_packed(c, err) : UZ_OK;
}

int uz_content_open(struct uz_content **out, const char *path, struct uz_error *err)
{
    struct uz_content *c;
    UZ_TRY(uz_alloc(&c, 1, sizeof *c, err));
    c->fd = -1;
    int rc = open_all(c, path, err);
    if (rc < 0) {
        uz_content_close(c);
        return rc;
    }
    *out = c;
    return UZ_OK;
}

void uz_content_close(struct uz_content *c)
{
    if (!c)
        return;
    uz_zst_close(c->zst);
    if (c->fd >= 0)
        close(c->fd);
    free(c->head.bytes);
    free(c->tail[0].bytes);
    free(c->tail[1].bytes);
    free(c->header_bytes);
    free(c->headers);
    free(c->path);
    free(c);
}

const char *uz_content_path(const struct uz_content *c)
{
    return c->path;
}

uint64_t uz_content_nbytes(const struct uz_content *c)
{
    return c->nbytes;
}

bool uz_content_is_packed(const struct uz_content *c)
{
    return c->zst != NULL;
}

/* ---- Reading ---- */

/* Copies what the range has from `offset` on; gives the number of bytes. */
static size_t copy_from(const struct range *range, uint8_t *buf, size_t nbytes, uint64_t offset)
{
    if (offset < range->first || offset - range->first >= range->n)
        return 0;
    size_t at = (size_t)(offset - range->first);
    size_t n = nbytes < range->n - at ? nbytes : range->n - at;
    memcpy(buf, range->bytes + at, n);
    return n;
}

/* The last local header that begins at or before `offset`. */
static size_t copy_from_headers(const struct uz_content *c, uint8_t *buf, size_t nbytes,
                                uint64_t offset)
{
    size_t low = 0, high = c->n_headers;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (c->headers[mid].first <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low ? copy_from(&c->headers[low - 1], buf, nbytes, offset) : 0;
}

static size_t copy_kept(const struct uz_content *c, uint8_t *buf, size_t nbytes, uint64_t offset)
{
    size_t n = copy_from(&c->head, buf, nbytes, offset);
    for (size_t i = 0; n == 0 && i < 2; i++)
        n = copy_from(&c->tail[i], buf, nbytes, offset);
    return n ? n : copy_from_headers(c, buf, nbytes, offset);
}

static int fail_changed(const struct uz_content *c, struct uz_error *err)
{
    return uz_fail_at(err, UZ_CORRUPT, c->path, UZ_NO_OFFSET, "it changed while it was read");
}

/* Decodes as far as `offset`. */
static int go_to(struct uz_content *c, uint64_t offset, struct uz_error *err)
{
    uint8_t waste[16384];
    if (uz_zst_pos(c->zst) > offset) {
        if (++c->n_rewinds > MAX_REWINDS)
            return uz_fail_at(err, UZ_LIMIT, c->path, UZ_NO_OFFSET,
                              "its parts lie in an order for which it would have to be "
                              "decompressed more than %d times; decompress it first: zstd -d",
                              MAX_REWINDS);
        uz_zst_rewind(c->zst);
    }
    while (uz_zst_pos(c->zst) < offset) {
        uint64_t left = offset - uz_zst_pos(c->zst);
        size_t want = left < sizeof waste ? (size_t)left : sizeof waste, n;
        UZ_TRY(uz_zst_read(c->zst, waste, want, &n, err));
        if (n < want)
            return fail_changed(c, err);
    }
    return UZ_OK;
}

int uz_content_read(struct uz_content *c, void *buf, size_t nbytes, uint64_t offset,
                    struct uz_error *err)
{
    uint8_t *bytes = buf;
    if (!c->zst)
        return uz_pread_all(c->fd, buf, nbytes, offset, c->path, err);
    if (offset > c->nbytes || nbytes > c->nbytes - offset)
        return uz_fail_at(err, UZ_CORRUPT, c->path, UZ_NO_OFFSET,
                          "ends after %llu decompressed bytes, %llu more are needed",
                          (unsigned long long)c->nbytes,
                          (unsigned long long)(offset + nbytes - c->nbytes));
    for (size_t n; nbytes > 0; bytes += n, offset += n, nbytes -= n) {
        n = copy_kept(c, bytes, nbytes, offset);
        if (n > 0)
            continue;
        UZ_TRY(go_to(c, offset, err));
        UZ_TRY(uz_zst_read(c->zst, bytes, nbytes, &n, err));
        if (n < nbytes)
            return fail_changed(c, err);
    }
    return UZ_OK;
}

int uz_content_read_some(struct uz_content *c, void *buf, size_t nbytes, uint64_t offset, size_t *n,
                         struct uz_error *err)
{
    uint64_t left = offset < c->nbytes ? c->nbytes - offset : 0;
    *n = nbytes < left ? nbytes : (size_t)left;
    return uz_content_read(c, buf, *n, offset, err);
}
