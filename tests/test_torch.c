/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of tensors, shapes and numbers in PyTorch files made here, and of all good fixtures. */
#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "torch/file.h"
#include "torch_maker.h"

static void test_view(void)
{
    const struct spec spec = {
        .numel = 12, .first = 1, .ndim = 3, .shape = {2, 1, 3}, .stride = {5, 9, 2}};
    struct uz_view view;
    struct uz_error err;
    size_t nbytes;
    if (!CHECK_F(resolve_spec(&spec, 48, &view, &err) == UZ_OK, "%s", err.message))
        return;
    uint8_t *data = read_whole(&nbytes);
    CHECK(view.dtype == UZ_DTYPE_F32 && view.ndim == 3 && !view.contiguous);
    CHECK_EQ_U64(view.shape[0], 2);
    CHECK_EQ_U64(view.shape[2], 3);
    CHECK_EQ_U64(view.stride[0], 5);
    CHECK_EQ_U64(view.first, 1);
    CHECK_EQ_U64(view.numel, 6);
    CHECK_EQ_U64(view.storage.nbytes, 48);
    CHECK(view.storage.packing == UZ_PACKED_STORED && !view.storage.big_endian);
    if (CHECK(view.storage.offset + 48 < nbytes))
        CHECK(data[view.storage.offset] == 0 && data[view.storage.offset + 47] == 47);
    free(data);
    CHECK(resolve_spec(&plain, 24, &view, &err) == UZ_OK && view.contiguous);
}

static void test_dtypes(void)
{
    static const struct {
        const char *class, *dtype;
        enum uz_dtype want;
    } cases[] = {
        {"torch\nFloatStorage\n", NULL, UZ_DTYPE_F32},
        {"torch\nHalfStorage\n", NULL, UZ_DTYPE_F16},
        {"torch\nBFloat16Storage\n", NULL, UZ_DTYPE_BF16},
        {"torch\nDoubleStorage\n", NULL, UZ_DTYPE_F64},
        {"torch\nLongStorage\n", NULL, UZ_DTYPE_I64},
        {"torch\nIntStorage\n", NULL, UZ_DTYPE_I32},
        {"torch\nShortStorage\n", NULL, UZ_DTYPE_I16},
        {"torch\nCharStorage\n", NULL, UZ_DTYPE_I8},
        {"torch\nByteStorage\n", NULL, UZ_DTYPE_U8},
        {"torch\nBoolStorage\n", NULL, UZ_DTYPE_BOOL},
        {"torch.storage\nUntypedStorage\n", "uint16", UZ_DTYPE_U16},
        {"torch.storage\nUntypedStorage\n", "uint32", UZ_DTYPE_U32},
        {"torch.storage\nUntypedStorage\n", "uint64", UZ_DTYPE_U64},
        {"torch.storage\nUntypedStorage\n", "float8_e4m3fn", UZ_DTYPE_F8_E4M3FN},
        {"torch.storage\nUntypedStorage\n", "float8_e5m2", UZ_DTYPE_F8_E5M2},
        {"torch.storage\nUntypedStorage\n", "float8_e4m3fnuz", UZ_DTYPE_F8_E4M3FNUZ},
        {"torch.storage\nUntypedStorage\n", "float8_e5m2fnuz", UZ_DTYPE_F8_E5M2FNUZ},
        {"torch.storage\nUntypedStorage\n", "float8_e8m0fnu", UZ_DTYPE_F8_E8M0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t itemsize = uz_dtype_size(cases[i].want);
        struct spec spec = plain;
        struct uz_view view;
        struct uz_error err;
        spec.class = cases[i].class;
        spec.dtype = cases[i].dtype;
        /* An untyped storage is counted in bytes. */
        spec.numel = (int64_t)(cases[i].dtype ? 6 * itemsize : 6);
        if (CHECK_F(resolve_spec(&spec, 6 * itemsize, &view, &err) == UZ_OK, "case %zu: %s", i,
                    err.message))
            CHECK_F(view.dtype == cases[i].want, "case %zu: %s", i, uz_dtype_name(view.dtype));
    }
}

static void test_wrappers(void)
{
    struct buf pickle = {.nbytes = 0};
    struct uz_view view;
    struct uz_error err;
    /* _rebuild_parameter_with_state(_rebuild_parameter(from_type_v2(...)), True, {}, {}) */
    PUT(&pickle, "ctorch._utils\n_rebuild_parameter_with_state\n("
                 "ctorch._utils\n_rebuild_parameter\n("
                 "ctorch._tensor\n_rebuild_from_type_v2\n("
                 "ctorch._utils\n_rebuild_tensor_v2\nctorch\nTensor\n");
    put_tensor(&pickle, &plain);
    PUT(&pickle, "0"); /* only its arguments are wanted: they follow */
    PUT(&pickle, "((\x8c\x07storagectorch\nFloatStorage\n\x8c\x01"
                 "0\x8c\x03"
                 "cpuK\x06tQK\x00K\x02K\x03\x86K\x03K\x01\x86\x89}t"
                 "}tR\x88}tR\x88}}tR.");
    write_file(&pickle, 24, false);
    CHECK_F(resolve(&view, &err) == UZ_OK, "%s", err.message);
    CHECK_EQ_U64(view.numel, 6);

    pickle.nbytes = 0; /* twenty parameters around it */
    for (int i = 0; i < 20; i++)
        PUT(&pickle, "ctorch._utils\n_rebuild_parameter\n");
    put_tensor(&pickle, &plain);
    for (int i = 0; i < 20; i++)
        PUT(&pickle, "\x85R");
    PUT(&pickle, ".");
    write_file(&pickle, 24, false);
    CHECK_EQ_I64(resolve(&view, &err), UZ_UNSUPPORTED);
}

static void test_bounds(void)
{
    const int64_t huge = INT64_MAX;
    const struct {
        struct spec spec;
        int status;
    } cases[] = {
        {{.numel = 6, .first = 5, .ndim = 0}, UZ_OK},
        {{.numel = 6, .first = 6, .ndim = 0}, UZ_CORRUPT},
        {{.numel = 6, .first = 6, .ndim = 1, .shape = {0}, .stride = {1}}, UZ_OK},
        {{.numel = 6, .first = 7, .ndim = 1, .shape = {0}, .stride = {1}}, UZ_CORRUPT},
        {{.numel = 6, .first = 4, .ndim = 1, .shape = {2}, .stride = {1}}, UZ_OK},
        {{.numel = 6, .first = 5, .ndim = 1, .shape = {2}, .stride = {1}}, UZ_CORRUPT},
        {{.numel = 6, .first = 0, .ndim = 2, .shape = {2, 3}, .stride = {4, 1}}, UZ_CORRUPT},
        {{.numel = 6, .ndim = 1, .shape = {huge}, .stride = {0}}, UZ_OK}, /* expanded */
        {{.numel = 6, .ndim = 2, .shape = {huge, huge}, .stride = {0, 0}}, UZ_CORRUPT},
        {{.numel = 6, .ndim = 2, .shape = {huge, 3}, .stride = {huge, 1}}, UZ_CORRUPT},
        {{.numel = 6, .first = huge, .ndim = 1, .shape = {3}, .stride = {huge}}, UZ_CORRUPT},
        {{.numel = 6, .ndim = 2, .shape = {huge, 0}, .stride = {huge, 1}}, UZ_OK},
        {{.numel = 6, .first = -1, .ndim = 0}, UZ_CORRUPT},
        {{.numel = 6, .ndim = 1, .shape = {-2}, .stride = {1}}, UZ_CORRUPT},
        {{.numel = 6, .ndim = 1, .shape = {2}, .stride = {-1}}, UZ_CORRUPT},
        {{.numel = 6, .ndim = 2, .shape = {2, 3}, .stride = {3}, .n_strides = 1}, UZ_CORRUPT},
        {{.numel = 6, .ndim = 1, .shape = {2}, .n_strides = SIZE_MAX}, UZ_CORRUPT},
        {{.numel = 5, .ndim = 0}, UZ_CORRUPT}, /* the entry has 24 bytes */
        {{.numel = 7, .ndim = 0}, UZ_CORRUPT},
        {{.numel = -6, .ndim = 0}, UZ_CORRUPT},
        {{.numel = huge, .ndim = 0}, UZ_CORRUPT},
        {{.numel = 6, .key = "1", .ndim = 0}, UZ_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct uz_view view;
        struct uz_error err;
        int rc = resolve_spec(&cases[i].spec, 24, &view, &err);
        CHECK_F(rc == cases[i].status, "case %zu: %s", i, err.message);
        if (rc != UZ_OK) {
            CHECK_F(strstr(err.message, "w: ") == err.message, "case %zu: %s", i, err.message);
            CHECK_EQ_STR(err.file, path);
        }
    }
}

static void test_refused(void)
{
    static const struct {
        struct spec spec;
        int status;
        const char *part;
    } cases[] = {
        {{.class = "torch\nComplexFloatStorage\n"}, UZ_UNSUPPORTED, "ComplexFloatStorage"},
        {{.class = "torch\nQInt8Storage\n"}, UZ_UNSUPPORTED, "torch.QInt8Storage"},
        {{.class = "other\nFloatStorage\n"}, UZ_UNSUPPORTED, "class other.FloatStorage"},
        {{.class = "torch.storage\nUntypedStorage\n"}, UZ_CORRUPT, "no dtype"},
        {{.dtype = "complex64"}, UZ_UNSUPPORTED, "torch.complex64"},
        {{.metadata = "}\x8c\x04"
                      "conj\x88s"},
         UZ_UNSUPPORTED,
         "conj"},
        {{.metadata = "}\x8c\x03neg\x88s"}, UZ_UNSUPPORTED, "neg"},
        {{.metadata = "]"}, UZ_CORRUPT, "a list"},
        {{.metadata = "NN"}, UZ_CORRUPT, "8 arguments"},
        {{.function = "torch._utils\n_rebuild_sparse_tensor\n"}, UZ_UNSUPPORTED, "sparse"},
        {{.function = "torch._utils\n_rebuild_qtensor\n"}, UZ_UNSUPPORTED, "_rebuild_qtensor"},
        {{.function = "torch._utils\n_rebuild_\x1b[2J\n"}, UZ_UNSUPPORTED, "\\x1b[2J"},
        {{.function = "torch._utils\n_rebuild_parameter\n"}, UZ_CORRUPT, "no tensor"},
        {{.function = "torch._tensor\n_rebuild_from_type_v2\n"}, UZ_CORRUPT, "6 values"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct spec spec = cases[i].spec;
        struct uz_view view;
        struct uz_error err;
        spec.numel = 6;
        CHECK_F(resolve_spec(&spec, 24, &view, &err) == cases[i].status, "case %zu: %s", i,
                err.message);
        CHECK_F(strstr(err.message, cases[i].part) != NULL, "case %zu: %s", i, err.message);
    }
    struct spec fine = plain;
    struct uz_view view;
    struct uz_error err;
    fine.metadata = "}\x8c\x04"
                    "conj\x89s";
    CHECK_F(resolve_spec(&fine, 24, &view, &err) == UZ_OK, "%s", err.message);
}

static void test_shapes(void)
{
    static const struct {
        const char *pickle;
        int status;
        unsigned ndim;
    } cases[] = {
        {"K\x02K\x03\x86.", UZ_OK, 2},
        {"](K\x02K\x03K\x04"
         "e.",
         UZ_OK, 3},
        {"ctorch\nSize\n(K\x02K\x03t\x85R.", UZ_OK, 2},
        {"ctorch\nSize\n)\x85R.", UZ_OK, 0},
        {"ctorch\nSize\n)R.", UZ_CORRUPT, 0},
        {"(NK\x03t.", UZ_CORRUPT, 0},
        {"(J\xff\xff\xff\xfft.", UZ_CORRUPT, 0},
        {"N.", UZ_CORRUPT, 0},
        {"(K\x02"
         "2222222222222222222222222222222222222222222222222222222222222222t.",
         UZ_UNSUPPORTED, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf pickle = {.nbytes = 0};
        struct uz_torch_file *file;
        struct uz_error err;
        unsigned ndim = 0;
        uint64_t shape[UZ_MAX_NDIM];
        put(&pickle, cases[i].pickle, strlen(cases[i].pickle));
        write_file(&pickle, 0, false);
        if (!CHECK_F(open_file(&file, &err) == UZ_OK, "case %zu: %s", i, err.message))
            continue;
        int rc = uz_torch_shape(file, uz_torch_root(file), "s", &ndim, shape, &err);
        CHECK_F(rc == cases[i].status, "case %zu: %s", i, err.message);
        CHECK_EQ_U64(ndim, cases[i].ndim);
        if (ndim >= 2)
            CHECK(shape[0] == 2 && shape[1] == 3);
        uz_torch_close(file);
    }
}

/* The number that a tensor of one element holds, whose bytes are `data`. */
static double number_of(const char *class, const char *dtype, const void *data, size_t nbytes,
                        bool big_endian, bool deflated)
{
    struct spec spec = {.class = class, .dtype = dtype, .numel = dtype ? (int64_t)nbytes : 1};
    struct buf pickle = {.nbytes = 0};
    struct uz_torch_file *file;
    struct uz_error err;
    double value = -77;
    put_tensor(&pickle, &spec);
    PUT(&pickle, ".");
    struct entry entries[] = {{"r/data.pkl", pickle.data, pickle.nbytes},
                              {"r/byteorder", big_endian ? "big" : "little", big_endian ? 3 : 6},
                              {"r/data/0", data, nbytes}};
    write_zip(entries, 3, deflated);
    if (CHECK_F(open_file(&file, &err) == UZ_OK, "%s", err.message))
        CHECK_F(uz_torch_number(file, uz_torch_root(file), "n", &value, &err) == UZ_OK, "%s",
                err.message);
    uz_torch_close(file);
    return value;
}

#define CHECK_NUMBER(want, class, dtype, bytes, ...)                                               \
    do {                                                                                           \
        double got_ = number_of("torch" class "\n", dtype, bytes, sizeof(bytes) - 1, __VA_ARGS__); \
        CHECK_F(!(got_ < (want)) && !(got_ > (want)), "%s: %g", class, got_);                      \
    } while (0)

static void test_numbers(void)
{
    CHECK_NUMBER(7.0, "\nFloatStorage", NULL, "\x00\x00\xe0\x40", false, false);
    CHECK_NUMBER(7.0, "\nFloatStorage", NULL, "\x40\xe0\x00\x00", true, false);
    CHECK_NUMBER(7.0, "\nFloatStorage", NULL, "\x00\x00\xe0\x40", false, true);
    CHECK_NUMBER(7.0, "\nDoubleStorage", NULL, "\0\0\0\0\0\0\x1c\x40", false, false);
    CHECK_NUMBER(7.0, "\nBFloat16Storage", NULL, "\xe0\x40", false, false);
    CHECK_NUMBER(-1.5, "\nHalfStorage", NULL, "\x00\xbe", false, false);
    CHECK_NUMBER(0x1p-24, "\nHalfStorage", NULL, "\x01\x00", false, false);
    CHECK_NUMBER((double)INFINITY, "\nHalfStorage", NULL, "\x00\x7c", false, false);
    CHECK(isnan(number_of("torch\nHalfStorage\n", NULL, "\x01\x7c", 2, false, false)));
    CHECK_NUMBER(-2.0, "\nLongStorage", NULL, "\xfe\xff\xff\xff\xff\xff\xff\xff", false, false);
    CHECK_NUMBER(-2.0, "\nIntStorage", NULL, "\xff\xff\xff\xfe", true, false);
    CHECK_NUMBER(-2.0, "\nShortStorage", NULL, "\xfe\xff", false, false);
    CHECK_NUMBER(-2.0, "\nCharStorage", NULL, "\xfe", false, false);
    CHECK_NUMBER(254.0, "\nByteStorage", NULL, "\xfe", false, false);
    CHECK_NUMBER(1.0, "\nBoolStorage", NULL, "\x01", false, false);
    CHECK_NUMBER(65534.0, ".storage\nUntypedStorage", "uint16", "\xfe\xff", false, false);
}

/* Resolves every tensor of a file. A graph may share nodes endlessly, so visits are counted. */
static size_t walk(struct uz_torch_file *file)
{
    enum { MAX_PENDING = 200000 };
    static const struct uz_node *pending[MAX_PENDING];
    size_t n = 0, n_tensors = 0;
    pending[n++] = uz_torch_root(file);
    for (size_t visits = 0; n > 0 && visits < 20000; visits++) {
        const struct uz_node *node = pending[--n];
        const struct uz_seq *seq = uz_node_seq(node);
        const struct uz_dict *dict = uz_node_dict(node);
        struct uz_view view;
        struct uz_error err;
        if (uz_torch_is_tensor(node)) {
            CHECK_F(uz_torch_tensor(file, node, "tensor", &view, &err) == UZ_OK, "%s: %s",
                    uz_torch_path(file), err.message);
            n_tensors++;
        }
        for (size_t i = 0; seq && i < seq->n && n < MAX_PENDING; i++)
            pending[n++] = seq->items[i];
        for (size_t i = 0; dict && i < dict->n && n < MAX_PENDING; i++)
            pending[n++] = dict->pairs[i].value;
    }
    return n_tensors;
}

static void test_fixtures(void)
{
    const char *srcdir = getenv("srcdir");
    char pattern[1024];
    glob_t found;
    size_t n_tensors = 0;
    struct uz_limits limits;
    uz_limits_default(&limits);
    snprintf(pattern, sizeof pattern, "%s/fixtures/good-*/*/*.pt", srcdir ? srcdir : ".");
    if (!CHECK_F(glob(pattern, 0, NULL, &found) == 0, "%s: nothing found", pattern))
        return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct uz_torch_file *file = NULL;
        struct uz_error err;
        if (strstr(found.gl_pathv[i], "foreign-files"))
            continue; /* holds files that are broken on purpose */
        if (CHECK_F(uz_torch_open(&file, found.gl_pathv[i], &limits, &err) == UZ_OK, "%s: %s",
                    found.gl_pathv[i], err.message))
            n_tensors += walk(file);
        uz_torch_close(file);
    }
    CHECK(n_tensors > 500);
    globfree(&found);
}

/* ---- Pickles that were seen ---- */

/* Opens a rank's model states of a ZeRO-3 fixture of four; true if its pickle was seen. */
static bool open_rank(const char *fixture, unsigned rank, struct uz_seen *seen, bool remember)
{
    const char *srcdir = getenv("srcdir");
    char shard[1024];
    struct uz_torch_file *file = NULL;
    struct uz_error err = {0};
    struct uz_limits limits;
    bool was_seen = false;
    uz_limits_default(&limits);
    snprintf(shard, sizeof shard,
             "%s/fixtures/%s/global_step3/zero_pp_rank_%u_mp_rank_00_model_states.pt",
             srcdir ? srcdir : ".", fixture, rank);
    if (!CHECK_F(uz_torch_open_unseen(&file, shard, &limits, seen, &was_seen, &err) == UZ_OK, "%s",
                 err.message))
        return false;
    CHECK((uz_torch_root(file) == NULL) == was_seen);
    CHECK(uz_torch_archive_root(file) != NULL); /* each file's own, also of a copy */
    if (remember)
        uz_torch_saw(file, seen);
    uz_torch_close(file);
    return was_seen;
}

static void test_seen(void)
{
    static const char subgroups[] = "good-z3-fp16-w4-subgroups",
                      padding[] = "good-z3-fp32-w3-padding";
    struct uz_seen seen;
    if (!CHECK(uz_seen_init(&seen, NULL) == UZ_OK))
        return;
    CHECK(!open_rank(subgroups, 0, &seen, false));
    CHECK(!open_rank(subgroups, 0, &seen, true)); /* was only looked at */
    CHECK(open_rank(subgroups, 1, &seen, false));
    CHECK(!open_rank(padding, 0, &seen, true));
    CHECK(open_rank(padding, 2, &seen, false));
    CHECK(open_rank(subgroups, 3, &seen, true));
    CHECK_EQ_U64(seen.n, 2);
    for (uint64_t i = 0; i < 2 * UZ_MAX_SEEN; i++) {
        struct uz_pickle_digest digest = uz_pickle_digest(&i, sizeof i);
        uz_seen_add(&seen, &digest);
        CHECK(uz_seen_has(&seen, &digest) == (i + 2 < UZ_MAX_SEEN));
    }
    CHECK(open_rank(subgroups, 2, &seen, false));
    uz_seen_free(&seen);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"view", test_view},       {"dtypes", test_dtypes},         {"wrappers", test_wrappers},
        {"bounds", test_bounds},   {"refused kinds", test_refused}, {"shapes", test_shapes},
        {"numbers", test_numbers}, {"fixtures", test_fixtures},     {"seen", test_seen},
        CU_TEST_INFO_NULL,
    };
    return run_on_file("torch", tests);
}
