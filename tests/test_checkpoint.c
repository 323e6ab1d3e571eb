/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every fixture through the open checkpoint: weights, buffers and optimizer states by name, and
 * weights and states assembled from the ranks' fragments, equal expected.safetensors.
 */
#include <pthread.h>

#include <unzero/checkpoint.h>

#include "check.h"
#include "fixtures.h"
#include "safetensors_reader.h"
#include "scratch.h"

/* What was compared, in all fixtures. */
static size_t n_fixtures, n_linked, n_states, n_fragments;

static enum uz_dtype dtype_of(const char *safetensors_name)
{
    for (enum uz_dtype dtype = 1; dtype < UZ_DTYPE_COUNT; dtype++) {
        const char *name = uz_dtype_safetensors_name(dtype);
        if (name && !strcmp(name, safetensors_name))
            return dtype;
    }
    return UZ_DTYPE_INVALID;
}

static const char *message(const struct uz_error *err)
{
    static char text[3072];
    return uz_error_format(err, text, sizeof text);
}

/* The fragments of all ranks follow one another and lie in what the views show. */
static void check_fragments(const struct uz_linked_param *linked, const struct st_tensor *want)
{
    struct uz_error err;
    float elem, whole;
    for (size_t rank = 0; rank < linked->n_ranks; rank++) {
        const struct uz_hp_mapping *mapping = linked->ranks[rank].hp_mapping;
        if (!mapping)
            continue;
        const struct uz_tensor_view *view = &mapping->hp_fragment;
        CHECK_EQ_U64(view->numel, mapping->lp_fragment_address.numel);
        CHECK_EQ_U64(view->first, mapping->hp_fragment_address.start);
        CHECK(!view->data && view->source && !view->source->write);
        int rc = view->source->read(view->source->cookie, view->first, 1, &elem, &err);
        memcpy(&whole, want->data + 4 * mapping->lp_fragment_address.start, 4);
        if (CHECK_F(rc == UZ_OK, "%s", message(&err)) && view->dtype == UZ_DTYPE_F32)
            CHECK_EQ_MEM(&elem, &whole, 4);
        n_fragments++;
    }
}

/* Whole values from the fragments: as every rank would get them. */
static void check_linked(const struct uz_linked_param *linked, const char *key,
                         const struct st_tensor *want, float *full)
{
    struct uz_error err;
    for (size_t rank = 0; rank < linked->n_ranks; rank++) {
        memset(full, 0x5a, (size_t)want->nbytes);
        int rc = uz_get_full_hp_param(&linked->ranks[rank], key, full, want->numel, &err);
        if (CHECK_F(rc == UZ_OK, "%s: %s", want->name, message(&err)))
            CHECK_EQ_MEM(full, want->data, (size_t)want->nbytes);
    }
    CHECK_EQ_I64(uz_get_full_hp_param(&linked->ranks[0], "nope", full, want->numel, &err),
                 want->numel > 0 ? UZ_ARG : UZ_OK);
}

static void link_and_check(struct uz_checkpoint *checkpoint, size_t index, const char *key,
                           const struct st_tensor *want, void *buf)
{
    struct uz_tensor_info info = uz_checkpoint_tensor(checkpoint, index);
    struct uz_linked_param *linked = NULL;
    struct uz_error err;
    int rc = uz_checkpoint_link(checkpoint, index, &linked, &err);
    if (rc == UZ_UNSUPPORTED) {
        CHECK(strstr(err.message, "tensor parallelism") != NULL);
        return;
    }
    if (info.kind != UZ_TENSOR_PARAM || uz_checkpoint_info(checkpoint)->zero_stage == 0) {
        CHECK_EQ_I64(rc, UZ_ARG);
        return;
    }
    if (!CHECK_F(rc == UZ_OK, "%s: %s", want->name, message(&err)))
        return;
    CHECK_EQ_U64(linked->n_ranks, uz_checkpoint_info(checkpoint)->world_size);
    CHECK_EQ_STR(linked->ranks[0].name, info.name);
    check_linked(linked, key, want, buf);
    if (!key)
        check_fragments(linked, want);
    uz_linked_param_free(linked);
    n_linked++;
    n_states += key != NULL;
}

/* The middle of a tensor alone. */
static void check_range(struct uz_checkpoint *checkpoint, size_t index, const char *key,
                        const struct st_tensor *want, enum uz_dtype dtype, void *buf)
{
    struct uz_error err;
    uint64_t first = want->numel / 3, n = want->numel - first - want->numel / 4;
    int rc = uz_checkpoint_read(checkpoint, index, key, first, n, dtype, buf, &err);
    if (CHECK_F(rc == UZ_OK, "%s: %s", want->name, message(&err)))
        CHECK_EQ_MEM(buf, want->data + first * want->elem_size, (size_t)n * want->elem_size);
    CHECK_EQ_I64(uz_checkpoint_read(checkpoint, index, key, 1, want->numel, dtype, buf, &err),
                 UZ_ARG);
}

static bool is_muon; /* ranks keep momenta of whole parameters, which are no fragments */

/* `name` is KIND/NAME: fp32, frozen, buffer, or an optimizer state. */
static void check_tensor(struct uz_checkpoint *checkpoint, const struct st_tensor *want)
{
    const char *name = strchr(want->name, '/') + 1;
    char kind[64];
    size_t index;
    struct uz_error err;
    enum uz_dtype dtype = dtype_of(want->dtype);
    snprintf(kind, sizeof kind, "%.*s", (int)(name - want->name - 1), want->name);
    bool is_weight = !strcmp(kind, "fp32") || !strcmp(kind, "frozen") || !strcmp(kind, "buffer");
    const char *key = is_weight ? NULL : kind;
    int rc = uz_checkpoint_find(checkpoint, name, &index, &err);
    if (!CHECK_F(rc == UZ_OK, "%s: %s", want->name, message(&err)))
        return;
    struct uz_tensor_info info = uz_checkpoint_tensor(checkpoint, index);
    CHECK_EQ_U64(info.numel, want->numel);
    CHECK_EQ_U64(info.ndim, want->ndim);
    CHECK((info.kind == UZ_TENSOR_BUFFER) == !strcmp(kind, "buffer"));
    void *buf = malloc((size_t)want->nbytes + 8);
    if (!buf)
        abort();
    rc = uz_checkpoint_read(checkpoint, index, key, 0, want->numel, dtype, buf, &err);
    if (CHECK_F(rc == UZ_OK, "%s: %s", want->name, message(&err)))
        CHECK_EQ_MEM(buf, want->data, (size_t)want->nbytes);
    check_range(checkpoint, index, key, want, dtype, buf);
    if (strcmp(kind, "buffer") != 0 && !(is_muon && !strcmp(kind, "momentum_buffer")))
        link_and_check(checkpoint, index, key, want, buf);
    CHECK_EQ_I64(uz_checkpoint_read(checkpoint, index, "nope", 0, 0, dtype, buf, &err), UZ_ARG);
    free(buf);
}

static void check_names(struct uz_checkpoint *checkpoint, const struct st_file *truth)
{
    const char *shared = st_metadata(truth, "shared");
    cJSON *pairs = shared ? cJSON_Parse(shared) : NULL;
    const cJSON *pair;
    size_t holder, alias;
    struct uz_error err;
    cJSON_ArrayForEach(pair, pairs)
    {
        CHECK_EQ_I64(uz_checkpoint_find(checkpoint, pair->valuestring, &holder, &err), UZ_OK);
        if (CHECK_F(uz_checkpoint_find(checkpoint, pair->string, &alias, &err) == UZ_OK, "%s: %s",
                    pair->string, message(&err)) &&
            uz_checkpoint_tensor(checkpoint, holder).numel > 0)
            CHECK_EQ_U64(alias, holder);
    }
    cJSON_Delete(pairs);
    CHECK_EQ_I64(uz_checkpoint_find(checkpoint, "no such", &holder, &err), UZ_ARG);
}

static void check_good(const char *dir)
{
    char path[PATH_NBYTES];
    struct st_file truth;
    struct uz_checkpoint *checkpoint = NULL;
    struct uz_checkpoint_options options;
    struct uz_error err;
    is_muon = strstr(dir, "-muon") != NULL;
    uz_checkpoint_options_default(&options);
    options.spool_dir = scratch_dir;
    path_of(path, "%s/expected.safetensors", dir);
    if (!CHECK_F(st_read(&truth, path), "%s", truth.error))
        return;
    int rc = uz_checkpoint_open(&checkpoint, dir, &options, &err);
    if (CHECK_F(rc == UZ_OK, "%s", message(&err))) {
        for (size_t i = 0; i < truth.n; i++)
            check_tensor(checkpoint, &truth.tensors[i]);
        check_names(checkpoint, &truth);
        n_fixtures++;
    }
    uz_checkpoint_close(checkpoint);
    st_free(&truth);
}

static void test_good(void)
{
    each_fixture("good-*", check_good);
    CHECK(n_fixtures > 30 && n_linked > 500 && n_states > 200 && n_fragments > 500);
}

/* What cannot be converted cannot be opened; nothing is left behind. */
static void check_refused(const char *dir)
{
    struct uz_checkpoint *checkpoint = NULL;
    struct uz_checkpoint_options options;
    struct uz_error err;
    uz_checkpoint_options_default(&options);
    CHECK_F(uz_checkpoint_open(&checkpoint, dir, &options, &err) < 0 && *err.message,
            "%s was opened", dir);
    CHECK(checkpoint == NULL);
}

static void test_bad(void)
{
    each_fixture("bad-missing-*", check_refused);
    each_fixture("bad-z3-*", check_refused);
}

/* One of the threads that share a handle. */
struct reader {
    pthread_t thread;
    struct uz_checkpoint *checkpoint;
    size_t first; /* tensor to begin with */
    size_t n_read, n_wrong;
};

/* A parameter by name and from its fragments; both must be the same. */
static bool read_twice(struct uz_checkpoint *checkpoint, size_t index)
{
    static _Thread_local float whole[65536], joined[65536];
    struct uz_tensor_info info = uz_checkpoint_tensor(checkpoint, index);
    struct uz_linked_param *linked;
    if (info.numel > 65536 || uz_checkpoint_link(checkpoint, index, &linked, NULL) < 0)
        return false;
    bool good = uz_checkpoint_read(checkpoint, index, NULL, 0, info.numel, UZ_DTYPE_F32, whole,
                                   NULL) == UZ_OK &&
                uz_get_full_hp_param(&linked->ranks[0], NULL, joined, info.numel, NULL) == UZ_OK &&
                memcmp(whole, joined, (size_t)info.numel * sizeof(float)) == 0;
    uz_linked_param_free(linked);
    return good;
}

static void *read_all(void *cookie)
{
    struct reader *reader = cookie;
    size_t n = uz_checkpoint_info(reader->checkpoint)->n_tensors;
    for (size_t i = 0; i < n; i++) {
        size_t index = (reader->first + i) % n;
        if (uz_checkpoint_tensor(reader->checkpoint, index).kind != UZ_TENSOR_PARAM)
            continue;
        reader->n_read++;
        reader->n_wrong += !read_twice(reader->checkpoint, index);
    }
    return NULL;
}

static void test_threads(void)
{
    char path[PATH_NBYTES];
    struct reader readers[4] = {0};
    struct uz_checkpoint *checkpoint;
    struct uz_checkpoint_options options;
    struct uz_error err;
    uz_checkpoint_options_default(&options);
    path_of(path, "%s/good-z3-fp16-w4-subgroups", fixtures_dir);
    int rc = uz_checkpoint_open(&checkpoint, path, &options, &err);
    if (!CHECK_F(rc == UZ_OK, "%s", message(&err)))
        return;
    for (size_t i = 0; i < 4; i++) {
        readers[i].checkpoint = checkpoint;
        readers[i].first = 2 * i;
        if (pthread_create(&readers[i].thread, NULL, read_all, &readers[i]) != 0)
            abort();
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(readers[i].thread, NULL);
        CHECK_EQ_U64(readers[i].n_wrong, 0);
        CHECK(readers[i].n_read > 5);
    }
    uz_checkpoint_close(checkpoint);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"good fixtures", test_good},
        {"bad fixtures", test_bad},
        {"threads", test_threads},
        CU_TEST_INFO_NULL,
    };
    fixtures_find();
    scratch_make();
    return check_run("checkpoint", tests);
}
