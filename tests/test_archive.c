/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the containers that PyTorch files come in, good, wrong, and damaged. */
#include <errno.h>

#include "torch_maker.h"

static void test_containers(void)
{
    static const char none[] = "N.";
    static const struct entry wrong[][2] = {{{"r/other", none, 2}, {"data.pkl", none, 2}},
                                            {{"a/b/data.pkl", none, 2}, {"/data.pkl", none, 2}},
                                            {{"r/data.pkl", none, 2}, {"s/data.pkl", none, 2}},
                                            {{"r/data.pkl", none, 2}, {"r/constants.pkl", none, 2}},
                                            {{"r/data.pkl", none, 2}, {"r/byteorder", "x", 1}},
                                            {{"r/data.pkl", none, 2}, {"r/byteorder", "", 0}},
                                            {{"r/data.pkl", "N.N.", 4}, {"r/a", none, 2}}};
    static const int status[] = {UZ_FORMAT,  UZ_FORMAT,  UZ_CORRUPT, UZ_UNSUPPORTED,
                                 UZ_CORRUPT, UZ_CORRUPT, UZ_CORRUPT};
    struct uz_torch_file *file;
    struct uz_error err;
    for (size_t i = 0; i < sizeof status / sizeof status[0]; i++) {
        write_zip(wrong[i], 2, false);
        CHECK_F(open_file(&file, &err) == status[i], "case %zu: %s", i, err.message);
        CHECK_EQ_STR(err.file, path);
    }
    write_whole("", 0);
    CHECK(open_file(&file, &err) == UZ_CORRUPT && strstr(err.message, "empty"));
    write_whole("hello", 5);
    CHECK(open_file(&file, &err) == UZ_FORMAT && strstr(err.message, "not a PyTorch file"));
    unlink(path);
    CHECK(open_file(&file, &err) == UZ_IO && err.sys_errno == ENOENT);
}

static void test_deflated(void)
{
    struct uz_torch_file *file;
    struct uz_view view;
    struct uz_error err;
    write_plain(true);
    if (!CHECK_F(open_file(&file, &err) == UZ_OK, "%s", err.message))
        return;
    CHECK_EQ_STR(uz_torch_archive_root(file), "r");
    CHECK_EQ_STR(uz_torch_path(file), path);
    CHECK(uz_torch_is_tensor(uz_torch_root(file)));
    CHECK(uz_torch_tensor(file, uz_torch_root(file), "w", &view, &err) == UZ_OK);
    CHECK(view.storage.packing == UZ_PACKED_DEFLATE);
    CHECK_EQ_U64(view.storage.entry, 2);
    CHECK_EQ_U64(view.storage.offset, 0);
    uz_torch_close(file);
}

/* The n-th place in the file where these bytes stand. */
static size_t find(const uint8_t *data, size_t nbytes, const char *text, size_t n)
{
    size_t text_nbytes = strlen(text);
    for (size_t i = 0; i + text_nbytes <= nbytes; i++)
        if (memcmp(data + i, text, text_nbytes) == 0 && n-- == 0)
            return i;
    abort();
}

/* One byte of a sound archive is changed: relative to the name, in a header (0) or directory (1).
 */
static void test_damaged_archive(void)
{
    static const struct {
        const char *name;
        size_t nth;
        int at;
        uint8_t value;
        int status;
        const char *part;
    } cases[] = {
        {"r/data/0", 0, 0, 'q', UZ_CORRUPT, "its local header has another name"},
        {"r/data/0", 0, -30, 'Q', UZ_CORRUPT, "no local header stands here"},
        {"r/data/0", 0, -4, 7, UZ_CORRUPT, "its local header has another name"},
        {"r/data/0", 0, -22, 8, UZ_CORRUPT, "another compression method"},
        {"r/data/0", 1, 7, '1', UZ_CORRUPT, "not in the archive"},
        {"r/data/0", 1, -38, 1, UZ_UNSUPPORTED, "is encrypted"},
        {"r/data/0", 1, -36, 14, UZ_UNSUPPORTED, "compression method 14"},
        {"r/data/0", 1, -22, 99, UZ_CORRUPT, "two different sizes"},
        {"r/data/0", 1, -23, 99, UZ_CORRUPT, "larger than the file"},
        {"r/data/0", 1, -4, 1, UZ_CORRUPT, "zip entry 'r/data/0'"},
        {"r/data/0", 1, -46, 'Q', UZ_CORRUPT, ""},
        {"r/data.pkl", 0, 12, '0', UZ_CORRUPT, "CRC-32"},
    };
    struct uz_view view;
    struct uz_error err;
    size_t nbytes;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_plain(false);
        uint8_t *data = read_whole(&nbytes);
        size_t name = find(data, nbytes, cases[i].name, cases[i].nth);
        data[name + (size_t)cases[i].at] = cases[i].value;
        write_whole(data, nbytes);
        free(data);
        int rc = resolve(&view, &err);
        CHECK_F(rc == cases[i].status && strstr(err.message, cases[i].part), "case %zu: %d %s", i,
                rc, err.message);
    }
}

/* Which of two entries of one name is meant, readers would decide differently. */
static void test_duplicate_names(void)
{
    static const struct entry entries[] = {{"r/data.pkl", "N.", 2}, {"r/data.pkm", "N.", 2}};
    struct uz_view view;
    struct uz_error err;
    size_t nbytes;
    write_zip(entries, 2, false);
    uint8_t *data = read_whole(&nbytes);
    for (size_t n = 2; n > 0; n--) /* in the header and in the directory */
        data[find(data, nbytes, "r/data.pkm", n - 1) + 9] = 'l';
    write_whole(data, nbytes);
    free(data);
    CHECK(resolve(&view, &err) == UZ_CORRUPT && strstr(err.message, "two entries named"));
}

/* Files saved without checksums have a CRC of 0 everywhere. */
static void test_no_crc(void)
{
    struct uz_view view;
    struct uz_error err;
    size_t nbytes;
    write_plain(false);
    uint8_t *data = read_whole(&nbytes);
    memset(data + find(data, nbytes, "r/data.pkl", 1) - 30, 0, 4);
    write_whole(data, nbytes);
    free(data);
    CHECK_F(resolve(&view, &err) == UZ_OK, "%s", err.message);
}

static void test_cut_anywhere(void)
{
    struct uz_view view;
    struct uz_error err;
    size_t nbytes;
    for (int deflated = 0; deflated < 2; deflated++) {
        write_plain(deflated);
        uint8_t *data = read_whole(&nbytes);
        for (size_t i = 0; i < nbytes; i++) {
            write_whole(data, i);
            int rc = resolve(&view, &err);
            CHECK_F(rc < 0 && rc == err.status && err.message[0], "cut at %zu: %d", i, rc);
        }
        for (size_t i = 0; i < nbytes; i++) {
            data[i] ^= 0xff;
            write_whole(data, nbytes);
            data[i] ^= 0xff;
            int rc = resolve(&view, &err);
            CHECK_F(rc == UZ_OK || (rc == err.status && err.message[0]), "byte %zu: %d", i, rc);
        }
        free(data);
    }
}

static void test_limits(void)
{
    struct uz_torch_file *file = NULL;
    struct uz_limits limits;
    struct uz_error err;
    write_plain(false);
    uz_limits_default(&limits);
    limits.max_pickle_bytes = 20;
    CHECK(uz_torch_open(&file, path, &limits, &err) == UZ_LIMIT);
    uz_limits_default(&limits);
    limits.max_zip_entries = 2;
    CHECK(uz_torch_open(&file, path, &limits, &err) == UZ_LIMIT);
    uz_limits_default(&limits);
    limits.max_name_bytes = 5;
    CHECK(uz_torch_open(&file, path, &limits, &err) == UZ_LIMIT);
    CHECK(file == NULL);
    /* A deflated pickle that claims to be larger than it is allowed to. */
    struct buf zeros = {.nbytes = sizeof zeros.data};
    write_file(&zeros, 0, true);
    uz_limits_default(&limits);
    limits.max_pickle_bytes = 4095;
    CHECK(uz_torch_open(&file, path, &limits, &err) == UZ_LIMIT);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"containers", test_containers},
        {"deflated", test_deflated},
        {"damaged archive", test_damaged_archive},
        {"duplicate names", test_duplicate_names},
        {"no checksums", test_no_crc},
        {"cut and flipped anywhere", test_cut_anywhere},
        {"limits", test_limits},
        CU_TEST_INFO_NULL,
    };
    return run_on_file("archive", tests);
}
