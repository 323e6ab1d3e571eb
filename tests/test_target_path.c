/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of what an output's name says: folder or file, format, and which files are its family. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "convert/target_path.h"
#include "scratch.h"

static void check_target(const char *out, const char *want_dir, const char *want_name)
{
    struct uz_target_path target;
    struct uz_error err;
    if (CHECK_EQ_I64(uz_target_path_parse(&target, out, UZ_FORMAT_AUTO, &err), UZ_OK)) {
        CHECK_F(!strcmp(target.dir, want_dir), "%s: %s", out, target.dir);
        CHECK_F(want_name ? target.file_name && !strcmp(target.file_name, want_name)
                          : !target.file_name,
                "%s", out);
    }
    uz_target_path_free(&target);
}

static void test_target_names(void)
{
    char text[PATH_NBYTES], path[PATH_NBYTES];
    struct uz_target_path target;
    struct uz_error err;
    check_target("none/such///", "none/such", NULL);
    check_target("/", "/", NULL);
    check_target("//", "/", NULL);
    check_target("none/x.safetensors", "none", "x.safetensors");
    check_target("none//x.safetensors", "none", "x.safetensors");
    check_target("/x.safetensors", "/", "x.safetensors");
    check_target("x.safetensors", ".", "x.safetensors");
    check_target("none.safetensors/", "none.safetensors", NULL); /* the slash says folder */
    check_target("none.bin/", "none.bin", NULL);
    CHECK(write_file(path_of(path, "%s/file", scratch_dir), "x", 1));
    CHECK_EQ_I64(
        uz_target_path_parse(&target, path_of(path, "%s/file/", scratch_dir), UZ_FORMAT_PT, &err),
        UZ_ARG);
    uz_target_path_free(&target);
    memset(text, 'a', 240);
    strcpy(text + 239 - 12, ".safetensors"); /* 239 bytes: its staging folder has 255 */
    check_target(text, ".", text);
    strcpy(text + 240 - 12, ".safetensors");
    text[239 - 12] = 'a';
    CHECK_EQ_I64(uz_target_path_parse(&target, text, UZ_FORMAT_AUTO, &err), UZ_ARG);
    CHECK(strstr(err.message, "name too long") && strstr(err.message, "239"));
    uz_target_path_free(&target);
}

static void test_target_formats(void)
{
    enum { AUTO = UZ_FORMAT_AUTO, ST = UZ_FORMAT_SAFETENSORS, PT = UZ_FORMAT_PT, NO = -1 };
    static const struct {
        const char *out;
        int asked[3]; /* what comes of AUTO, SAFETENSORS, PT */
    } cases[] = {
        {"none/x.safetensors", {ST, ST, NO}},
        {"none/x.bin", {PT, NO, PT}},
        {"x.pt", {PT, NO, PT}},
        {"x.pth", {PT, NO, PT}},
        {"x.bin/", {ST, ST, PT}},
        {"none", {ST, ST, PT}},
        {".bin", {ST, ST, PT}},  /* a hidden folder: no ending */
        {"x.BIN", {NO, NO, NO}}, /* surely a mistake */
        {"x.gguf", {NO, NO, NO}},
        {"x.gguf/", {ST, ST, PT}},
        {"llama-3.1", {ST, ST, PT}},
        {"none/.gguf", {ST, ST, PT}},
        {"-", {NO, NO, NO}},
        {"", {NO, NO, NO}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int asked = AUTO; asked <= PT; asked++) {
            struct uz_target_path target;
            struct uz_error err;
            int want = cases[i].asked[asked];
            int rc = uz_target_path_parse(&target, cases[i].out, (enum uz_format)asked, &err);
            CHECK_F(rc == (want == NO ? UZ_ARG : UZ_OK), "%s, %d", cases[i].out, asked);
            CHECK_F(want == NO || (int)target.format == want, "%s, %d: %d", cases[i].out, asked,
                    (int)target.format);
            uz_target_path_free(&target);
        }
}

static void test_families(void)
{
    static const struct {
        const char *name;
        bool safetensors, pt;
    } cases[] = {
        {"model.safetensors", true, false},
        {"model.safetensors.index.json", true, false},
        {"model-00001-of-00002.safetensors", true, false},
        {"pytorch_model.bin", false, true},
        {"pytorch_model.bin.index.json", false, true},
        {"pytorch_model-00012-of-00345.bin", false, true},
        {"pytorch_model-1-of-2.bin", false, false},
        {"pytorch_model-00001-of-00002.safetensors", false, false},
        {"model.bin", false, false},
        {"adapter_model.bin", false, false},
        {"pytorch_model.bin.bak", false, false},
        {"pytorch_model-00001-of-00002.bin.index.json", false, false},
    };
    struct uz_target_path target = {.format = UZ_FORMAT_PT};
    uz_family_fn pt = uz_target_path_family(&target);
    target.format = UZ_FORMAT_SAFETENSORS;
    uz_family_fn safetensors = uz_target_path_family(&target);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_F(safetensors(cases[i].name) == cases[i].safetensors, "%s", cases[i].name);
        CHECK_F(pt(cases[i].name) == cases[i].pt, "%s", cases[i].name);
    }
    target.file_name = strdup("x");
    CHECK(uz_target_path_family(&target) == NULL);
    free(target.file_name);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"names of targets", test_target_names},
        {"formats by names of outputs", test_target_formats},
        {"names of a format's files", test_families},
        CU_TEST_INFO_NULL,
    };
    scratch_make();
    return check_run("target_path", tests);
}
