/* SPDX-License-Identifier: Apache-2.0 */
/* Optimizer states of every fixture, against what torch read from the same files. */
#include <unzero/consolidate.h>

#include "cast_oracle.h"
#include "check.h"
#include "fixtures.h"
#include "safetensors_reader.h"
#include "scratch.h"
#include "zero/optim_state.h"

static size_t n_states_run, n_tensors_compared;

/* expected.safetensors: names are STATE/NAME, "fp32", "frozen" and "buffer" being the weights. */
struct truth {
    struct st_file file;
    cJSON *shared; /* alias -> holder */
    const char *states[8];
    size_t n_states;
};

static size_t state_nbytes(const char *name)
{
    return strcspn(name, "/");
}

static bool is_weight(const char *name)
{
    size_t n = state_nbytes(name);
    return (n == 4 && !strncmp(name, "fp32", n)) || (n == 6 && !strncmp(name, "frozen", n)) ||
           (n == 6 && !strncmp(name, "buffer", n));
}

static bool same_state(const char *a, const char *b)
{
    return state_nbytes(a) == state_nbytes(b) && !strncmp(a, b, state_nbytes(a));
}

static bool truth_read(struct truth *truth, const char *dir)
{
    char path[PATH_NBYTES];
    *truth = (struct truth){0};
    if (!CHECK_F(st_read(&truth->file, path_of(path, "%s/expected.safetensors", dir)), "%s",
                 truth->file.error))
        return false;
    const char *shared = st_metadata(&truth->file, "shared");
    truth->shared = shared ? cJSON_Parse(shared) : NULL;
    for (size_t i = 0; i < truth->file.n; i++) {
        const char *name = truth->file.tensors[i].name;
        bool known = is_weight(name);
        for (size_t k = 0; k < truth->n_states; k++)
            known |= same_state(name, truth->states[k]);
        if (!known && CHECK(truth->n_states < 8))
            truth->states[truth->n_states++] = name;
    }
    return CHECK(truth->shared != NULL);
}

static void truth_free(struct truth *truth)
{
    st_free(&truth->file);
    cJSON_Delete(truth->shared);
}

/* ---- Converting and comparing ---- */

static bool convert(const char *dir, const char *out, const struct uz_consolidate_options *options)
{
    char text[3072];
    struct uz_consolidation *job = NULL;
    struct uz_error err;
    int rc = uz_consolidation_plan(&job, dir, out, options, &err);
    if (rc == UZ_OK)
        rc = uz_consolidation_run(job, NULL, NULL, &err);
    uz_consolidation_free(job);
    return CHECK_F(rc == UZ_OK, "%s, state %s: %s", dir, options->state,
                   uz_error_format(&err, text, sizeof text));
}

/* The same values, rounded if the dtype is another. */
static bool same_values(const struct st_tensor *got, const struct st_tensor *want)
{
    size_t to = !strcmp(got->dtype, "BF16") ? FORMAT_BF16 : FORMAT_F16;
    if (!strcmp(got->dtype, want->dtype))
        return !memcmp(got->data, want->data, (size_t)want->nbytes);
    for (uint64_t i = 0; i < want->numel; i++) {
        uint32_t bits, code = 0;
        bool overflow;
        memcpy(&bits, want->data + 4 * i, 4);
        memcpy(&code, got->data + got->elem_size * i, got->elem_size);
        if (code != oracle(FORMAT_F32, to, bits, &overflow))
            return false;
    }
    return true;
}

static void check_tensor(const struct st_file *got_file, const char *name,
                         const struct st_tensor *want, const char *dtype)
{
    const struct st_tensor *got = st_find(got_file, name);
    n_tensors_compared++;
    if (!CHECK_F(got != NULL, "%s is not in the output", name))
        return;
    CHECK_F(got->ndim == want->ndim && !memcmp(got->shape, want->shape, sizeof got->shape),
            "%s has another shape", name);
    CHECK_F(!strcmp(got->dtype, dtype), "%s is %s", name, got->dtype);
    CHECK_F(same_values(got, want), "%s has other values", name);
}

/* False ties: an empty parameter may be listed as a name of another. */
static bool is_tensor(const struct truth *truth, const char *name)
{
    for (size_t i = 0; i < truth->file.n; i++)
        if (!strcmp(strchr(truth->file.tensors[i].name, '/') + 1, name))
            return true;
    return false;
}

/* A tensor and its other names; `prefix` stands before all of them. Returns how many. */
static size_t check_names(const struct truth *truth, const struct st_file *got, const char *prefix,
                          const struct st_tensor *want, const char *dtype)
{
    char name[1024];
    const char *bare = strchr(want->name, '/') + 1;
    const cJSON *pair;
    size_t n = 1;
    (void)snprintf(name, sizeof name, "%s%s", prefix, bare);
    check_tensor(got, name, want, dtype);
    cJSON_ArrayForEach(pair, truth->shared)
    {
        if (strcmp(pair->valuestring, bare) != 0 || is_tensor(truth, pair->string))
            continue;
        (void)snprintf(name, sizeof name, "%s%s", prefix, pair->string);
        check_tensor(got, name, want, dtype);
        n++;
    }
    return n;
}

/* One state under the names of the weights, in a dtype. */
static void check_state(const struct truth *truth, const char *dir, const char *state,
                        enum uz_precision precision)
{
    /* kept as stored; the truth has all of them in fp32 */
    bool is_momentum =
        strstr(dir, "-z2-") && strstr(dir, "-muon") && same_state("momentum_buffer/", state);
    const char *stored = strstr(dir, "-masters-bf16") || is_momentum ? "BF16" : "F32";
    const char *const dtypes[] = {"F32", "BF16", "F16", stored};
    char out[PATH_NBYTES], name[256];
    struct uz_consolidate_options options;
    struct st_file got = {0};
    size_t n = 0;
    uz_consolidate_options_default(&options);
    options.durability = UZ_DURABLE_NONE;
    options.precision = precision;
    options.untie = true;
    options.state = name;
    (void)snprintf(name, sizeof name, "%.*s", (int)state_nbytes(state), state);
    path_of(out, "%s/state.safetensors", scratch_dir);
    if (convert(dir, out, &options) && CHECK_F(st_read(&got, out), "%s", got.error)) {
        for (size_t i = 0; i < truth->file.n; i++)
            if (same_state(truth->file.tensors[i].name, state))
                n += check_names(truth, &got, "", &truth->file.tensors[i], dtypes[precision]);
        CHECK_EQ_U64(got.n, n);
        n_states_run++;
    }
    st_free(&got);
    remove(out);
}

/* Weights and states in one file. */
static void check_all(const struct truth *truth, const char *dir)
{
    char out[PATH_NBYTES];
    struct uz_consolidate_options options;
    struct st_file got = {0};
    size_t n = 0;
    uz_consolidate_options_default(&options);
    options.durability = UZ_DURABLE_NONE;
    options.untie = true;
    options.state = "all";
    path_of(out, "%s/all.safetensors", scratch_dir);
    if (convert(dir, out, &options) && CHECK_F(st_read(&got, out), "%s", got.error)) {
        for (size_t i = 0; i < truth->file.n; i++) {
            const struct st_tensor *want = &truth->file.tensors[i];
            char prefix[256] = "fp32/";
            if (!is_weight(want->name))
                (void)snprintf(prefix, sizeof prefix, "%.*s/", (int)state_nbytes(want->name),
                               want->name);
            n += check_names(truth, &got, prefix, want, want->dtype);
        }
        CHECK_EQ_U64(got.n, n);
    }
    st_free(&got);
    remove(out);
}

static void check_fixture(const char *dir)
{
    struct truth truth;
    if (truth_read(&truth, dir) && truth.n_states > 0) {
        for (size_t i = 0; i < truth.n_states; i++) {
            check_state(&truth, dir, truth.states[i], UZ_PRECISION_FP32);
            check_state(&truth, dir, truth.states[i],
                        i % 2 ? UZ_PRECISION_BF16 : UZ_PRECISION_FP16);
            check_state(&truth, dir, truth.states[i], UZ_PRECISION_KEEP);
        }
        check_all(&truth, dir);
    }
    truth_free(&truth);
}

static void test_fixtures(void)
{
    each_fixture("good-*", check_fixture);
    CHECK(n_states_run > 0 && n_tensors_compared > n_states_run);
}

/* ---- What cannot be had ---- */

static void refuse(const char *fixture, const char *state, const char *why)
{
    char dir[PATH_NBYTES], out[PATH_NBYTES];
    struct uz_consolidate_options options;
    struct uz_consolidation *job = NULL;
    struct uz_error err = {0};
    uz_consolidate_options_default(&options);
    options.state = state;
    path_of(dir, "%s/%s", fixtures_dir, fixture);
    path_of(out, "%s/none", scratch_dir);
    CHECK_EQ_I64(uz_consolidation_plan(&job, dir, out, &options, &err), UZ_ARG);
    CHECK_F(strstr(err.message, why) != NULL, "%s", err.message);
    uz_consolidation_free(job);
}

static void test_refusals(void)
{
    refuse("good-z2-bf16-w2-sgd", "exp_avg", "there are: momentum_buffer");
    refuse("good-z2-bf16-w2-2groups-tiny", "", "there are: exp_avg, exp_avg_sq");
    refuse("good-z2-bf16-w2-2groups-tiny", "step", "keeps no state 'step'");
}

/* What the files of every model-parallel rank give cause to is told once. */
static void test_warning(void)
{
    struct uz_notes notes = {0};
    struct uz_error err;
    CHECK_EQ_I64(uz_warn_of_states(&notes, "an 8-bit optimizer", &err), UZ_OK);
    CHECK_EQ_I64(uz_warn_of_states(&notes, "an 8-bit optimizer", &err), UZ_OK);
    CHECK_EQ_U64(notes.n, 1);
    CHECK_EQ_I64(uz_warn_of_states(&notes, "a 1-bit optimizer", &err), UZ_OK);
    CHECK_EQ_U64(notes.n, 2);
    notes.strict = true;
    CHECK_EQ_I64(uz_warn_of_states(&notes, "an 8-bit optimizer", &err), UZ_MISMATCH);
    uz_notes_free(&notes);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"states are what torch reads", test_fixtures},
        {"states that are not there", test_refusals},
        {"states that are left out", test_warning},
        CU_TEST_INFO_NULL,
    };
    fixtures_find();
    make_midpoints();
    scratch_make();
    int status = check_run("states", tests);
    printf("%zu states, %zu tensors were compared\n", n_states_run, n_tensors_compared);
    return status;
}
