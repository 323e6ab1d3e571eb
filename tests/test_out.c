/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of what goes to an output: dtypes, names, division into files, headers and the index. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "out/items.h"
#include "out/safetensors.h"
#include "out/shards.h"

/* ---- Models without pieces ---- */

static void start(struct uz_model *model)
{
    struct uz_limits limits;
    uz_limits_default(&limits);
    if (uz_model_init(model, &limits, NULL) < 0)
        abort();
}

static uint32_t add(struct uz_model *model, const char *name, enum uz_role role,
                    enum uz_dtype dtype, unsigned ndim, uint64_t rows, uint64_t columns)
{
    const uint64_t shape[] = {rows, columns};
    uint32_t tensor = 0;
    if (uz_model_add_tensor(model, name, strlen(name), role, dtype, ndim, shape, &tensor, NULL) < 0)
        abort();
    return tensor;
}

static void add_alias(struct uz_model *model, const char *name, uint32_t tensor)
{
    if (uz_model_add_alias(model, name, strlen(name), tensor, UINT64_MAX, NULL) < 0)
        abort();
}

/* ---- Dtypes ---- */

static void test_dtypes(void)
{
    enum { F32 = UZ_DTYPE_F32, BF = UZ_DTYPE_BF16, F16 = UZ_DTYPE_F16, NO = UZ_DTYPE_INVALID };
    static const struct {
        enum uz_role role;
        int dtype, lp, want[4]; /* fp32, bf16, fp16, keep */
    } cases[] = {
        {UZ_ROLE_PARAM, F32, BF, {F32, BF, F16, BF}},
        {UZ_ROLE_PARAM, F32, F16, {F32, BF, F16, F16}},
        {UZ_ROLE_PARAM, F32, F32, {F32, BF, F16, F32}},
        {UZ_ROLE_PARAM, F32, NO, {F32, BF, F16, F32}},
        {UZ_ROLE_PARAM, BF, BF, {F32, BF, F16, BF}},
        {UZ_ROLE_FROZEN, BF, BF, {F32, BF, F16, BF}},
        {UZ_ROLE_FROZEN, F16, NO, {F32, BF, F16, F16}},
        {UZ_ROLE_FROZEN, F32, NO, {F32, BF, F16, F32}},
        {UZ_ROLE_BUFFER, F32, NO, {F32, F32, F32, F32}},
        {UZ_ROLE_BUFFER, BF, NO, {BF, BF, BF, BF}},
        {UZ_ROLE_BUFFER, F16, BF, {F16, F16, F16, F16}},
        {UZ_ROLE_BUFFER,
         UZ_DTYPE_I64,
         NO,
         {UZ_DTYPE_I64, UZ_DTYPE_I64, UZ_DTYPE_I64, UZ_DTYPE_I64}},
        {UZ_ROLE_FROZEN,
         UZ_DTYPE_F64,
         UZ_DTYPE_F64,
         {UZ_DTYPE_F64, UZ_DTYPE_F64, UZ_DTYPE_F64, UZ_DTYPE_F64}},
        {UZ_ROLE_PARAM,
         UZ_DTYPE_F8_E5M2,
         BF,
         {UZ_DTYPE_F8_E5M2, UZ_DTYPE_F8_E5M2, UZ_DTYPE_F8_E5M2, UZ_DTYPE_F8_E5M2}},
        {UZ_ROLE_FROZEN,
         UZ_DTYPE_BOOL,
         NO,
         {UZ_DTYPE_BOOL, UZ_DTYPE_BOOL, UZ_DTYPE_BOOL, UZ_DTYPE_BOOL}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (unsigned policy = 0; policy < 4; policy++) {
            const struct uz_tensor tensor = {.role = cases[i].role,
                                             .dtype = (enum uz_dtype)cases[i].dtype,
                                             .lp_dtype = (enum uz_dtype)cases[i].lp};
            enum uz_dtype got = uz_output_dtype(&tensor, (enum uz_dtype_policy)policy);
            CHECK_F(got == (enum uz_dtype)cases[i].want[policy], "case %zu, policy %u: got %s", i,
                    policy, uz_dtype_name(got));
        }
}

static void test_dtype_table(void)
{
    for (int i = -1; i <= UZ_DTYPE_COUNT; i++) {
        enum uz_dtype dtype = (enum uz_dtype)i;
        bool valid = i > 0 && i < UZ_DTYPE_COUNT;
        size_t nbytes = uz_dtype_size(dtype);
        CHECK_EQ_I64(nbytes > 0, valid);
        CHECK_EQ_I64(uz_dtype_safetensors_name(dtype) != NULL, valid);
        CHECK_EQ_I64(uz_dtype_parse(uz_dtype_name(dtype)), valid ? i : 0);
        if (i > 1 && valid) /* alignment grows with the number */
            CHECK(nbytes >= uz_dtype_size((enum uz_dtype)(i - 1)));
    }
    CHECK_EQ_I64(uz_dtype_parse("bfloat16"), UZ_DTYPE_BF16);
    CHECK_EQ_I64(uz_dtype_parse("float8_e4m3fn"), UZ_DTYPE_F8_E4M3FN);
    CHECK_EQ_I64(uz_dtype_parse("FP32"), UZ_DTYPE_INVALID);
    CHECK_EQ_I64(uz_dtype_parse(""), UZ_DTYPE_INVALID);
    CHECK(uz_dtype_is_float(UZ_DTYPE_F64) && !uz_dtype_is_castable(UZ_DTYPE_F64));
    CHECK(!uz_dtype_is_float(UZ_DTYPE_I64) && !uz_dtype_is_float(UZ_DTYPE_INVALID));
}

/* ---- Names ---- */

static void test_tied_names(void)
{
    static const struct {
        const char *holder, *aliases[2], *kept;
    } cases[] = {
        {"head.weight", {"model.body.weight"}, "head.weight"},
        {"lm_head.weight", {"model.embed_tokens.weight"}, "model.embed_tokens.weight"},
        {"lm_head.weight", {"transformer.wte.weight"}, "transformer.wte.weight"},
        {"lm_head.weight", {"shared.weight"}, "shared.weight"},
        {"lm_head.weight", {"word_embeddings"}, "word_embeddings"},
        {"model.embed_tokens.weight", {"lm_head.weight"}, "model.embed_tokens.weight"},
        {"shared.weight", {"encoder.embed_tokens.weight"}, "shared.weight"},
        {"lm_head.weight", {"x", "decoder.embed_in.weight"}, "decoder.embed_in.weight"},
        {"lm_head.weight", {"a.embed.weight", "b.embed.weight"}, "a.embed.weight"},
        {"head", {"wtex.weight"}, "head"}, /* whole parts only */
        {"head", {"notshared.weight"}, "head"},
        {"head", {"a.wte"}, "a.wte"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct uz_model model;
        struct uz_items items;
        size_t n_aliases = cases[i].aliases[1] ? 2 : 1;
        start(&model);
        uint32_t tensor = add(&model, cases[i].holder, UZ_ROLE_PARAM, UZ_DTYPE_F32, 1, 3, 0);
        for (size_t k = 0; k < n_aliases; k++)
            add_alias(&model, cases[i].aliases[k], tensor);
        CHECK_EQ_I64(uz_items_select(&items, &model,
                                     &(const struct uz_items_options){.policy = UZ_POLICY_FP32},
                                     NULL, NULL),
                     UZ_OK);
        CHECK_EQ_U64(items.n, 1);
        CHECK_EQ_STR(items.items[0].name, cases[i].kept);
        CHECK_EQ_U64(items.items[0].nbytes, 12);
        CHECK_EQ_U64(items.n_dropped, n_aliases);
        for (size_t k = 0; k < items.n_dropped; k++) {
            CHECK_EQ_STR(items.dropped[k].kept, cases[i].kept);
            CHECK(strcmp(items.dropped[k].name, cases[i].kept) != 0);
        }
        uz_items_free(&items);
        uz_model_free(&model);
    }
}

static void test_exclude_frozen(void)
{
    struct uz_model model;
    struct uz_items items;
    struct uz_error err;
    start(&model);
    uint32_t frozen = add(&model, "ice", UZ_ROLE_FROZEN, UZ_DTYPE_BF16, 2, 2, 3);
    add_alias(&model, "also.ice", frozen);
    CHECK_EQ_I64(uz_items_select(&items, &model,
                                 &(const struct uz_items_options){.policy = UZ_POLICY_FP32,
                                                                  .exclude_frozen = true},
                                 NULL, &err),
                 UZ_ARG);
    uz_items_free(&items);
    add(&model, "steps", UZ_ROLE_BUFFER, UZ_DTYPE_I64, 0, 0, 0);
    add(&model, "fire", UZ_ROLE_PARAM, UZ_DTYPE_F64, 1, 2, 0);
    add(&model, "air", UZ_ROLE_FROZEN, UZ_DTYPE_BF16, 1, 0, 0); /* empty: not what is meant */
    CHECK_EQ_I64(uz_items_select(&items, &model,
                                 &(const struct uz_items_options){.policy = UZ_POLICY_BF16,
                                                                  .exclude_frozen = true},
                                 NULL, &err),
                 UZ_OK);
    CHECK_EQ_U64(items.n, 3);
    CHECK_EQ_U64(items.n_excluded, 1);
    CHECK_EQ_U64(items.n_dropped, 0);
    CHECK_EQ_U64(items.n_as_stored, 1);
    CHECK_EQ_STR(items.items[1].name, "fire");
    CHECK_EQ_U64(items.items[1].tensor, 2);
    uz_items_free(&items);
    CHECK_EQ_I64(uz_items_select(&items, &model,
                                 &(const struct uz_items_options){.policy = UZ_POLICY_BF16}, NULL,
                                 &err),
                 UZ_OK);
    CHECK_EQ_U64(items.n, 4);
    CHECK_EQ_U64(items.items[0].nbytes, 12);
    uz_items_free(&items);
    uz_model_free(&model);
}

/* ---- Shards ---- */

/* Numbers as huggingface_hub 0.36.2 gives them for the same sizes. */
static void test_split(void)
{
    static const struct {
        uint64_t limit;
        size_t n;
        uint64_t nbytes[6];
        uint32_t want[6], n_shards;
    } cases[] = {
        {10, 3, {4, 4, 4}, {0, 0, 1}, 2},
        {10, 3, {4, 6, 1}, {0, 0, 1}, 2},
        {10, 3, {11, 4, 4}, {0, 1, 1}, 2},
        {10, 4, {4, 11, 4, 4}, {1, 0, 1, 2}, 3},
        {10, 6, {4, 11, 12, 4, 4, 10}, {2, 0, 1, 2, 3, 4}, 5},
        {10, 2, {10, 10}, {0, 1}, 2},
        {10, 4, {0, 10, 0, 1}, {0, 0, 0, 1}, 2},
        {10, 2, {11, 12}, {0, 1}, 2},
        {10, 2, {4, 11}, {1, 0}, 2},
        {1, 5, {0, 2, 0, 1, 1}, {1, 0, 1, 1, 2}, 3},
        {10, 6, {5, 5, 5, 11, 5, 5}, {0, 0, 2, 1, 2, 3}, 4},
        {0, 3, {4, 1000, 4}, {0, 0, 0}, 1}, /* no limit */
        {1000, 3, {4, 4, 4}, {0, 0, 0}, 1},
        {10, 0, {0}, {0}, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct uz_item list[6] = {{0}};
        const struct uz_items items = {.items = list, .n = cases[i].n};
        uint32_t got[6] = {0}, n_shards = 77;
        for (size_t k = 0; k < items.n; k++)
            list[k] = (struct uz_item){.nbytes = cases[i].nbytes[k], .holder = k};
        uz_split_shards(&items, cases[i].limit, got, &n_shards);
        CHECK_F(n_shards == cases[i].n_shards, "case %zu: %u shards", i, n_shards);
        CHECK_F(!memcmp(got, cases[i].want, items.n * sizeof *got), "case %zu: other numbers", i);
    }
}

/* ---- safetensors ---- */

#define ODD_NAME "q\"\\/\b\f\n\r\t\x01\x1f\x7f\xc3\xa4\xe2\x80\xa8\xf0\x9f\x98\x80<&"

/* What safetensors.torch.save of safetensors 0.8.0 writes for the same tensors. */
static const char library_header[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"z\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]},"
    "\"d\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[8,16]},"
    "\"e\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[16,16]},"
    "\"m.x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[16,24]},"
    "\"i32\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[24,28]},"
    "\"a\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[28,36]},"
    "\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[36,42]},"
    "\"h\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[42,44]},"
    "\"i16\":{\"dtype\":\"I16\",\"shape\":[1],\"data_offsets\":[44,46]},"
    "\"i8\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[46,47]},"
    "\"q\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\xc3\xa4\xe2\x80\xa8\xf0\x9f\x98\x80<&\":"
    "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[47,48]},"
    "\"u8\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[48,51]},"
    "\"s\":{\"dtype\":\"BOOL\",\"shape\":[],\"data_offsets\":[51,52]}}";

static void add_one_of_each(struct uz_model *model)
{
    static const struct {
        const char *name;
        enum uz_dtype dtype;
        unsigned ndim;
        uint64_t shape[2];
    } tensors[] = {
        {"b", UZ_DTYPE_BF16, 1, {3}},    {"a", UZ_DTYPE_BF16, 2, {2, 2}},
        {"z", UZ_DTYPE_I64, 1, {1}},     {"m.x", UZ_DTYPE_F32, 1, {2}},
        {"e", UZ_DTYPE_F32, 2, {0, 5}},  {"s", UZ_DTYPE_BOOL, 0, {0}},
        {"h", UZ_DTYPE_F16, 1, {1}},     {"u8", UZ_DTYPE_U8, 1, {3}},
        {"i32", UZ_DTYPE_I32, 0, {0}},   {"d", UZ_DTYPE_F64, 1, {1}},
        {"i16", UZ_DTYPE_I16, 1, {1}},   {"i8", UZ_DTYPE_I8, 1, {1}},
        {ODD_NAME, UZ_DTYPE_U8, 1, {1}},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++)
        add(model, tensors[i].name, UZ_ROLE_BUFFER, tensors[i].dtype, tensors[i].ndim,
            tensors[i].shape[0], tensors[i].shape[1]);
}

/* Selects all of the model and lays it out; both are to be freed. */
static int lay_out(struct uz_out *out, struct uz_items *items, const struct uz_model *model,
                   uint64_t max_shard_bytes, uint64_t max_header_bytes, struct uz_error *err)
{
    const struct uz_files_options options = {.max_shard_bytes = max_shard_bytes,
                                             .max_header_bytes = max_header_bytes};
    int rc = uz_items_select(items, model,
                             &(const struct uz_items_options){.policy = UZ_POLICY_FP32}, NULL, err);
    *out = (struct uz_out){0};
    return rc < 0 ? rc : uz_safetensors_layout(out, items, model, &options, err);
}

/* `want` without the spaces at its end. */
static void check_head(const struct uz_out_file *file, const char *want)
{
    size_t n = strlen(want), padded = (n + 7) / 8 * 8;
    uint64_t nbytes = 0;
    for (unsigned i = 0; i < 8; i++)
        nbytes |= (uint64_t)(unsigned char)file->head[i] << (8 * i);
    CHECK_EQ_U64(nbytes, padded);
    if (!CHECK_EQ_U64(file->head_nbytes, 8 + padded))
        return;
    CHECK_F(!memcmp(file->head + 8, want, n), "got  %.*s\nwant %s", (int)nbytes, file->head + 8,
            want);
    for (size_t i = n; i < padded; i++)
        CHECK_EQ_I64(file->head[8 + i], ' ');
}

static void test_header_of_the_library(void)
{
    struct uz_model model;
    struct uz_items items;
    struct uz_out out;
    start(&model);
    add_one_of_each(&model);
    CHECK_EQ_I64(lay_out(&out, &items, &model, 0, 800, NULL), UZ_OK);
    if (CHECK_EQ_U64(out.n_files, 1)) {
        uint64_t place = out.files[0].head_nbytes;
        CHECK_EQ_STR(out.files[0].name, "model.safetensors");
        check_head(&out.files[0], library_header);
        CHECK_EQ_U64(out.files[0].nbytes, 808 + 52);
        CHECK_EQ_U64(out.files[0].n_tensors, 13);
        CHECK_EQ_U64(out.files[0].n_targets, 12); /* one has no elements */
        for (size_t i = 0; i < out.n_targets; i++) {
            CHECK_EQ_U64(out.targets[i].offset, place);
            place += out.targets[i].n_elems * uz_dtype_size(out.targets[i].dtype);
        }
        CHECK_EQ_U64(place, out.files[0].nbytes);
        CHECK_EQ_U64(out.data_nbytes, 52);
    }
    uz_out_free(&out);
    uz_items_free(&items);
    uz_model_free(&model);
}

static void test_header_limit(void)
{
    struct uz_model model;
    struct uz_items items;
    struct uz_out out;
    struct uz_error err;
    start(&model);
    add_one_of_each(&model);
    CHECK_EQ_I64(lay_out(&out, &items, &model, 0, 799, &err), UZ_LIMIT);
    CHECK(strstr(err.message, "--max-shard-size") != NULL);
    uz_out_free(&out);
    uz_items_free(&items);
    uz_model_free(&model);
}

static void test_several_files(void)
{
    static const char index[] = "{\n  \"metadata\": {\n    \"total_size\": 36\n  },\n"
                                "  \"weight_map\": {\n"
                                "    \"a\": \"model-00002-of-00003.safetensors\",\n"
                                "    \"big\": \"model-00001-of-00003.safetensors\",\n"
                                "    \"wte\": \"model-00003-of-00003.safetensors\",\n"
                                "    \"z\\\"\": \"model-00002-of-00003.safetensors\"\n  }\n}\n";
    struct uz_model model;
    struct uz_items items;
    struct uz_out out;
    start(&model);
    add(&model, "z\"", UZ_ROLE_PARAM, UZ_DTYPE_F32, 1, 1, 0);
    add(&model, "big", UZ_ROLE_PARAM, UZ_DTYPE_F32, 1, 4, 0);
    add(&model, "a", UZ_ROLE_PARAM, UZ_DTYPE_BF16, 1, 2, 0);
    add_alias(&model, "wte", add(&model, "head", UZ_ROLE_PARAM, UZ_DTYPE_F32, 1, 2, 0));
    CHECK_EQ_I64(lay_out(&out, &items, &model, 12, 1000, NULL), UZ_OK);
    if (CHECK_EQ_U64(out.n_files, 4)) {
        CHECK_EQ_STR(out.files[0].name, "model-00001-of-00003.safetensors");
        CHECK_EQ_STR(out.files[2].name, "model-00003-of-00003.safetensors");
        CHECK_EQ_STR(out.files[3].name, "model.safetensors.index.json");
        check_head(&out.files[0], "{\"__metadata__\":{\"format\":\"pt\"},"
                                  "\"big\":{\"dtype\":\"F32\",\"shape\":[4],"
                                  "\"data_offsets\":[0,16]}}");
        check_head(&out.files[2], "{\"__metadata__\":{\"format\":\"pt\",\"head\":\"wte\"},"
                                  "\"wte\":{\"dtype\":\"F32\",\"shape\":[2],"
                                  "\"data_offsets\":[0,8]}}");
        CHECK_EQ_U64(out.files[1].n_tensors, 2);
        CHECK_EQ_U64(out.files[3].nbytes, strlen(index));
        CHECK_EQ_U64(out.files[3].n_targets, 0);
        CHECK_F(!strncmp(out.files[3].head, index, strlen(index)), "got %.*s",
                (int)out.files[3].nbytes, out.files[3].head);
    }
    uz_out_free(&out);
    uz_items_free(&items);
    uz_model_free(&model);
}

/* Names that the format or its readers treat specially, and one that is empty. */
static void test_odd_names(void)
{
    struct uz_model model;
    struct uz_items items;
    struct uz_out out;
    struct uz_error err;
    start(&model);
    add(&model, "", UZ_ROLE_PARAM, UZ_DTYPE_F32, 0, 0, 0);
    add(&model, "__metadata__.x", UZ_ROLE_PARAM, UZ_DTYPE_F32, 0, 0, 0);
    CHECK_EQ_I64(lay_out(&out, &items, &model, 0, 1000, &err), UZ_OK);
    check_head(&out.files[0], "{\"__metadata__\":{\"format\":\"pt\"},"
                              "\"\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                              "\"__metadata__.x\":{\"dtype\":\"F32\",\"shape\":[],"
                              "\"data_offsets\":[4,8]}}");
    uz_out_free(&out);
    uz_items_free(&items);
    add(&model, "__metadata__", UZ_ROLE_PARAM, UZ_DTYPE_F32, 0, 0, 0);
    CHECK_EQ_I64(lay_out(&out, &items, &model, 0, 1000, &err), UZ_UNSUPPORTED);
    CHECK(strstr(err.message, "__metadata__") != NULL);
    uz_out_free(&out);
    uz_items_free(&items);
    uz_model_free(&model);
}

/* An alias named `format` must not give the header's metadata one key twice. */
static void test_alias_named_format(void)
{
    struct uz_model model;
    struct uz_items items;
    struct uz_out out;
    start(&model);
    add_alias(&model, "format", add(&model, "x", UZ_ROLE_PARAM, UZ_DTYPE_F32, 0, 0, 0));
    CHECK_EQ_I64(lay_out(&out, &items, &model, 0, 1000, NULL), UZ_OK);
    check_head(&out.files[0], "{\"__metadata__\":{\"format\":\"pt\"},\"x\":{\"dtype\":\"F32\","
                              "\"shape\":[],\"data_offsets\":[0,4]}}");
    uz_out_free(&out);
    uz_items_free(&items);
    uz_model_free(&model);
}

static void test_too_many_files(void)
{
    enum { N = 100000 };
    struct uz_model model;
    struct uz_items items = {.n = N};
    struct uz_out out;
    struct uz_error err;
    const struct uz_files_options options = {.max_shard_bytes = 1, .max_header_bytes = 1000};
    start(&model);
    items.items = calloc(N, sizeof *items.items);
    if (!items.items)
        abort();
    add(&model, "x", UZ_ROLE_PARAM, UZ_DTYPE_U8, 1, 1, 0);
    for (size_t i = 0; i < N; i++)
        items.items[i] =
            (struct uz_item){.name = "x", .dtype = UZ_DTYPE_U8, .nbytes = 1, .holder = i};
    CHECK_EQ_I64(uz_safetensors_layout(&out, &items, &model, &options, &err), UZ_ARG);
    CHECK_EQ_U64(out.n_files, 0);
    uz_out_free(&out);
    uz_items_free(&items);
    uz_model_free(&model);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"dtypes of an output", test_dtypes},
        {"the table of dtypes", test_dtype_table},
        {"names of tied tensors", test_tied_names},
        {"frozen parameters left out", test_exclude_frozen},
        {"division into shards", test_split},
        {"the header that the library writes", test_header_of_the_library},
        {"a header beyond the limit", test_header_limit},
        {"several files and the index", test_several_files},
        {"odd names", test_odd_names},
        {"an alias named format", test_alias_named_format},
        {"more files than can be numbered", test_too_many_files},
        CU_TEST_INFO_NULL,
    };
    return check_run("out", tests);
}
