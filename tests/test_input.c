/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the input room: what a path is, safetensors headers, indexes, PyTorch files. */
#include <stdlib.h>

#include "check.h"
#include "fixtures.h"
#include "input/json_pull.h"
#include "input/open.h"
#include "input/safetensors_read.h"
#include "scratch.h"

static struct uz_limits limits;

#define T(name, dtype, shape, first, last)                                                         \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" #first        \
    "," #last "]}"

/* A header, the bytes of data behind it, and what must come of it. */
struct header_case {
    const char *json;
    uint64_t data_nbytes;
    int status;
    const char *says;
};

static const struct header_case headers[] = {
    {"{}", 0, UZ_OK, NULL},
    {"{" T("a", "F32", "2,3", 0, 24) "}", 24, UZ_OK, NULL},
    {"{" T("a", "F32", "", 0, 4) "}  \n", 4, UZ_OK, NULL},
    {"{" T("b", "BF16", "2", 4, 8) "," T("a", "F32", "1", 0, 4) "}", 8, UZ_OK, NULL},
    {"{" T("a", "F32", "0,7", 0, 0) "," T("b", "U8", "3", 0, 3) "}", 3, UZ_OK, NULL},
    {"{\"__metadata__\":{\"format\":\"pt\",\"a\\u0062\":\"\\ud83d\\ude00\"}," T("\\u00e4", "I64",
                                                                                "1", 0, 8) "}",
     8, UZ_OK, NULL},
    {"{ \"a\" : { \"shape\" : [ 2 ] , \"data_offsets\" : [ 0 , 2 ] , \"dtype\" : \"BOOL\" } }", 2,
     UZ_OK, NULL},
    {"", 0, UZ_CORRUPT, "JSON"},
    {"[]", 0, UZ_CORRUPT, "JSON"},
    {"{", 0, UZ_CORRUPT, "JSON"},
    {"{}{}", 0, UZ_CORRUPT, "follow the end"},
    {"{,}", 0, UZ_CORRUPT, "JSON"},
    {"{" T("a", "U8", "1", 0, 1) ",}", 1, UZ_CORRUPT, "JSON"},
    {"{" T("a", "U8", "1", 0, 1) T("b", "U8", "1", 1, 2) "}", 2, UZ_CORRUPT, "JSON"},
    {"{" T("a", "U8", "1", 0, 1) "," T("a", "U8", "1", 1, 2) "}", 2, UZ_CORRUPT, "twice"},
    {"{" T("a", "U8", "1", 0, 1) "," T("\\u0061", "U8", "1", 1, 2) "}", 2, UZ_CORRUPT, "twice"},
    {"{" T("a\\u0000b", "U8", "1", 0, 1) "}", 1, UZ_CORRUPT, "NUL"},
    {"{" T("\xff", "U8", "1", 0, 1) "}", 1, UZ_CORRUPT, "UTF-8"},
    {"{" T("\\ud800", "U8", "1", 0, 1) "}", 1, UZ_CORRUPT, "surrogate"},
    {"{" T("\\ud800\\u0041", "U8", "1", 0, 1) "}", 1, UZ_CORRUPT, "surrogate"},
    {"{" T("\n", "U8", "1", 0, 1) "}", 1, UZ_CORRUPT, "string"},
    {"{" T("\\x41", "U8", "1", 0, 1) "}", 1, UZ_CORRUPT, "escape"},
    {"{" T("a", "F31", "1", 0, 1) "}", 1, UZ_UNSUPPORTED, "F31"},
    {"{" T("a", "f32", "1", 0, 4) "}", 4, UZ_UNSUPPORTED, "f32"},
    {"{" T("a", "U8", "2", 0, 1) "}", 1, UZ_CORRUPT, "need another"},
    {"{" T("a", "U8", "1", 0, 1) "}", 0, UZ_CORRUPT, "end of the file"},
    {"{" T("a", "U8", "1", 0, 1) "}", 2, UZ_CORRUPT, "no tensor's"},
    {"{}", 1, UZ_CORRUPT, "no tensor's"},
    {"{" T("a", "U8", "1", 1, 2) "}", 2, UZ_CORRUPT, "gap"},
    {"{" T("a", "U8", "2", 0, 2) "," T("b", "U8", "2", 1, 3) "}", 3, UZ_CORRUPT, "overlap"},
    {"{" T("a", "U8", "2", 0, 2) "," T("b", "U8", "2", 0, 2) "}", 2, UZ_CORRUPT, "overlap"},
    {"{" T("a", "U8", "1", 1, 0) "}", 1, UZ_CORRUPT, "begin and end"},
    {"{" T("a", "U8", "-1", 0, 1) "}", 1, UZ_CORRUPT, "whole number"},
    {"{" T("a", "U8", "1.0", 0, 1) "}", 1, UZ_CORRUPT, "whole number"},
    {"{" T("a", "U8", "1e0", 0, 1) "}", 1, UZ_CORRUPT, "whole number"},
    {"{" T("a", "U8", "01", 0, 1) "}", 1, UZ_CORRUPT, "whole number"},
    {"{" T("a", "U8", "18446744073709551616", 0, 1) "}", 1, UZ_CORRUPT, "64 bits"},
    {"{" T("a", "U8", "4294967296,4294967296", 0, 0) "}", 0, UZ_CORRUPT, "64 bits"},
    {"{" T("a", "F64", "2305843009213693952", 0, 0) "}", 0, UZ_CORRUPT, "need another"},
    {"{" T("a", "U8", "18446744073709551615", 0, 18446744073709551615) "}", 1, UZ_CORRUPT,
     "end of the file"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 0, UZ_CORRUPT, "lacks"},
    {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     UZ_CORRUPT, "two dtype"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"scale\":2}}", 1,
     UZ_UNSUPPORTED, "field"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1, UZ_CORRUPT,
     "more than 2"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, UZ_CORRUPT,
     "begin and end"},
    {"{\"a\":7}", 0, UZ_CORRUPT, "JSON"},
    {"{\"__metadata__\":{\"a\":1}}", 0, UZ_CORRUPT, "JSON"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, UZ_CORRUPT, "two __metadata__"},
};

static void test_headers(void)
{
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        const struct header_case *c = &headers[i];
        struct uz_safetensors file;
        struct uz_error err;
        uint64_t n = strlen(c->json);
        uz_error_clear(&err);
        int rc = uz_safetensors_parse(&file, c->json, n, 8 + n + c->data_nbytes, "header", &limits,
                                      &err);
        CHECK_F(rc == c->status, "%s: %s: %s", c->json, uz_status_name(rc), err.message);
        if (c->says)
            CHECK_F(strstr(err.message, c->says) != NULL, "%s: %s", c->json, err.message);
        uz_safetensors_free(&file);
    }
}

static void test_header_values(void)
{
    static const char json[] = "{" T("b", "BF16", "2,1", 4, 8) "," T("a", "F32", "", 0, 4) "}";
    struct uz_safetensors file;
    if (!CHECK_EQ_I64(uz_safetensors_parse(&file, json, strlen(json), 8 + strlen(json) + 8, "x",
                                           &limits, NULL),
                      UZ_OK) ||
        !CHECK_EQ_U64(file.n_entries, 2))
        return;
    CHECK_EQ_STR(file.entries[0].name, "a");
    CHECK_EQ_U64(file.entries[0].offset, 8 + strlen(json));
    CHECK_EQ_U64(file.entries[0].numel, 1);
    CHECK_EQ_U64(file.entries[0].ndim, 0);
    CHECK_EQ_STR(file.entries[1].name, "b");
    CHECK_EQ_U64(file.entries[1].offset, 8 + strlen(json) + 4);
    CHECK_EQ_U64(file.entries[1].dtype, UZ_DTYPE_BF16);
    CHECK_EQ_U64(file.entries[1].ndim, 2);
    CHECK_EQ_U64(file.entries[1].shape[0], 2);
    uz_safetensors_free(&file);
}

/* Whatever is wrong with a header, it is refused with a reason, or its tensors lie in the file. */
static void test_damaged_headers(void)
{
    char path[PATH_NBYTES];
    size_t nbytes = 0;
    unsigned n_refused = 0, n_read = 0;
    path_of(path, "%s/good-z2-bf16-w2-2groups-tiny/expected.safetensors", fixtures_dir);
    char *data = slurp(path, &nbytes);
    if (!CHECK(data != NULL))
        return;
    uint64_t header = (unsigned char)data[0] + 256 * (uint64_t)(unsigned char)data[1];
    for (uint64_t at = 0; at < header; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            struct uz_safetensors file;
            struct uz_error err = {0};
            data[8 + at] = (char)(data[8 + at] ^ 1 << bit);
            int rc = uz_safetensors_parse(&file, data + 8, header, nbytes, path, &limits, &err);
            data[8 + at] = (char)(data[8 + at] ^ 1 << bit);
            for (size_t i = 0; rc == UZ_OK && i < file.n_entries; i++)
                CHECK(file.entries[i].offset >= 8 + header &&
                      file.entries[i].nbytes <= nbytes - file.entries[i].offset);
            CHECK_F(rc == UZ_OK || err.message[0], "byte %" PRIu64 " bit %u", at, bit);
            n_refused += rc < 0;
            n_read += rc == UZ_OK;
            uz_safetensors_free(&file);
        }
    CHECK(n_refused > 1000);
    CHECK(n_read > 0);
    free(data);
}

static void test_truncated_file(void)
{
    char from[PATH_NBYTES], to[PATH_NBYTES];
    size_t nbytes = 0;
    path_of(from, "%s/good-z2-bf16-w2-2groups-tiny/expected.safetensors", fixtures_dir);
    path_of(to, "%s/cut.safetensors", scratch_dir);
    char *data = slurp(from, &nbytes);
    for (size_t n = 0; data && n < nbytes; n += n < 16 ? 1 : nbytes / 50) {
        struct uz_safetensors file;
        struct uz_error err = {0};
        CHECK(write_file(to, data, n));
        int rc = uz_safetensors_read(&file, to, &limits, &err);
        CHECK_F(rc < 0 && rc != UZ_NOMEM && rc != UZ_IO, "%zu of %zu bytes: %d", n, nbytes, rc);
        uz_safetensors_free(&file);
    }
    free(data);
}

static void test_json(void)
{
    static const struct {
        const char *json;
        bool good;
    } cases[] = {
        {"[1,-2.5e+3,\"a\",true,false,null,{},[],{\"a\":[{\"b\":[[]]}]}]", true},
        {" 0 ", true},
        {"-0.5", true},
        {"", false},
        {"tru", false},
        {"01", false},
        {"1.", false},
        {".5", false},
        {"1e", false},
        {"+1", false},
        {"[1 2]", false},
        {"[1}", false},
        {"{\"a\"}", false},
        {"{a:1}", false},
        {"[1,]", false},
        {"\"", false},
        {"\"\\u12\"", false},
        {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct uz_json json;
        uz_json_init(&json, cases[i].json, strlen(cases[i].json), "json", 0);
        bool good = uz_json_skip(&json, NULL) == UZ_OK && uz_json_end(&json, NULL) == UZ_OK;
        CHECK_F(good == cases[i].good, "%s", cases[i].json);
        uz_json_free(&json);
    }
}

/* Opens a path; the model is to be freed if it succeeds. */
static int open_path(const char *path, struct uz_model *model, enum uz_input_kind *kind,
                     struct uz_error *err)
{
    struct uz_input_options options;
    struct uz_input_info info;
    struct uz_notes notes = {0};
    uz_error_clear(err);
    uz_input_options_default(&options);
    options.threads = 1;
    int rc = uz_input_open(path, &options, NULL, model, &info, &notes, err);
    *kind = info.kind;
    uz_input_info_free(&info);
    uz_notes_free(&notes);
    return rc;
}

static void check_fixture(const char *dir)
{
    char path[PATH_NBYTES];
    struct uz_model model;
    struct uz_error err;
    enum uz_input_kind kind;
    int rc = open_path(dir, &model, &kind, &err);
    if (CHECK_F(rc == UZ_OK, "%s: %s", dir, err.message))
        uz_model_free(&model);
    CHECK_EQ_U64(kind, UZ_INPUT_ZERO); /* whatever else lies there */
    path_of(path, "%s/expected.safetensors", dir);
    rc = open_path(path, &model, &kind, &err);
    if (CHECK_F(rc == UZ_OK, "%s: %s", path, err.message)) {
        CHECK(model.n_tensors > 0);
        uz_model_free(&model);
    }
    CHECK_EQ_U64(kind, UZ_INPUT_SAFETENSORS);
}

static void test_fixtures(void)
{
    each_fixture("good-*", check_fixture);
}

/* A state dict inside of another dictionary, with tied weights. */
static void test_torch_file(void)
{
    char path[PATH_NBYTES];
    struct uz_model model;
    struct uz_error err;
    enum uz_input_kind kind;
    uint32_t tensor;
    path_of(path, "%s/good-z1-bf16-w2-tied-head-first/global_step3/mp_rank_00_model_states.pt",
            fixtures_dir);
    int rc = open_path(path, &model, &kind, &err);
    CHECK_EQ_U64(kind, UZ_INPUT_TORCH);
    if (!CHECK_F(rc == UZ_OK, "%s", err.message))
        return;
    CHECK_EQ_U64(model.n_aliases, 1);
    CHECK(uz_model_find(&model, "odd", 3, &tensor));
    CHECK_EQ_U64(model.tensors[tensor].dtype, UZ_DTYPE_BF16);
    for (size_t i = 0; i + 1 < model.n_tensors; i++)
        CHECK(model.tensors[i].order < model.tensors[i + 1].order);
    uz_model_free(&model);
    path_of(path,
            "%s/good-z1-bf16-w2-tied-head-first/global_step3/"
            "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
            fixtures_dir);
    CHECK_EQ_I64(open_path(path, &model, &kind, &err), UZ_FORMAT);
    CHECK(strstr(err.message, "one shard") != NULL);
}

/* A safetensors file of bytes that count up. */
static void make_safetensors(const char *dir, const char *name, const char *json)
{
    char path[PATH_NBYTES];
    uint64_t n = strlen(json);
    FILE *to = fopen(path_of(path, "%s/%s", dir, name), "wb");
    if (!to)
        abort();
    for (unsigned i = 0; i < 8; i++)
        (void)fputc((int)(n >> (8 * i) & 255), to);
    (void)fputs(json, to);
    for (int i = 0; i < 4; i++)
        (void)fputc(i, to);
    if (fclose(to) != 0)
        abort();
}

static void write_text(const char *dir, const char *name, const char *text)
{
    char path[PATH_NBYTES];
    if (!write_file(path_of(path, "%s/%s", dir, name), text, strlen(text)))
        abort();
}

/* Two files and the index over them; then indexes that are wrong. */
static void test_index(void)
{
    static const struct {
        const char *json;
        int status;
        const char *says;
    } cases[] = {
        {"{\"metadata\":{\"total_size\":8},\"weight_map\":{\"a\":\"1.safetensors\",\"b\":"
         "\"2.safetensors\"}}",
         UZ_OK, NULL},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\"}}", UZ_MISMATCH,
         "b is not in"},
        {"{\"weight_map\":{\"a\":\"2.safetensors\",\"b\":\"1.safetensors\"}}", UZ_MISMATCH,
         "a is in 1"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"2.safetensors\"}}", UZ_MISMATCH,
         "c is not in"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"a\":\"2.safetensors\"}}", UZ_CORRUPT, "twice"},
        {"{\"weight_map\":{\"a\":\"../1.safetensors\"}}", UZ_CORRUPT, "outside"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", UZ_CORRUPT, "outside"},
        {"{\"weight_map\":{\"a\":\"..\"}}", UZ_CORRUPT, "outside"},
        {"{\"weight_map\":{\"a\":\"\"}}", UZ_CORRUPT, "outside"},
        {"{\"weight_map\":{\"a\":\"3.safetensors\"}}", UZ_IO, NULL},
        {"{\"weight_map\":{\"a\":1}}", UZ_CORRUPT, NULL},
        {"{\"weight_map\":{},\"weight_map\":{}}", UZ_CORRUPT, "two weight_map"},
        {"{}", UZ_FORMAT, "no weight_map"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\"}", UZ_CORRUPT, NULL},
        {"{\"weight_map\":{\"a\":\"1.safetensors\"}}x", UZ_CORRUPT, "follow"},
    };
    char dir[PATH_NBYTES], path[PATH_NBYTES];
    path_of(dir, "%s/index", scratch_dir);
    (void)mkdir(dir, 0755);
    make_safetensors(dir, "1.safetensors", "{" T("a", "F32", "", 0, 4) "}");
    make_safetensors(dir, "2.safetensors", "{" T("b", "F32", "", 0, 4) "}");
    path_of(path, "%s/model.safetensors.index.json", dir);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct uz_model model;
        struct uz_error err;
        enum uz_input_kind kind;
        write_text(dir, "model.safetensors.index.json", cases[i].json);
        int rc = open_path(i % 2 ? path : dir, &model, &kind, &err);
        CHECK_EQ_U64(kind, UZ_INPUT_FOLDER);
        CHECK_F(rc == cases[i].status, "%s: %s: %s", cases[i].json, uz_status_name(rc),
                err.message);
        if (cases[i].says)
            CHECK_F(strstr(err.message, cases[i].says) != NULL, "%s", err.message);
        if (rc == UZ_OK) {
            CHECK_EQ_U64(model.n_tensors, 2);
            uz_model_free(&model);
        }
    }
    /* without an index the files are read together */
    struct uz_model model;
    struct uz_error err;
    enum uz_input_kind kind;
    remove_tree(path);
    if (CHECK_EQ_I64(open_path(dir, &model, &kind, &err), UZ_OK)) {
        CHECK_EQ_U64(model.n_tensors, 2);
        uz_model_free(&model);
    }
    make_safetensors(dir, "3.safetensors", "{" T("b", "F32", "", 0, 4) "}");
    CHECK_EQ_I64(open_path(dir, &model, &kind, &err), UZ_CORRUPT);
    CHECK(strstr(err.message, "twice") != NULL && strstr(err.file, "3.safetensors") != NULL);
    /* the usual name stands for itself */
    make_safetensors(
        dir, "model.safetensors",
        "{\"__metadata__\":{\"tied\":\"c\",\"format\":\"pt\"}," T("c", "F32", "", 0, 4) "}");
    if (CHECK_EQ_I64(open_path(dir, &model, &kind, &err), UZ_OK)) {
        CHECK_EQ_U64(model.n_tensors, 1);
        if (CHECK_EQ_U64(model.n_aliases, 1))
            CHECK_EQ_STR(model.aliases[0].name, "tied");
        uz_model_free(&model);
    }
}

static void test_kinds(void)
{
    char dir[PATH_NBYTES], path[PATH_NBYTES];
    enum uz_input_kind kind;
    struct uz_error err;
    path_of(dir, "%s/kinds", scratch_dir);
    (void)mkdir(dir, 0755);
    CHECK_EQ_I64(uz_input_kind(dir, NULL, &kind, &err), UZ_FORMAT);
    CHECK(strstr(err.message, "Unable to find 'latest' file at") != NULL);
    write_text(dir, "pytorch_model.bin", "");
    CHECK_EQ_I64(uz_input_kind(dir, NULL, &kind, NULL), UZ_OK);
    CHECK_EQ_U64(kind, UZ_INPUT_FOLDER);
    (void)mkdir(path_of(path, "%s/zero", dir), 0755);
    write_text(dir, "mp_rank_00_model_states.pt", "");
    CHECK_EQ_I64(uz_input_kind(dir, NULL, &kind, NULL), UZ_OK);
    CHECK_EQ_U64(kind, UZ_INPUT_UNIVERSAL);
    CHECK_EQ_I64(uz_input_kind(dir, "zero", &kind, NULL), UZ_OK);
    CHECK_EQ_U64(kind, UZ_INPUT_ZERO);
    write_text(dir, "latest", "zero");
    CHECK_EQ_I64(uz_input_kind(dir, NULL, &kind, NULL), UZ_OK);
    CHECK_EQ_U64(kind, UZ_INPUT_ZERO);
    CHECK_EQ_I64(uz_input_kind(path_of(path, "%s/absent", dir), NULL, &kind, NULL), UZ_IO);
    CHECK_EQ_STR(uz_input_kind_name(UZ_INPUT_UNIVERSAL), "universal");
    CHECK_EQ_STR(uz_input_kind_name((enum uz_input_kind)99), "unknown");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"headers", test_headers},
        {"values of a header", test_header_values},
        {"damaged headers", test_damaged_headers},
        {"truncated files", test_truncated_file},
        {"JSON", test_json},
        {"fixtures", test_fixtures},
        {"a PyTorch file", test_torch_file},
        {"indexes", test_index},
        {"kinds", test_kinds},
        CU_TEST_INFO_NULL,
    };
    fixtures_find();
    uz_limits_default(&limits);
    scratch_make();
    return check_run("input", tests);
}
