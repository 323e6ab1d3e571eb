/* SPDX-License-Identifier: Apache-2.0 */
/* libzstd decodes; this feeds it, and says what is wrong with a file that it refuses. */
#include "torch/zst.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zstd.h>
#include <zstd_errors.h>

#include "base/mem.h"

enum {
    INPUT_NBYTES = 128 * 1024,
    BLOCK_NBYTES = 128 * 1024, /* of a frame, at most */
    MIN_WINDOW_LOG = 23,       /* 8 MiB, which every decoder should take (RFC 8878, 3.1.1.1.2) */
    MAX_WINDOW_LOG = 27,
    MAX_HEADER_NBYTES = 18,
    MAX_SKIPPABLE = 64, /* frames that are looked behind */
};

struct uz_zst {
    int fd;
    const char *path;
    ZSTD_DCtx *context;
    uint64_t file_pos; /* where the next input is read */
    uint64_t pos;      /* decoded bytes given out */
    bool in_frame;     /* a frame has begun and not ended */
    int window_log;    /* of the largest window that is allowed */
    ZSTD_inBuffer input;
    uint8_t bytes[INPUT_NBYTES];
};

bool uz_zst_is_magic(const uint8_t *head, size_t nbytes)
{
    static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd}, skippable[] = {0x2a, 0x4d, 0x18};
    if (nbytes < 4)
        return false;
    return !memcmp(head, frame, sizeof frame) ||
           ((head[0] & 0xf0) == 0x50 && !memcmp(head + 1, skippable, sizeof skippable));
}

static bool is_skippable(const uint8_t *head)
{
    return (head[0] & 0xf0) == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18;
}

/* The header of the first frame with data; as many of its bytes as the file has. */
static int read_frame_header(const struct uz_zst *zst, uint8_t head[MAX_HEADER_NBYTES],
                             struct uz_error *err)
{
    uint64_t pos = 0;
    for (int i = 0; i < MAX_SKIPPABLE; i++) {
        ssize_t n;
        do
            n = pread(zst->fd, head, MAX_HEADER_NBYTES, (off_t)pos);
        while (n < 0 && errno == EINTR);
        if (n < 0)
            return uz_fail_errno(err, errno, zst->path, "cannot be read");
        memset(head + n, 0, MAX_HEADER_NBYTES - (size_t)n);
        if (!is_skippable(head))
            break;
        uint32_t size = 0;
        for (int k = 3; k >= 0; k--)
            size = size << 8 | head[4 + k];
        pos += 8 + (uint64_t)size;
    }
    return UZ_OK;
}

/* Bytes of a frame's window: its whole content if it is one segment (RFC 8878, 3.1.1.1). */
static uint64_t window_of(const uint8_t head[MAX_HEADER_NBYTES])
{
    if (head[4] & 0x20) {
        unsigned long long size = ZSTD_getFrameContentSize(head, MAX_HEADER_NBYTES);
        return size >= ZSTD_CONTENTSIZE_ERROR ? 0 : size;
    }
    uint64_t base = (uint64_t)1 << (10 + (head[5] >> 3));
    return base + base / 8 * (head[5] & 7);
}

/*
 * What a decoder takes must be known before it decodes: windows may be as large as that of the
 * first frame, or 8 MiB.
 */
static int bound_window(struct uz_zst *zst, struct uz_error *err)
{
    uint8_t head[MAX_HEADER_NBYTES];
    UZ_TRY(read_frame_header(zst, head, err));
    zst->window_log = MIN_WINDOW_LOG;
    while (zst->window_log < MAX_WINDOW_LOG && (uint64_t)1 << zst->window_log < window_of(head))
        zst->window_log++;
    if (ZSTD_isError(ZSTD_DCtx_setParameter(zst->context, ZSTD_d_windowLogMax, zst->window_log)))
        return uz_fail(err, UZ_UNSUPPORTED, "this libzstd does not bound its window");
    return UZ_OK;
}

static int set_up(struct uz_zst *zst, struct uz_error *err)
{
    zst->input.src = zst->bytes;
    zst->context = ZSTD_createDCtx();
    if (!zst->context)
        return uz_fail_nomem(err, ZSTD_DStreamInSize());
    return bound_window(zst, err);
}

int uz_zst_open(struct uz_zst **out, int fd, const char *path, struct uz_error *err)
{
    struct uz_zst *zst;
    UZ_TRY(uz_alloc(&zst, 1, sizeof *zst, err));
    zst->fd = fd;
    zst->path = path;
    int rc = set_up(zst, err);
    if (rc < 0) {
        uz_zst_close(zst);
        return rc;
    }
    *out = zst;
    return UZ_OK;
}

uint64_t uz_zst_memory(const struct uz_zst *zst)
{
    /* the window and a block behind it, a block of input, its tables */
    return ((uint64_t)1 << zst->window_log) + 4 * BLOCK_NBYTES + sizeof *zst;
}

void uz_zst_close(struct uz_zst *zst)
{
    if (!zst)
        return;
    ZSTD_freeDCtx(zst->context);
    free(zst);
}

void uz_zst_rewind(struct uz_zst *zst)
{
    ZSTD_DCtx_reset(zst->context, ZSTD_reset_session_only);
    zst->file_pos = zst->pos = 0;
    zst->input.pos = zst->input.size = 0;
    zst->in_frame = false;
}

uint64_t uz_zst_pos(const struct uz_zst *zst)
{
    return zst->pos;
}

/* Reads more of the file; the input stays empty at its end. */
static int fill(struct uz_zst *zst, struct uz_error *err)
{
    ssize_t n;
    do
        n = pread(zst->fd, zst->bytes, sizeof zst->bytes, (off_t)zst->file_pos);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return uz_fail_errno(err, errno, zst->path, "cannot be read");
    zst->file_pos += (uint64_t)n;
    zst->input.pos = 0;
    zst->input.size = (size_t)n;
    return UZ_OK;
}

static int fail_window(const struct uz_zst *zst, uint64_t offset, struct uz_error *err)
{
    if (zst->window_log < MAX_WINDOW_LOG)
        return uz_fail_at(err, UZ_UNSUPPORTED, zst->path, offset,
                          "a frame with a larger zstd window than the first has; decompress it "
                          "first: zstd -d --long=31");
    return uz_fail_at(err, UZ_UNSUPPORTED, zst->path, offset,
                      "compressed with a zstd window of more than 128 MiB; decompress it first: "
                      "zstd -d --long=31");
}

static int fail_decoding(const struct uz_zst *zst, size_t code, struct uz_error *err)
{
    uint64_t offset = zst->file_pos - zst->input.size + zst->input.pos;
    switch (ZSTD_getErrorCode(code)) {
    case ZSTD_error_memory_allocation:
        return uz_fail_nomem(err, 0);
    case ZSTD_error_frameParameter_windowTooLarge:
        return fail_window(zst, offset, err);
    case ZSTD_error_dictionary_wrong:
        return uz_fail_at(err, UZ_UNSUPPORTED, zst->path, offset,
                          "compressed with a zstd dictionary, which is not there; decompress it "
                          "first: zstd -d -D DICTIONARY");
    case ZSTD_error_prefix_unknown:
        return uz_fail_at(err, UZ_CORRUPT, zst->path, offset,
                          "something that is no zstd frame follows the compressed data");
    case ZSTD_error_checksum_wrong:
        return uz_fail_at(err, UZ_CORRUPT, zst->path, offset,
                          "the decompressed data does not match its checksum: the file was "
                          "damaged");
    default:
        return uz_fail_at(err, UZ_CORRUPT, zst->path, offset, "damaged zstd data: %s",
                          ZSTD_getErrorName(code));
    }
}

int uz_zst_read(struct uz_zst *zst, void *buf, size_t nbytes, size_t *n, struct uz_error *err)
{
    ZSTD_outBuffer output = {.dst = buf, .size = nbytes};
    while (output.pos < nbytes) {
        size_t before = output.pos;
        if (zst->input.pos == zst->input.size)
            UZ_TRY(fill(zst, err));
        bool at_end = zst->input.size == 0;
        if (at_end && !zst->in_frame)
            break;
        size_t left = ZSTD_decompressStream(zst->context, &output, &zst->input);
        if (ZSTD_isError(left))
            return fail_decoding(zst, left, err);
        zst->in_frame = left != 0;
        /* what the decoder still holds may come out without input; then there must be progress */
        if (at_end && zst->in_frame && output.pos == before)
            return uz_fail_at(err, UZ_CORRUPT, zst->path, zst->file_pos,
                              "the compressed data ends in the middle of a zstd frame: the file "
                              "was cut short, or is still being written");
    }
    zst->pos += output.pos;
    *n = output.pos;
    return UZ_OK;
}
