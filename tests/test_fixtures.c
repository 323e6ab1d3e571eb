/* SPDX-License-Identifier: Apache-2.0 */
/* Converts every fixture through the public interface; a new folder is a new test. */
#include <unzero/consolidate.h>

#include "cast_oracle.h"
#include "check.h"
#include "fixtures.h"
#include "safetensors_reader.h"
#include "scratch.h"
#include "written.h"

static size_t n_fixtures_run;

/* ---- The truth of a good fixture ---- */

/* expected.safetensors and what its __metadata__ says. */
struct truth {
    const char *trained_in; /* dtype of the model, as far as names tell */
    struct st_file file;
    cJSON *shared;    /* alias -> holder */
    cJSON *lp_dtypes; /* module entry -> PyTorch's name of the dtype; NULL if not recorded */
};

/* The dtype that the name of a fixture, or DeepSpeed's names of its shards, speak of. */
static const char *dtype_by_name(const char *dir)
{
    static const char *const names[][2] = {
        {"-bf16-", "BF16"}, {"-fp16-", "F16"}, {"-fp32-", "F32"}};
    char pattern[PATH_NBYTES];
    glob_t found;
    for (size_t i = 0; i < 3; i++)
        if (strstr(strrchr(dir, '/'), names[i][0]))
            return names[i][1];
    int rc = glob(path_of(pattern, "%s/*/bf16_zero_pp_rank_*", dir), 0, NULL, &found);
    globfree(&found);
    return rc == 0 ? "BF16" : "unknown";
}

static bool truth_read(struct truth *truth, const char *dir)
{
    char path[PATH_NBYTES];
    *truth = (struct truth){.trained_in = dtype_by_name(dir)};
    path_of(path, "%s/expected.safetensors", dir);
    if (!CHECK_F(st_read(&truth->file, path), "%s", truth->file.error))
        return false;
    const char *shared = st_metadata(&truth->file, "shared");
    const char *lp_dtypes = st_metadata(&truth->file, "lp_dtype");
    truth->shared = shared ? cJSON_Parse(shared) : NULL;
    truth->lp_dtypes = lp_dtypes ? cJSON_Parse(lp_dtypes) : NULL;
    return CHECK_F(cJSON_IsObject(truth->shared), "%s: no metadata `shared`", dir);
}

static void truth_free(struct truth *truth)
{
    st_free(&truth->file);
    cJSON_Delete(truth->shared);
    cJSON_Delete(truth->lp_dtypes);
}

/* The safetensors dtype of a parameter's low-precision copy. */
static const char *lp_dtype(const struct truth *truth, const char *name)
{
    static const char *const names[][2] = {
        {"bfloat16", "BF16"}, {"float16", "F16"}, {"float32", "F32"}};
    const char *torch_name =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(truth->lp_dtypes, name));
    if (!truth->lp_dtypes)
        return truth->trained_in;
    for (size_t i = 0; i < 3; i++)
        if (torch_name && !strcmp(torch_name, names[i][0]))
            return names[i][1];
    return "unknown";
}

static bool is_embedding(const char *name)
{
    char copy[1024];
    char *rest = copy;
    (void)snprintf(copy, sizeof copy, "%s", name);
    for (const char *part = strsep(&rest, "."); part; part = strsep(&rest, "."))
        if (strstr(part, "embed") || !strcmp(part, "wte") || !strcmp(part, "shared"))
            return true;
    return false;
}

/* The name that a tensor stands under: the first alias that is the embedding, or its own. */
static const char *kept_name(const struct truth *truth, const char *name)
{
    const cJSON *pair;
    if (is_embedding(name))
        return name;
    cJSON_ArrayForEach(pair, truth->shared)
    {
        if (!strcmp(pair->valuestring, name) && is_embedding(pair->string))
            return pair->string;
    }
    return name;
}

/* ---- Comparing ---- */

static size_t format_of(const char *dtype)
{
    if (!strcmp(dtype, "BF16"))
        return FORMAT_BF16;
    return !strcmp(dtype, "F16") ? FORMAT_F16 : FORMAT_F32;
}

/* The values that fp32 elements must have in another dtype; overflows are counted. */
static bool same_values(const struct st_tensor *got, const struct st_tensor *want,
                        uint64_t *n_overflows)
{
    size_t to = format_of(got->dtype);
    if (!strcmp(got->dtype, want->dtype))
        return memcmp(got->data, want->data, (size_t)want->nbytes) == 0;
    for (uint64_t i = 0; i < want->numel; i++) {
        uint32_t bits = 0, code = 0;
        bool overflow;
        memcpy(&bits, want->data + 4 * i, 4);
        memcpy(&code, got->data + got->elem_size * i, got->elem_size);
        if (code != oracle(FORMAT_F32, to, bits, &overflow))
            return false;
        *n_overflows += overflow;
    }
    return true;
}

/* Compares `want` with what stands under `name`, if it has to be of `dtype`. */
static bool check_tensor(const struct written *written, const char *name, const char *dtype,
                         const struct st_tensor *want, uint64_t *n_overflows)
{
    const struct st_file *file;
    const struct st_tensor *got = written_find(written, name, &file);
    if (!CHECK_F(got != NULL, "%s is not in the output", name))
        return false;
    bool is_told = strcmp(dtype, "unknown") != 0; /* by the expected values, or the folder's name */
    if (!CHECK_F(!is_told || !strcmp(got->dtype, dtype), "%s is %s, not %s", name, got->dtype,
                 dtype))
        return false;
    bool same_shape =
        got->ndim == want->ndim && memcmp(got->shape, want->shape, sizeof got->shape) == 0;
    if (!CHECK_F(same_shape, "%s has another shape", name))
        return false;
    return CHECK_F(same_values(got, want, n_overflows), "%s has other values", name);
}

static const char *want_dtype(const struct truth *truth, const char *name, bool is_buffer,
                              const char *stored, enum uz_precision precision)
{
    static const char *const dtypes[] = {
        [UZ_PRECISION_FP32] = "F32", [UZ_PRECISION_BF16] = "BF16", [UZ_PRECISION_FP16] = "F16"};
    if (is_buffer)
        return stored;
    return precision == UZ_PRECISION_KEEP ? lp_dtype(truth, name) : dtypes[precision];
}

/* Zero-element parameters are said to be tied, but have values of their own. */
static bool is_falsely_tied(const struct truth *truth, const char *name)
{
    for (size_t i = 0; i < truth->file.n; i++) {
        const char *bare = strchr(truth->file.tensors[i].name, '/');
        if (bare && !strcmp(bare + 1, name))
            return true;
    }
    return false;
}

/* Other names of a tensor in a torch.save file: the same object. */
static size_t check_shared(const struct truth *truth, const struct written *written,
                           const char *holder, const struct st_tensor *want, const char *dtype)
{
    const struct st_file *file = NULL;
    const cJSON *pair;
    size_t n_written = 0;
    uint64_t unused = 0;
    const struct st_tensor *first = written_find(written, holder, &file);
    cJSON_ArrayForEach(pair, truth->shared)
    {
        if (strcmp(pair->valuestring, holder) != 0 || is_falsely_tied(truth, pair->string))
            continue;
        n_written += check_tensor(written, pair->string, dtype, want, &unused);
        if (first && file && want->numel > 0)
            CHECK_F(pt_same_object(st_find(file, pair->string), first), "%s and %s are two objects",
                    holder, pair->string);
    }
    return n_written;
}

/* Other names of a tensor: written if it has no elements, else told of in the metadata. */
static size_t check_aliases(const struct truth *truth, const struct written *written,
                            const char *holder, const struct st_tensor *want, const char *dtype)
{
    const char *kept = want->numel ? kept_name(truth, holder) : holder;
    const struct st_file *file = NULL;
    const cJSON *pair;
    size_t n_written = 0;
    uint64_t unused = 0;
    (void)written_find(written, kept, &file);
    cJSON_ArrayForEach(pair, truth->shared)
    {
        if (strcmp(pair->valuestring, holder) != 0 || is_falsely_tied(truth, pair->string))
            continue;
        const char *other = strcmp(pair->string, kept) ? pair->string : holder;
        if (want->numel == 0)
            n_written += check_tensor(written, pair->string, dtype, want, &unused);
        else if (file)
            CHECK_EQ_STR(st_metadata(file, other), kept);
    }
    return n_written;
}

static void check_output(const struct truth *truth, const struct written *written,
                         const struct uz_consolidate_options *options)
{
    uint64_t n_overflows = 0, n_excluded = 0;
    size_t n_wanted = 0;
    for (size_t i = 0; i < truth->file.n; i++) {
        const struct st_tensor *want = &truth->file.tensors[i];
        const char *name = strchr(want->name, '/') ? strchr(want->name, '/') + 1 : "";
        bool is_buffer = !strncmp(want->name, "buffer/", 7);
        bool is_frozen = !strncmp(want->name, "frozen/", 7);
        if (!is_buffer && !is_frozen && strncmp(want->name, "fp32/", 5) != 0)
            continue; /* an optimizer state */
        if (is_frozen && options->exclude_frozen && want->numel > 0) {
            n_excluded++;
            continue;
        }
        const char *dtype = want_dtype(truth, name, is_buffer, want->dtype, options->precision);
        bool pt = written->summary->format == UZ_FORMAT_PT;
        const char *kept = want->numel && !pt ? kept_name(truth, name) : name;
        check_tensor(written, kept, dtype, want, &n_overflows);
        n_wanted += 1 + (pt ? check_shared : check_aliases)(truth, written, name, want, dtype);
    }
    CHECK(n_wanted > 0);
    CHECK_EQ_U64(written->n_tensors, n_wanted);
    CHECK_EQ_U64(written->summary->n_overflows, n_overflows);
    CHECK_EQ_U64(written->summary->n_frozen_excluded, n_excluded);
}

/* ---- Good fixtures ---- */

struct progress {
    unsigned n_calls;
    uint64_t done, total;
    bool ordered;
};

static int on_progress(void *cookie, uint64_t nbytes_done, uint64_t nbytes_total)
{
    struct progress *progress = cookie;
    progress->ordered &= nbytes_done >= progress->done && nbytes_done <= nbytes_total;
    progress->n_calls++;
    progress->done = nbytes_done;
    progress->total = nbytes_total;
    return 0;
}

static void check_warnings(const char *dir, const struct uz_consolidate_summary *summary)
{
    char path[PATH_NBYTES];
    char *expect = slurp(path_of(path, "%s/expect", dir), NULL);
    char *rest = expect;
    for (const char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
        bool found = false;
        if (!*line)
            continue;
        if (!CHECK_F(!strncmp(line, "warn ", 5), "%s: what is `%s`?", path, line))
            continue;
        for (size_t i = 0; i < summary->n_warnings; i++)
            found |= strcasestr(summary->warnings[i], line + 5) != NULL;
        CHECK_F(found, "no warning says `%s`", line + 5);
    }
    free(expect);
}

/* Converts once and compares all of it. */
static void convert_good(const struct truth *truth, const char *dir,
                         const struct uz_consolidate_options *options)
{
    char out[PATH_NBYTES], text[3072];
    struct uz_consolidation *job = NULL;
    struct uz_error err;
    struct progress progress = {.ordered = true};
    struct written written;
    path_of(out, "%s/out", scratch_dir);
    int rc = uz_consolidation_plan(&job, dir, out, options, &err);
    if (!CHECK_F(rc == UZ_OK, "%s", uz_error_format(&err, text, sizeof text)))
        return;
    CHECK_F(!path_exists(out), "planning made the output folder");
    rc = uz_consolidation_run(job, on_progress, &progress, &err);
    if (CHECK_F(rc == UZ_OK, "%s", uz_error_format(&err, text, sizeof text))) {
        const struct uz_consolidate_summary *summary = uz_consolidation_summary(job);
        if (written_read(&written, summary))
            check_output(truth, &written, options);
        written_free(&written);
        check_warnings(dir, summary);
        CHECK(progress.ordered && progress.n_calls > 0);
        CHECK_EQ_U64(progress.done, summary->data_nbytes);
        CHECK_EQ_U64(progress.total, summary->data_nbytes);
    }
    uz_consolidation_free(job);
    remove_tree(out);
}

static void convert_to_pt(const struct truth *truth, const char *dir,
                          struct uz_consolidate_options *options)
{
    options->format = UZ_FORMAT_PT;
    options->max_shard_bytes = truth->file.nbytes / 12;
    convert_good(truth, dir, options);
    options->max_shard_bytes = 0;
    for (unsigned precision = 0; precision <= UZ_PRECISION_KEEP; precision++) {
        options->precision = (enum uz_precision)precision;
        convert_good(truth, dir, options);
    }
}

static void check_good(const char *dir)
{
    struct truth truth;
    struct uz_consolidate_options options;
    uz_consolidate_options_default(&options);
    options.durability = UZ_DURABLE_NONE;
    if (truth_read(&truth, dir)) {
        for (unsigned precision = 0; precision <= UZ_PRECISION_KEEP; precision++)
            for (options.input.threads = 1; options.input.threads <= 4;
                 options.input.threads += 3) {
                options.precision = (enum uz_precision)precision;
                convert_good(&truth, dir, &options);
            }
        options.precision = UZ_PRECISION_FP32;
        options.max_shard_bytes = truth.file.nbytes / 12;
        convert_good(&truth, dir, &options);
        options.max_shard_bytes = 0;
        options.exclude_frozen = true;
        convert_good(&truth, dir, &options);
        options.exclude_frozen = false;
        convert_to_pt(&truth, dir, &options);
    }
    truth_free(&truth);
}

/* ---- Bad and unsupported fixtures ---- */

/* The lines of `expect`: an exit status, then texts that the message must contain. */
static void check_refusal(const char *dir, int rc, const char *message)
{
    char path[PATH_NBYTES];
    char *expect = slurp(path_of(path, "%s/expect", dir), NULL);
    char *rest = expect;
    if (!CHECK_F(expect != NULL, "%s is missing", path))
        return;
    const char *line = strsep(&rest, "\n");
    CHECK_F(!strcmp(line, "exit 3"), "%s: what is `%s`?", path, line);
    CHECK_F(rc < 0, "it was accepted");
    for (line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n"))
        CHECK_F(strcasestr(message, line) != NULL, "`%s` is not in: %s", line, message);
    free(expect);
}

static void refuse(const char *dir, bool unsupported)
{
    char out[PATH_NBYTES], text[3072] = "";
    struct uz_consolidate_options options;
    struct uz_consolidation *job = NULL;
    struct uz_error err;
    uz_consolidate_options_default(&options);
    path_of(out, "%s/out", scratch_dir);
    uz_error_clear(&err);
    int rc = uz_consolidation_plan(&job, dir, out, &options, &err);
    if (rc < 0) {
        uz_error_format(&err, text, sizeof text);
        CHECK_EQ_I64(err.status, rc);
        CHECK(job == NULL);
    }
    check_refusal(dir, rc, text);
    if (unsupported)
        CHECK_EQ_STR(uz_status_name(rc), "UNSUPPORTED");
    CHECK_F(!path_exists(out), "something was written");
    uz_consolidation_free(job);
    remove_tree(out);
}

static void check_bad(const char *dir)
{
    refuse(dir, false);
}

static void check_unsupported(const char *dir)
{
    refuse(dir, true);
}

/* ---- All folders of a kind ---- */

static void test_good(void)
{
    n_fixtures_run += each_fixture("good-*", check_good);
}

static void test_bad(void)
{
    n_fixtures_run += each_fixture("bad-*", check_bad);
}

static void test_unsupported(void)
{
    n_fixtures_run += each_fixture("unsupported-*", check_unsupported);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"good fixtures convert to what they hold", test_good},
        {"bad fixtures are refused with a reason", test_bad},
        {"unsupported fixtures are refused by name", test_unsupported},
        CU_TEST_INFO_NULL,
    };
    fixtures_find();
    make_midpoints();
    scratch_make();
    int status = check_run("fixtures", tests);
    printf("%zu fixtures of %s were run\n", n_fixtures_run, fixtures_dir);
    return status;
}
