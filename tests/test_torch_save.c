/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the torch.save format: pickles and archives byte for byte, zip64, division into files.
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "out/archive.h"
#include "out/shards.h"
#include "out/torch_save.h"
#include "torch/pickle_write.h"

/* ---- Pickles ---- */

/* What torch.save of PyTorch 2.13 writes as data.pkl for the tensors below. */
static const char torch_pickle[] =
    "\x80\x02"
    "ccollections\nOrderedDict\nq\0)Rq\x01(X\x01\0\0\0wq\x02"
    "ctorch._utils\n_rebuild_tensor_v2\nq\x03((X\x07\0\0\0storageq\x04"
    "ctorch\nFloatStorage\nq\x05X\x01\0\0\0"
    "0q\x06X\x03\0\0\0cpuq\x07K\x06tq\x08QK\0K\x02K\x03\x86q\x09K\x03K\x01\x86q\x0a\x89h\0)Rq\x0b"
    "tq\x0cRq\x0dX\x03\0\0\0n.bq\x0eh\x03((h\x04"
    "ctorch\nLongStorage\nq\x0fX\x01\0\0\0"
    "1q\x10h\x07K\x01tq\x11QK\0))\x89h\0)Rq\x12tq\x13Rq\x14X\x01\0\0\0eq\x15h\x03((h\x04h\x05X"
    "\x01\0\0\0"
    "2q\x16h\x07K\0tq\x17QK\0K\0K\x04\x86q\x18K\x04K\x01\x86q\x19\x89h\0)Rq\x1atq\x1bRq\x1cX\x04"
    "\0\0\0tiedq\x1dh\x0dX\x02\0\0\0f8q\x1e"
    "ctorch._utils\n_rebuild_tensor_v3\nq\x1f((h\x04"
    "ctorch.storage\nUntypedStorage\nq X\x01\0\0\0"
    "3q!h\x07K\x03tq\"QK\0K\x03\x85q#K\x01\x85q$\x89h\0)Rq%"
    "ctorch\nfloat8_e8m0fnu\nq&tq'Rq(X\x03\0\0\0u16q)h\x1f((h\x04h X\x01\0\0\0"
    "4q*h\x07K\x06tq+QK\0K\x03\x85q,K\x01\x85q-\x89h\0)Rq.ctorch\nuint16\nq/tq0Rq1u.";

static const uint64_t shape_23[] = {2, 3}, shape_04[] = {0, 4}, shape_3[] = {3};

static const struct uz_saved_tensor one_of_each[] = {
    {"w", UZ_DTYPE_F32, 2, shape_23, 0},     {"n.b", UZ_DTYPE_I64, 0, NULL, 1},
    {"e", UZ_DTYPE_F32, 2, shape_04, 2},     {"tied", UZ_DTYPE_F32, 2, shape_23, 0},
    {"f8", UZ_DTYPE_F8_E8M0, 1, shape_3, 4}, {"u16", UZ_DTYPE_U16, 1, shape_3, 5},
};

static void test_pickle_of_torch(void)
{
    struct uz_bytes got = {0};
    struct uz_error err;
    CHECK_EQ_I64(uz_pickle_state_dict(&got, one_of_each, 6, &err), UZ_OK);
    CHECK_EQ_U64(got.n, sizeof torch_pickle - 1);
    for (size_t i = 0; i < got.n && i < sizeof torch_pickle - 1; i++)
        if (!CHECK_F(got.data[i] == torch_pickle[i], "byte %zu differs", i))
            break;
    uz_bytes_free(&got);
}

/* Opcode, argument, as CPython 3.13 picks them. */
static void test_ints(void)
{
    static const struct {
        int64_t value;
        const char *want;
        size_t n;
    } cases[] = {
        {0, "K\0", 2},
        {255, "K\xff", 2},
        {256, "M\0\x01", 3},
        {65535, "M\xff\xff", 3},
        {65536, "J\0\0\x01\0", 5},
        {-1, "J\xff\xff\xff\xff", 5},
        {INT32_MAX, "J\xff\xff\xff\x7f", 5},
        {INT32_MIN, "J\0\0\0\x80", 5},
        {(int64_t)INT32_MAX + 1, "\x8a\x05\0\0\0\x80\0", 7},
        {(int64_t)INT32_MIN - 1, "\x8a\x05\xff\xff\xff\x7f\xff", 7},
        {INT64_C(0x7fffffffff), "\x8a\x05\xff\xff\xff\xff\x7f", 7},
        {INT64_C(0x8000000000), "\x8a\x06\0\0\0\0\x80\0", 8},
        {-INT64_C(0x8000000000), "\x8a\x05\0\0\0\0\x80", 7},
        {INT64_MAX, "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", 10},
        {INT64_MIN, "\x8a\x08\0\0\0\0\0\0\0\x80", 10},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct uz_bytes got = {0};
        struct uz_pickler pickler = {.to = &got};
        uz_pickle_int(&pickler, cases[i].value);
        CHECK_F(got.n == cases[i].n && !memcmp(got.data, cases[i].want, got.n), "%lld",
                (long long)cases[i].value);
        uz_bytes_free(&got);
    }
}

static void test_impossible_tensors(void)
{
    static const uint64_t huge[] = {UINT64_C(1) << 40, UINT64_C(1) << 40, 0};
    const struct uz_saved_tensor overflow = {"x", UZ_DTYPE_F32, 3, huge, 0};
    const struct uz_saved_tensor no_dtype = {"x", UZ_DTYPE_INVALID, 1, shape_3, 0};
    struct uz_bytes to = {0};
    struct uz_error err;
    CHECK_EQ_I64(uz_pickle_state_dict(&to, &overflow, 1, &err), UZ_UNSUPPORTED);
    CHECK_EQ_I64(uz_pickle_state_dict(&to, &no_dtype, 1, &err), UZ_UNSUPPORTED);
    CHECK_EQ_U64(to.n, 0);
    uz_bytes_free(&to);
}

/* ---- Archives ---- */

static uint64_t le(const char *at, unsigned n)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < n; i++)
        number |= (uint64_t)(unsigned char)at[i] << (8 * i);
    return number;
}

static void file_free(struct uz_out_file *file)
{
    free(file->head);
    free(file->blobs);
    free(file->blob_data);
    free(file->crcs);
}

/* A byte of the file that is no target's. */
static const char *byte_at(const struct uz_out_file *file, uint64_t offset)
{
    if (offset < file->head_nbytes)
        return file->head + offset;
    for (size_t i = 0; i < file->n_blobs; i++) {
        const struct uz_blob *blob = &file->blobs[i];
        if (offset >= blob->offset && offset - blob->offset < blob->nbytes)
            return blob->data + (offset - blob->offset);
    }
    return NULL;
}

struct big_entry {
    const char *name;
    uint64_t nbytes;
    bool large, far;
    uint64_t offset; /* of its contents, by the archive */
};

/* The local header, the descriptor and the directory entry at *at. */
static void check_big_entry(const struct uz_out_file *file, const struct big_entry *entry,
                            const char **at, uint64_t *header)
{
    const char *dir = *at, *local = byte_at(file, *header);
    size_t n_name = strlen("root/") + strlen(entry->name);
    size_t n_zip64 =
        entry->large || entry->far ? 4U + (entry->large ? 16U : 0U) + 8U * entry->far : 0;
    CHECK_EQ_U64(le(dir, 4), 0x02014b50);
    CHECK_EQ_U64(le(dir + 20, 4), entry->large ? UINT32_MAX : entry->nbytes);
    CHECK_EQ_U64(le(dir + 24, 4), entry->large ? UINT32_MAX : entry->nbytes);
    CHECK_EQ_U64(le(dir + 28, 2), n_name);
    CHECK_EQ_U64(le(dir + 30, 2), n_zip64);
    CHECK_EQ_U64(le(dir + 42, 4), entry->far ? UINT32_MAX : *header);
    CHECK(!memcmp(dir + 46 + 5, entry->name, strlen(entry->name)));
    const char *extra = dir + 46 + n_name;
    if (n_zip64) {
        CHECK_EQ_U64(le(extra, 2), 1);
        CHECK_EQ_U64(le(extra + 2, 2), n_zip64 - 4);
        if (entry->large)
            CHECK(le(extra + 4, 8) == entry->nbytes && le(extra + 12, 8) == entry->nbytes);
        if (entry->far)
            CHECK_EQ_U64(le(extra + (entry->large ? 20 : 4), 8), *header);
    }
    if (CHECK(local != NULL)) {
        CHECK_EQ_U64(le(local, 4), 0x04034b50);
        CHECK_EQ_U64(*header + 30 + le(local + 26, 2) + le(local + 28, 2), entry->offset);
        CHECK(!memcmp(local + 30 + n_name, extra, n_zip64));
        CHECK_EQ_U64(le(local + 30 + n_name + n_zip64, 2), 0x4246);
    }
    CHECK_EQ_U64(entry->offset % 64, 0);
    unsigned width = n_zip64 ? 8 : 4;
    const char *descriptor = byte_at(file, entry->offset + entry->nbytes);
    if (CHECK(descriptor != NULL)) {
        CHECK_EQ_U64(le(descriptor, 4), 0x08074b50);
        CHECK_EQ_U64(le(descriptor + 8, width), entry->nbytes);
        CHECK_EQ_U64(le(descriptor + 8 + width, width), entry->nbytes);
    }
    *header = entry->offset + entry->nbytes + 8 + 2 * width;
    *at = extra + n_zip64;
}

/* Entries around 4 GiB, of which only the headers exist. */
static void test_zip64(void)
{
    struct big_entry entries[] = {
        {.name = "data/0", .nbytes = 1000},
        {.name = "data/1", .nbytes = UINT32_MAX - 5000},
        {.name = "data/2", .nbytes = 5000},
        {.name = "data/3", .nbytes = UINT32_MAX, .large = true, .far = true},
        {.name = "data/4", .nbytes = 4, .far = true},
        {.name = "data/5", .nbytes = UINT64_C(1) << 40, .large = true, .far = true},
    };
    enum { N = sizeof entries / sizeof entries[0] };
    struct uz_archive archive;
    struct uz_out_file file = {0};
    struct uz_error err;
    uz_archive_start(&archive, "root");
    for (size_t i = 0; i < N; i++)
        CHECK_EQ_I64(uz_archive_add_target(&archive, entries[i].name, entries[i].nbytes, i,
                                           &entries[i].offset, &err),
                     UZ_OK);
    CHECK_EQ_I64(uz_archive_finish(&archive, &file, &err), UZ_OK);
    uz_archive_free(&archive);
    const char *end = byte_at(&file, file.nbytes - 22), *zip64 = byte_at(&file, file.nbytes - 98);
    CHECK_EQ_U64(le(end, 4), 0x06054b50);
    CHECK_EQ_U64(le(end + 8, 2), N + 1);
    CHECK_EQ_U64(le(end + 16, 4), UINT32_MAX);
    CHECK_EQ_U64(le(zip64, 4), 0x06064b50);
    CHECK_EQ_U64(le(zip64 + 24, 8), N + 1);
    CHECK_EQ_U64(le(byte_at(&file, file.nbytes - 42) + 8, 8), file.nbytes - 98);
    CHECK_EQ_U64(le(zip64 + 48, 8) + le(zip64 + 40, 8), file.nbytes - 98);
    const char *at = byte_at(&file, le(zip64 + 48, 8));
    uint64_t header = 0;
    for (size_t i = 0; CHECK(at != NULL) && i < N; i++) {
        check_big_entry(&file, &entries[i], &at, &header);
        CHECK_EQ_U64(file.crcs[2 * i].target, i);
        CHECK_EQ_U64(file.crcs[2 * i + 1].target, i);
        CHECK(file.crcs[2 * i].at == byte_at(&file, entries[i].offset + entries[i].nbytes + 4));
    }
    file_free(&file);
}

static void test_many_entries(void)
{
    enum { N = 70000 };
    struct uz_archive archive;
    struct uz_out_file file = {0};
    struct uz_error err;
    char name[32];
    int rc = UZ_OK;
    uz_archive_start(&archive, "r");
    for (size_t i = 0; i < N && rc == UZ_OK; i++) {
        (void)snprintf(name, sizeof name, "data/%zu", i);
        rc = uz_archive_add(&archive, name, "x", 1, &err);
    }
    CHECK_EQ_I64(rc, UZ_OK);
    CHECK_EQ_I64(uz_archive_finish(&archive, &file, &err), UZ_OK);
    uz_archive_free(&archive);
    CHECK_EQ_U64(file.head_nbytes, file.nbytes);
    const char *end = file.head + file.nbytes - 22, *zip64 = file.head + file.nbytes - 98;
    CHECK_EQ_U64(le(end + 8, 2), UINT16_MAX);
    CHECK_EQ_U64(le(end + 10, 2), UINT16_MAX);
    CHECK_EQ_U64(le(zip64 + 24, 8), N + 1);
    CHECK_EQ_U64(le(zip64 + 32, 8), N + 1);
    file_free(&file);
}

static void test_too_large(void)
{
    struct uz_archive archive;
    struct uz_error err;
    uint64_t offset;
    uz_archive_start(&archive, "r");
    CHECK_EQ_I64(uz_archive_add_target(&archive, "a", UINT64_C(1) << 61, 0, &offset, &err), UZ_OK);
    CHECK_EQ_I64(uz_archive_add_target(&archive, "b", UINT64_C(3) << 61, 1, &offset, &err),
                 UZ_LIMIT);
    CHECK_EQ_I64(uz_archive_add_target(&archive, "b", UINT64_MAX, 1, &offset, &err), UZ_LIMIT);
    uz_archive_free(&archive);
}

/* The identifier stands for the contents: other checksums, another one, and its own is right. */
static void test_seal(void)
{
    char ids[3][UZ_SEAL_ID_NBYTES];
    struct uz_archive archive;
    struct uz_out_file file = {0};
    struct uz_error err;
    uint64_t offset;
    uz_archive_start(&archive, "r");
    CHECK_EQ_I64(uz_archive_add_target(&archive, "data/0", 8, 0, &offset, &err), UZ_OK);
    CHECK_EQ_I64(uz_archive_finish(&archive, &file, &err), UZ_OK);
    uz_archive_free(&archive);
    memcpy(ids[0], file.seal.id, sizeof ids[0]);
    for (unsigned round = 1; round < 3; round++) {
        memset(file.crcs[0].at, round == 1 ? 0x55 : 0, 4);
        memset(file.crcs[1].at, round == 1 ? 0x55 : 0, 4);
        uz_seal_file(&file);
        memcpy(ids[round], file.seal.id, sizeof ids[round]);
        CHECK(!memcmp(file.seal.crcs[0], file.seal.crcs[1], 4));
    }
    CHECK(memcmp(ids[0], ids[1], sizeof ids[0]) != 0);
    CHECK(memcmp(ids[0], ids[2], sizeof ids[0]) == 0);
    for (size_t i = 0; i < sizeof ids[0]; i++)
        CHECK(ids[1][i] >= '0' && ids[1][i] <= '9');
    file_free(&file);
}

/* ---- Files ---- */

static uint32_t add(struct uz_model *model, const char *name, enum uz_dtype dtype, uint64_t n)
{
    uint32_t tensor = 0;
    if (uz_model_add_tensor(model, name, strlen(name), UZ_ROLE_BUFFER, dtype, 1, &n, &tensor,
                            NULL) < 0)
        abort();
    return tensor;
}

static void check_root(const char *file_name, const char *want)
{
    struct uz_limits limits;
    struct uz_model model;
    struct uz_error err;
    struct uz_out out;
    struct uz_item item = {.name = "w", .dtype = UZ_DTYPE_F32, .nbytes = 4};
    const struct uz_items items = {.items = &item, .n = 1};
    const struct uz_files_options options = {.file_name = file_name};
    uz_limits_default(&limits);
    CHECK_EQ_I64(uz_model_init(&model, &limits, &err), UZ_OK);
    add(&model, "w", UZ_DTYPE_F32, 1);
    if (CHECK_EQ_I64(uz_torch_save_layout(&out, &items, &model, &options, &err), UZ_OK)) {
        const char *name = out.files[0].head + 30;
        size_t n = strlen(want);
        CHECK_F(!memcmp(name, want, n) && name[n] == '/', "%s", file_name ? file_name : "none");
    }
    uz_out_free(&out);
    uz_model_free(&model);
}

/* Folders as torch.save names them; "archive" where it would fail or where none could be. */
static void test_roots(void)
{
    check_root(NULL, "pytorch_model");
    check_root("weights.pt", "weights");
    check_root("a.b.bin", "a.b");
    check_root("m\xc3\xbc.bin", "archive");
    check_root("back\\slash.bin", "archive");
    check_root("...bin", "archive");
    check_root(".x.bin", ".x");
}

/* Numbers as huggingface_hub 0.36.2 gives them; same letters share memory, empty ones do, too. */
static void test_split_of_shared(void)
{
    static const struct {
        uint64_t limit;
        const char *letters;
        uint64_t nbytes[8];
        uint32_t want[8], n_shards;
    } cases[] = {
#include "hub_splits.inc"
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct uz_item list[8];
        struct uz_items items = {.items = list, .n = strlen(cases[i].letters)};
        uint32_t got[8], n_shards;
        for (size_t k = 0; k < items.n; k++)
            list[k] = (struct uz_item){
                .nbytes = cases[i].nbytes[k],
                .holder =
                    (size_t)(strchr(cases[i].letters, cases[i].letters[k]) - cases[i].letters),
            };
        uz_split_shards(&items, cases[i].limit, got, &n_shards);
        CHECK_F(n_shards == cases[i].n_shards, "case %zu: %u shards", i, n_shards);
        CHECK_F(!memcmp(got, cases[i].want, items.n * sizeof *got), "case %zu: other numbers", i);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"the pickle is PyTorch's", test_pickle_of_torch},
        {"integers as CPython writes them", test_ints},
        {"tensors that PyTorch cannot hold", test_impossible_tensors},
        {"zip64 where sizes or offsets need it", test_zip64},
        {"more entries than 16 bits count", test_many_entries},
        {"archives larger than files", test_too_large},
        {"the identifier follows the contents", test_seal},
        {"the folder inside is the file's stem", test_roots},
        {"the hub's split with shared memory", test_split_of_shared},
        CU_TEST_INFO_NULL,
    };
    return check_run("torch_save", tests);
}
