/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A compressed file is decoded as far as it is read. Its beginning is kept, and (once its size was
 * asked for, which takes a pass) what a zip's directory refers to: without that, each look at an
 * entry's header would decode the file again.
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
    struct uz_zst *zst; /* NULL: not compressed */
    bool has_size;      /* of a compressed file: it was gone through */
    uint64_t nbytes;
    struct range head, tail[2];
    struct range *headers; /* ascending */
    size_t n_headers, cap_headers;
    uint8_t *header_bytes;
    unsigned n_rewinds;
};

/* ---- Decoding ---- */

static void extend(struct range *range, size_t room, const uint8_t *block, size_t n)
{
    size_t take = n < room - range->n ? n : room - range->n;
    memcpy(range->bytes + range->n, block, take);
    range->n += take;
}

/* Decodes the next bytes; fewer are the end. The beginning is kept. */
static int decode(struct uz_content *c, uint8_t *bytes, size_t nbytes, size_t *n,
                  struct uz_error *err)
{
    uint64_t pos = uz_zst_pos(c->zst);
    UZ_TRY(uz_zst_read(c->zst, bytes, nbytes, n, err));
    if (pos <= c->head.n && c->head.n - pos <= *n)
        extend(&c->head, HEAD_NBYTES, bytes + (c->head.n - pos), *n - (size_t)(c->head.n - pos));
    return UZ_OK;
}

/* ---- A pass for the sake of what a directory refers to ---- */

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

static int go_through(struct uz_content *c, uint8_t *block, struct uz_error *err)
{
    uint32_t last_bytes = 0;
    for (size_t n = BLOCK_NBYTES; n == BLOCK_NBYTES; c->nbytes += n) {
        UZ_TRY(decode(c, block, BLOCK_NBYTES, &n, err));
        keep_tail(c, c->nbytes, block, n);
        UZ_TRY(find_headers(c, c->nbytes, block, n, &last_bytes, err));
        fill_headers(c, c->nbytes, block, n);
    }
    return UZ_OK;
}

static int survey(struct uz_content *c, struct uz_error *err)
{
    uint8_t *block;
    for (size_t i = 0; i < 2; i++) {
        if (!c->tail[i].bytes)
            UZ_TRY(uz_alloc(&c->tail[i].bytes, TAIL_NBYTES / 2, 1, err));
        c->tail[i].n = 0;
    }
    if (!c->header_bytes)
        UZ_TRY(uz_alloc(&c->header_bytes, MAX_HEADERS, HEADER_NBYTES, err));
    c->n_headers = 0;
    c->nbytes = 0;
    UZ_TRY(uz_alloc(&block, BLOCK_NBYTES, 1, err));
    uz_zst_rewind(c->zst);
    int rc = go_through(c, block, err);
    free(block);
    c->has_size = rc == UZ_OK;
    return rc;
}

int uz_content_size(struct uz_content *c, uint64_t *nbytes, struct uz_error *err)
{
    if (c->zst && !c->has_size)
        UZ_TRY(survey(c, err));
    *nbytes = c->nbytes;
    return UZ_OK;
}

/* ---- Opening ---- */

static int open_packed(struct uz_content *c, struct uz_error *err)
{
    c->nbytes = 0;
    UZ_TRY(uz_zst_open(&c->zst, c->fd, c->path, err));
    return uz_alloc(&c->head.bytes, HEAD_NBYTES, 1, err);
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

bool uz_content_is_packed(const struct uz_content *c)
{
    return c->zst != NULL;
}

uint64_t uz_content_memory(const struct uz_content *c)
{
    return c->zst ? uz_zst_memory(c->zst) + HEAD_NBYTES + TAIL_NBYTES +
                        (uint64_t)MAX_HEADERS * HEADER_NBYTES
                  : 0;
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

/* Decodes as far as `offset`; *there is false if the content ends before. */
static int go_to(struct uz_content *c, uint64_t offset, bool *there, struct uz_error *err)
{
    uint8_t waste[16384];
    *there = true;
    if (uz_zst_pos(c->zst) > offset) {
        if (++c->n_rewinds > MAX_REWINDS)
            return uz_fail_at(err, UZ_LIMIT, c->path, UZ_NO_OFFSET,
                              "its parts lie in an order for which it would have to be "
                              "decompressed more than %d times; decompress it first: zstd -d",
                              MAX_REWINDS);
        uz_zst_rewind(c->zst);
    }
    while (*there && uz_zst_pos(c->zst) < offset) {
        uint64_t left = offset - uz_zst_pos(c->zst);
        size_t want = left < sizeof waste ? (size_t)left : sizeof waste, n;
        UZ_TRY(decode(c, waste, want, &n, err));
        *there = n == want;
    }
    return UZ_OK;
}

/* Reads as many of nbytes as there are, *done. */
static int read_packed(struct uz_content *c, uint8_t *bytes, size_t nbytes, uint64_t offset,
                       size_t *done, struct uz_error *err)
{
    *done = 0;
    if (c->has_size && offset >= c->nbytes)
        return UZ_OK;
    for (size_t n; *done < nbytes; *done += n) {
        bool there;
        n = copy_kept(c, bytes + *done, nbytes - *done, offset + *done);
        if (n > 0)
            continue;
        UZ_TRY(go_to(c, offset + *done, &there, err));
        if (!there)
            break;
        UZ_TRY(decode(c, bytes + *done, nbytes - *done, &n, err));
        if (n < nbytes - *done) {
            *done += n;
            break;
        }
    }
    return UZ_OK;
}

int uz_content_read(struct uz_content *c, void *buf, size_t nbytes, uint64_t offset,
                    struct uz_error *err)
{
    size_t n;
    if (!c->zst)
        return uz_pread_all(c->fd, buf, nbytes, offset, c->path, err);
    UZ_TRY(read_packed(c, buf, nbytes, offset, &n, err));
    if (n == nbytes)
        return UZ_OK;
    uint64_t all = c->has_size ? c->nbytes : uz_zst_pos(c->zst);
    return uz_fail_at(err, UZ_CORRUPT, c->path, UZ_NO_OFFSET,
                      "ends after %llu decompressed bytes, %llu more are needed",
                      (unsigned long long)all, (unsigned long long)(offset + nbytes - all));
}

int uz_content_read_some(struct uz_content *c, void *buf, size_t nbytes, uint64_t offset, size_t *n,
                         struct uz_error *err)
{
    if (c->zst)
        return read_packed(c, buf, nbytes, offset, n, err);
    uint64_t left = offset < c->nbytes ? c->nbytes - offset : 0;
    *n = nbytes < left ? nbytes : (size_t)left;
    return uz_content_read(c, buf, *n, offset, err);
}

int uz_content_finish(struct uz_content *c, uint64_t offset, struct uz_error *err)
{
    uint8_t *block;
    UZ_TRY(uz_alloc(&block, BLOCK_NBYTES, 1, err));
    int rc = UZ_OK;
    for (size_t n = BLOCK_NBYTES; rc == UZ_OK && n == BLOCK_NBYTES; offset += n)
        rc = uz_content_read_some(c, block, BLOCK_NBYTES, offset, &n, err);
    free(block);
    return rc;
}
