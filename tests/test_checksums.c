/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of checksums that are collected in parts. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "engine/checksums.h"

static void must(bool good, const char *what)
{
    if (!good) {
        perror(what);
        abort();
    }
}

static void test_parts(void)
{
    static const unsigned char bytes[] = "123456789abc";
    char slot[4];
    struct uz_target target = {.dtype = UZ_DTYPE_U8, .n_elems = 9};
    struct uz_crc_slot crc = {0, slot};
    struct uz_out_file file = {
        .name = (char[]){"f"}, .crcs = &crc, .n_crcs = 1, .nbytes = 9, .n_targets = 1};
    const struct uz_out out = {.files = &file, .n_files = 1, .targets = &target, .n_targets = 1};
    static const struct {
        uint64_t first[3], nbytes[3];
        int status;
    } cases[] = {
        {{0, 3, 4}, {3, 1, 5}, UZ_OK},       {{4, 0, 3}, {5, 3, 1}, UZ_OK},
        {{4, 3, 0}, {5, 1, 2}, UZ_MISMATCH}, /* a gap */
        {{0, 3, 4}, {4, 1, 5}, UZ_MISMATCH}, /* an overlap */
        {{0, 3, 4}, {3, 1, 4}, UZ_MISMATCH}, /* too short */
        {{0, 3, 4}, {3, 1, 6}, UZ_MISMATCH}, /* too long */
        {{1, 3, 4}, {2, 1, 5}, UZ_MISMATCH}, /* begins late */
        {{0, 9, 0}, {9, 3, 0}, UZ_MISMATCH}, /* more behind the end */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct uz_checksums two[2] = {{0}, {0}};
        struct uz_error err;
        for (unsigned p = 0; p < 3; p++)
            if (cases[i].nbytes[p] > 0)
                must(!uz_checksums_add(&two[p % 2], 0, cases[i].first[p], bytes + cases[i].first[p],
                                       cases[i].nbytes[p], &err),
                     "add");
        must(!uz_checksums_join(&two[0], &two[1], &err), "join");
        CHECK_EQ_U64(two[1].n, 0);
        memset(slot, 0, 4);
        CHECK_EQ_I64(uz_checksums_fill(&two[0], &out, &err), cases[i].status);
        if (cases[i].status == UZ_OK)
            CHECK_EQ_MEM(slot, "\x26\x39\xf4\xcb", 4); /* the check value of CRC-32 */
        else
            CHECK_EQ_STR(err.file, "f");
        uz_checksums_free(&two[0]);
    }
}

/* Parts that follow one another take one record. */
static void test_memory(void)
{
    struct uz_checksums checksums = {0};
    for (unsigned i = 0; i < 1000; i++)
        must(!uz_checksums_add(&checksums, 7, i, "x", 1, NULL), "add");
    CHECK_EQ_U64(checksums.n, 1);
    must(!uz_checksums_add(&checksums, 8, 1000, "x", 1, NULL), "add");
    CHECK_EQ_U64(checksums.n, 2);
    uz_checksums_free(&checksums);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"parts", test_parts},
        {"memory", test_memory},
        CU_TEST_INFO_NULL,
    };
    return check_run("checksums", tests);
}
