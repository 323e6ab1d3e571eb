/* SPDX-License-Identifier: Apache-2.0 */
/* Files compressed whole with zstd, and the container before PyTorch 1.6, sound and damaged. */
#include "torch_maker.h"

#include <zstd.h>

#include "convert/memory.h"
#include "torch/stream.h"

enum { MAX_NBYTES = 1 << 24 };

/* ---- Making files ---- */

static const char magic[] = "\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.";
static const char protocol[] = "\x80\x02M\xe9\x03.";
static const char sys_info[] = "\x80\x02}X\x0d\0\0\0little_endian\x88s.";

/* The tensor of torch_maker.h with a view_metadata (a pickle fragment). */
static void put_old_tensor(struct buf *buf, const char *view_metadata, size_t nbytes)
{
    static const int64_t shape[] = {2, 3}, stride[] = {3, 1};
    PUT(buf, "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_text(buf, "storage");
    PUT(buf, "ctorch\nFloatStorage\n");
    put_text(buf, "b");
    put_text(buf, "cpu");
    put_int(buf, 8);
    put(buf, view_metadata, nbytes);
    PUT(buf, "tQ");
    put_int(buf, 0);
    put_ints(buf, shape, 2);
    put_ints(buf, stride, 2);
    PUT(buf, "\x89}tR");
}

/* Storage "a": 3 shorts; storage "b": 8 floats 0 to 7. The value is a pair of tensors. */
static void make_old(struct buf *buf, const char *view_metadata, size_t nbytes)
{
    static const struct spec first = {.class = "torch\nShortStorage\n",
                                      .key = "a",
                                      .numel = 3,
                                      .ndim = 1,
                                      .shape = {3},
                                      .stride = {1}};
    int64_t counts[] = {3, 8};
    int16_t shorts[] = {1, 2, 3};
    float floats[] = {0, 1, 2, 3, 4, 5, 6, 7};
    buf->nbytes = 0;
    PUT(buf, magic);
    PUT(buf, protocol);
    PUT(buf, sys_info);
    PUT(buf, "\x80\x02");
    put_tensor(buf, &first);
    put_old_tensor(buf, view_metadata, nbytes);
    PUT(buf, "\x86.");
    PUT(buf, "\x80\x02](");
    put_text(buf, "a");
    put_text(buf, "b");
    PUT(buf, "e.");
    put(buf, &counts[0], 8);
    put(buf, shorts, sizeof shorts);
    put(buf, &counts[1], 8);
    put(buf, floats, sizeof floats);
}

/* How a file is compressed. */
struct packing {
    size_t n_frames;
    bool checksum, size_known, skippable;
    int window_log, later_window_log; /* of the first frame, and of others; 0: zstd's choice */
};

static size_t compress_frame(const struct packing *how, int window_log, uint8_t *out,
                             const uint8_t *data, size_t n)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    ZSTD_outBuffer output = {.dst = out, .size = MAX_NBYTES};
    ZSTD_inBuffer input = {.src = data, .size = n};
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, how->checksum);
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, 1);
    if (window_log)
        ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
    if (how->size_known)
        ZSTD_CCtx_setPledgedSrcSize(context, n);
    else
        while (input.pos < input.size)
            ZSTD_compressStream2(context, &output, &input, ZSTD_e_continue);
    if (ZSTD_compressStream2(context, &output, &input, ZSTD_e_end) != 0)
        abort();
    ZSTD_freeCCtx(context);
    return output.pos;
}

static uint8_t *compress(const struct packing *how, const uint8_t *data, size_t n, size_t *nbytes)
{
    static const uint8_t skippable[] = {0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'P', 'K', 3};
    uint8_t *out = malloc(MAX_NBYTES);
    size_t used = 0;
    for (size_t i = 0; out && i < how->n_frames; i++) {
        size_t first = n * i / how->n_frames, end = n * (i + 1) / how->n_frames;
        if (how->skippable) {
            memcpy(out + used, skippable, sizeof skippable);
            used += sizeof skippable;
        }
        int log = i && how->later_window_log ? how->later_window_log : how->window_log;
        used += compress_frame(how, log, out + used, data + first, end - first);
    }
    *nbytes = used;
    return out;
}

/* ---- Reading them ---- */

struct found {
    struct uz_view view;
    uint8_t bytes[64];
    size_t n_storages;
};

/* Goes through a packed file and takes the storage of the view. */
static int read_stream(struct found *found, struct uz_error *err)
{
    struct uz_limits limits;
    struct uz_stream *stream;
    uz_limits_default(&limits);
    UZ_TRY(uz_stream_open(&stream, path, found->view.storage.packing, found->view.storage.entry,
                          &limits, err));
    int rc = UZ_OK;
    for (bool more = true; rc == UZ_OK;) {
        uint64_t entry = 0, nbytes = 0;
        rc = uz_stream_next(stream, &entry, &nbytes, &more, err);
        if (rc < 0 || !more)
            break;
        found->n_storages++;
        if (entry != found->view.storage.entry)
            continue;
        CHECK_EQ_U64(nbytes, found->view.storage.nbytes);
        rc = uz_stream_skip(stream, 4, err);
        if (rc == UZ_OK)
            rc = uz_stream_read(stream, found->bytes + 4, (size_t)nbytes - 4, err);
        CHECK(rc < 0 || uz_stream_read(stream, found->bytes, 1, err) == UZ_CORRUPT);
    }
    uz_stream_close(stream);
    return rc;
}

/* Resolves item `index` of the value (SIZE_MAX: the value) and reads its storage in both ways. */
static int find_tensor(size_t index, struct found *found, struct uz_error *err)
{
    struct uz_torch_file *file;
    *found = (struct found){.n_storages = 0};
    UZ_TRY(open_file(&file, err));
    const struct uz_node *node = uz_torch_root(file);
    if (index != SIZE_MAX)
        node = uz_node_list(node)->items[index];
    int rc = uz_torch_tensor(file, node, "w", &found->view, err);
    if (rc == UZ_OK)
        rc = uz_torch_read(file, &found->view.storage, 0, found->bytes,
                           (size_t)found->view.storage.nbytes, err);
    uz_torch_close(file);
    if (rc == UZ_OK && found->view.storage.packing) {
        uint8_t bytes[64];
        memcpy(bytes, found->bytes, sizeof bytes);
        memset(found->bytes + 4, 0, sizeof found->bytes - 4);
        UZ_TRY(read_stream(found, err));
        CHECK(memcmp(bytes, found->bytes, (size_t)found->view.storage.nbytes) == 0);
    }
    return rc;
}

static const struct packing packings[] = {
    {.n_frames = 1, .checksum = true, .size_known = true},
    {.n_frames = 1},
    {.n_frames = 3, .checksum = true},
    {.n_frames = 2, .checksum = true, .size_known = true, .skippable = true},
    {.n_frames = 7, .skippable = true},
};

static void test_zip_in_zstd(void)
{
    size_t n, nbytes;
    struct found found;
    struct uz_error err;
    for (size_t p = 0; p < sizeof packings / sizeof packings[0]; p++) {
        write_plain(false);
        uint8_t *plain_bytes = read_whole(&n),
                *packed = compress(&packings[p], plain_bytes, n, &nbytes);
        write_whole(packed, nbytes);
        if (CHECK_F(find_tensor(SIZE_MAX, &found, &err) == UZ_OK, "case %zu: %s", p, err.message)) {
            CHECK(found.view.storage.packing == UZ_PACKED_ZSTD);
            CHECK_EQ_U64(found.n_storages, 1);
            for (size_t i = 0; i < 24; i++)
                CHECK_EQ_U64(found.bytes[i], i);
        }
        free(packed);
        free(plain_bytes);
    }
}

/* Larger than what is kept: a storage of 5 MiB before the one that is wanted. */
static void test_large(void)
{
    struct buf pickle = {.nbytes = 0};
    struct spec spec = plain;
    struct found found;
    struct uz_error err;
    size_t n, nbytes, large = (size_t)5 << 20;
    uint8_t *zeros = calloc(large, 1), small[24];
    spec.key = "9";
    put_tensor(&pickle, &spec);
    PUT(&pickle, ".");
    memset(small, 7, sizeof small);
    memcpy(zeros + 3000000, "PK\3\4 is no header here", 20);
    struct entry entries[] = {{"r/data.pkl", pickle.data, pickle.nbytes},
                              {"r/data/0", zeros, large},
                              {"r/data/9", small, sizeof small},
                              {"r/data/10", zeros, large}};
    write_zip(entries, 4, false);
    uint8_t *plain_bytes = read_whole(&n),
            *packed = compress(&packings[2], plain_bytes, n, &nbytes);
    write_whole(packed, nbytes);
    if (CHECK_F(find_tensor(SIZE_MAX, &found, &err) == UZ_OK, "%s", err.message)) {
        CHECK_EQ_U64(found.n_storages, 1); /* no tensor refers to the others */
        CHECK(memcmp(found.bytes, small, sizeof small) == 0);
    }
    free(packed);
    free(plain_bytes);
    free(zeros);
}

/* Fills a storage with what does not compress. */
static void fill_noise(uint8_t *bytes, size_t n)
{
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525 + 1013904223;
        bytes[i] = (uint8_t)(state >> 24);
    }
}

/* An archive of 2 MiB of data in PyTorch's order, compressed; gives its bytes. */
static uint8_t *make_noise(size_t *nbytes)
{
    static uint8_t noise[2 << 20];
    struct buf pickle = {.nbytes = 0};
    struct spec spec = plain;
    uint8_t small[24] = {1, 2, 3};
    size_t n;
    spec.key = "9";
    fill_noise(noise, sizeof noise);
    put_tensor(&pickle, &spec);
    PUT(&pickle, ".");
    struct entry entries[] = {{"r/data.pkl", pickle.data, pickle.nbytes},
                              {"r/byteorder", "little", 6},
                              {"r/data/9", small, sizeof small},
                              {"r/data/10", noise, sizeof noise},
                              {"r/version", "3\n", 2}};
    write_zip(entries, 5, false);
    uint8_t *plain_bytes = read_whole(&n), *packed = compress(&packings[0], plain_bytes, n, nbytes);
    write_whole(packed, *nbytes);
    free(plain_bytes);
    return packed;
}

/* What is read of a file, by the process's own books. */
static uint64_t n_read(void)
{
    unsigned long long n = 0;
    FILE *io = fopen("/proc/self/io", "r");
    CHECK(io && fscanf(io, "rchar: %llu", &n) == 1);
    if (io)
        fclose(io);
    return n;
}

/* Opening a file reads its beginning, and going through its storages reads it once. */
static void test_one_pass(void)
{
    size_t nbytes;
    struct uz_error err;
    struct uz_torch_file *file;
    struct found found = {.n_storages = 0};
    uint8_t *packed = make_noise(&nbytes);
    CHECK(nbytes > 2 << 20);
    uint64_t before = n_read();
    if (CHECK_F(open_file(&file, &err) == UZ_OK, "%s", err.message)) {
        CHECK(uz_torch_tensor(file, uz_torch_root(file), "w", &found.view, &err) == UZ_OK);
        uz_torch_close(file);
        CHECK(n_read() - before < nbytes / 4);
        before = n_read();
        CHECK_F(read_stream(&found, &err) == UZ_OK, "%s", err.message);
        CHECK_EQ_U64(found.n_storages, 1);
        CHECK_EQ_U64(found.bytes[4], 0);
        CHECK(n_read() - before < nbytes + nbytes / 8);
    }
    /* the directory, which is at the end, is held against what was gone through */
    write_whole(packed, nbytes / 2);
    CHECK(open_file(&file, &err) == UZ_OK);
    uz_torch_close(file);
    CHECK(read_stream(&found, &err) == UZ_CORRUPT);
    free(packed);
}

/* Changes byte `at` of the archive before it is compressed: going through it must fail. */
static void test_directory_in_zstd(void)
{
    size_t n, nbytes;
    struct uz_error err;
    struct found found;
    write_plain(false);
    uint8_t *bytes = read_whole(&n);
    size_t first = 0, n_refused = 0;
    for (size_t i = 0; i + 4 < n && first == 0; i++)
        first = memcmp(bytes + i, "PK\1\2", 4) ? 0 : i;
    CHECK(first > 0);
    for (size_t at = first; at < n; at++) {
        bytes[at] ^= 0x10;
        uint8_t *packed = compress(&packings[0], bytes, n, &nbytes);
        write_whole(packed, nbytes);
        int rc = find_tensor(SIZE_MAX, &found, &err);
        n_refused += rc == UZ_CORRUPT;
        CHECK_F(rc == UZ_OK || rc == UZ_CORRUPT, "byte %zu: %d", at, rc);
        bytes[at] ^= 0x10;
        free(packed);
    }
    CHECK(n_refused > (n - first) / 2); /* times, versions and attributes may be anything */
    free(bytes);
}

/* A window of 128 MiB counts as such before anything is decoded; a later frame must not exceed it.
 */
static void test_window(void)
{
    size_t n, nbytes;
    struct uz_error err;
    struct found found;
    struct uz_engine_options engine = {.stream_nbytes = (uint64_t)136 << 20};
    write_plain(false);
    uint8_t *bytes = read_whole(&n);
    for (int large = 0; large < 2; large++) {
        struct packing how = {.n_frames = 1, .window_log = large ? 27 : 20};
        uint8_t *packed = compress(&how, bytes, n, &nbytes);
        write_whole(packed, nbytes);
        CHECK(find_tensor(SIZE_MAX, &found, &err) == UZ_OK);
        uint64_t took = found.view.storage.stream_nbytes, mib = 1 << 20;
        CHECK(large ? took > 128 * mib && took < 136 * mib : took > 8 * mib && took < 16 * mib);
        free(packed);
    }
    struct packing grows = {.n_frames = 2, .window_log = 20, .later_window_log = 26};
    uint8_t *packed = compress(&grows, bytes, n, &nbytes);
    write_whole(packed, nbytes);
    CHECK(find_tensor(SIZE_MAX, &found, &err) == UZ_UNSUPPORTED &&
          strstr(err.message, "larger zstd window"));
    free(packed);
    free(bytes);
    CHECK(uz_fit_memory(4, (uint64_t)320 << 20, 1 << 20, &engine, &err) == UZ_OK);
    CHECK_EQ_U64(engine.threads, 2);
    CHECK(uz_run_memory(&engine, 1 << 20) <= (uint64_t)320 << 20);
    CHECK(uz_fit_memory(4, (uint64_t)128 << 20, 1 << 20, &engine, &err) == UZ_LIMIT);
}

static void test_deflated_in_zstd(void)
{
    size_t n, nbytes;
    struct found found;
    struct uz_error err;
    write_plain(true);
    uint8_t *plain_bytes = read_whole(&n),
            *packed = compress(&packings[0], plain_bytes, n, &nbytes);
    write_whole(packed, nbytes);
    CHECK(find_tensor(SIZE_MAX, &found, &err) == UZ_UNSUPPORTED && strstr(err.message, "zstd -d"));
    free(packed);
    free(plain_bytes);
}

/* A cut file and one with any byte changed are refused; the checksum sees every change. */
static void test_damaged_zstd(void)
{
    size_t n, nbytes;
    struct found found;
    struct uz_error err;
    write_plain(false);
    uint8_t *plain_bytes = read_whole(&n),
            *packed = compress(&packings[2], plain_bytes, n, &nbytes);
    for (size_t i = 5; i < nbytes; i++) {
        write_whole(packed, i);
        int rc = find_tensor(SIZE_MAX, &found, &err);
        CHECK_F(rc == UZ_CORRUPT && err.message[0], "cut at %zu: %d %s", i, rc, err.message);
    }
    for (size_t i = 0; i < nbytes; i++) {
        packed[i] ^= 0x11;
        write_whole(packed, nbytes);
        packed[i] ^= 0x11;
        int rc = find_tensor(SIZE_MAX, &found, &err);
        /* the reserved and the unused bits of a frame header mean nothing */
        CHECK_F(rc < 0 ? rc == err.status && err.message[0] : found.bytes[5] == 5, "byte %zu", i);
    }
    memcpy(packed + nbytes, "rest", 4);
    write_whole(packed, nbytes + 4);
    CHECK(find_tensor(SIZE_MAX, &found, &err) == UZ_CORRUPT && strstr(err.message, "follows"));
    free(packed);
    free(plain_bytes);
}

/* A frame header alone: of a window of 2 GiB, of a dictionary, of nothing known. */
static void test_refused_frames(void)
{
    static const struct {
        const char *bytes;
        size_t nbytes;
        int status;
        const char *part;
    } cases[] = {
        {"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00", 9, UZ_UNSUPPORTED, "--long=31"},
        {"\x28\xb5\x2f\xfd\x01\x00\x07\x01\x00\x00", 10, UZ_UNSUPPORTED, "dictionary"},
        {"\x28\xb5\x2f\xfd rest", 9, UZ_CORRUPT, ""},
        {"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello", 14, UZ_FORMAT, "after decompression"},
        {"\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00", 9, UZ_CORRUPT, "empty"},
        {"\x50\x2a\x4d\x18\x02\x00\x00\x00hi", 10, UZ_CORRUPT, "empty"},
    };
    struct uz_torch_file *file;
    struct uz_error err;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_whole(cases[i].bytes, cases[i].nbytes);
        int rc = open_file(&file, &err);
        CHECK_F(rc == cases[i].status && strstr(err.message, cases[i].part), "case %zu: %d %s", i,
                rc, err.message);
    }
}

/* ---- The container before PyTorch 1.6 ---- */

static void check_old(void)
{
    struct found found;
    struct uz_error err;
    if (CHECK_F(find_tensor(0, &found, &err) == UZ_OK, "%s", err.message)) {
        static const int16_t shorts[] = {1, 2, 3};
        CHECK(found.view.dtype == UZ_DTYPE_I16 && !memcmp(found.bytes, shorts, sizeof shorts));
    }
    if (CHECK_F(find_tensor(1, &found, &err) == UZ_OK, "%s", err.message)) {
        static const float floats[] = {0, 1, 2, 3, 4, 5, 6, 7};
        CHECK_EQ_U64(found.view.storage.nbytes, sizeof floats);
        CHECK(memcmp(found.bytes, floats, sizeof floats) == 0);
        CHECK_EQ_U64(found.view.first, 0);
    }
}

static void test_old(void)
{
    struct buf buf;
    size_t nbytes;
    struct uz_torch_file *file;
    struct uz_error err;
    make_old(&buf, "N", 1);
    write_whole(buf.data, buf.nbytes);
    check_old();
    if (CHECK(open_file(&file, &err) == UZ_OK))
        CHECK(uz_torch_archive_root(file) == NULL);
    uz_torch_close(file);
    for (size_t p = 0; p < sizeof packings / sizeof packings[0]; p++) {
        uint8_t *packed = compress(&packings[p], buf.data, buf.nbytes, &nbytes);
        write_whole(packed, nbytes);
        check_old();
        free(packed);
    }
}

/* view_metadata: (key, offset, size) in elements. */
static void test_old_views(void)
{
    struct buf buf;
    struct found found;
    struct uz_error err;
    make_old(&buf, "(\x8c\001vK\002K\006t", 9);
    write_whole(buf.data, buf.nbytes);
    if (CHECK_F(find_tensor(1, &found, &err) == UZ_OK, "%s", err.message))
        CHECK_EQ_U64(found.view.first, 2);
    make_old(&buf, "(\x8c\001vK\002K\005t", 9); /* a tensor of 6 elements in a view of 5 */
    write_whole(buf.data, buf.nbytes);
    CHECK(find_tensor(1, &found, &err) == UZ_CORRUPT && strstr(err.message, "leaves its storage"));
    make_old(&buf, "(\x8c\001vK\004K\006t", 9);
    write_whole(buf.data, buf.nbytes);
    CHECK(find_tensor(1, &found, &err) == UZ_CORRUPT && strstr(err.message, "no proper view"));
}

static void test_damaged_old(void)
{
    struct buf buf;
    struct found found;
    struct uz_error err;
    make_old(&buf, "N", 1);
    for (size_t i = sizeof magic; i < buf.nbytes; i++) {
        write_whole(buf.data, i);
        int rc = find_tensor(1, &found, &err);
        CHECK_F(rc == UZ_CORRUPT && err.message[0], "cut at %zu: %d %s", i, rc, err.message);
    }
    for (size_t i = 0; i < buf.nbytes; i++) {
        buf.data[i] ^= 0xff;
        write_whole(buf.data, buf.nbytes);
        buf.data[i] ^= 0xff;
        struct uz_torch_file *file;
        int rc = open_file(&file, &err);
        CHECK_F(rc == UZ_OK || (rc == err.status && err.message[0]), "byte %zu: %d", i, rc);
        uz_torch_close(file);
    }
    buf.data[buf.nbytes - 33] = 1; /* the number of elements of "b" */
    write_whole(buf.data, buf.nbytes);
    CHECK(find_tensor(1, &found, &err) == UZ_CORRUPT && strstr(err.message, "leaves the file"));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"zip in zstd", test_zip_in_zstd},
        {"large storages in zstd", test_large},
        {"one pass through zstd", test_one_pass},
        {"damaged directories in zstd", test_directory_in_zstd},
        {"windows of zstd", test_window},
        {"deflated entries in zstd", test_deflated_in_zstd},
        {"damaged zstd", test_damaged_zstd},
        {"frames that are refused", test_refused_frames},
        {"container before PyTorch 1.6", test_old},
        {"its views of storages", test_old_views},
        {"damaged container before PyTorch 1.6", test_damaged_old},
        CU_TEST_INFO_NULL,
    };
    return run_on_file("containers", tests);
}
