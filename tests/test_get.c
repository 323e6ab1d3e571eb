/* SPDX-License-Identifier: Apache-2.0 */
/* Every tensor and state of every good fixture, one by one, and the map of each. */
#include <math.h>

#include <unzero/get.h>
#include <unzero/map.h>

#include "check.h"
#include "fixtures.h"
#include "rng.h"
#include "safetensors_reader.h"
#include "scratch.h"

/* "fp32/NAME", "buffer/NAME", "frozen/NAME", "STATE/NAME" */
struct key {
    char state[64];
    const char *name;
    bool is_state;
};

static struct key split_key(const char *text)
{
    struct key key;
    size_t n = strcspn(text, "/");
    snprintf(key.state, sizeof key.state, "%.*s", (int)n, text);
    key.name = text + n + 1;
    key.is_state =
        strcmp(key.state, "fp32") && strcmp(key.state, "buffer") && strcmp(key.state, "frozen");
    return key;
}

static bool open_got(struct uz_got **got, const char *dir, const struct key *key, const char *slice)
{
    struct uz_get_options options;
    struct uz_error err;
    char text[3072];
    uz_get_options_default(&options);
    options.scratch_dir = scratch_dir;
    options.slice = slice;
    options.state = key->is_state ? key->state : NULL;
    if (strcmp(key->state, "buffer"))
        options.dtype = UZ_DTYPE_F32; /* as the truth has all but buffers */
    int rc = uz_get(got, dir, key->name, &options, &err);
    return CHECK_F(rc == UZ_OK, "%s: %s", key->name, uz_error_format(&err, text, sizeof text));
}

static void check_whole(const char *dir, const struct key *key, const struct st_tensor *want)
{
    struct uz_got *got;
    if (!open_got(&got, dir, key, NULL))
        return;
    const struct uz_got_info *info = uz_got_info(got);
    CHECK_EQ_U64(info->numel, want->numel);
    CHECK_EQ_STR(uz_dtype_safetensors_name(info->dtype), want->dtype);
    size_t nbytes = info->numel * uz_dtype_size(info->dtype);
    unsigned char *bytes = malloc(nbytes + 1);
    if (CHECK(bytes != NULL) && CHECK_EQ_I64(uz_got_read(got, 0, info->numel, bytes, NULL), UZ_OK))
        CHECK_EQ_MEM(bytes, want->data, nbytes);
    CHECK_EQ_I64(uz_got_read(got, 1, info->numel, bytes, NULL), UZ_ARG);
    free(bytes);
    uz_got_free(got);
}

/* Sums by a plain loop. */
static void check_statistics(const char *dir, const struct key *key, const struct st_tensor *want)
{
    struct uz_got *got;
    struct uz_statistics s;
    uint64_t n_nan = 0, n_inf = 0, n_finite = 0;
    double squares = 0, max = -HUGE_VAL;
    if (strcmp(want->dtype, "F32") || !open_got(&got, dir, key, NULL))
        return;
    for (uint64_t i = 0; i < want->numel; i++) {
        float value;
        memcpy(&value, want->data + 4 * i, 4);
        n_nan += isnan(value) != 0;
        n_inf += isinf(value) != 0;
        if (isfinite(value)) {
            n_finite++;
            squares += (double)value * (double)value;
            max = (double)value > max ? (double)value : max;
        }
    }
    if (CHECK_EQ_I64(uz_got_statistics(got, &s, NULL), UZ_OK)) {
        CHECK_EQ_U64(s.n_nan, n_nan);
        CHECK_EQ_U64(s.n_inf, n_inf);
        CHECK(n_finite == 0 ? isnan(s.max) : s.max >= max && s.max <= max);
        CHECK(fabs(s.norm - sqrt(squares)) <= 1e-12 * sqrt(squares));
    }
    uz_got_free(got);
}

/* One row and one column of a matrix. */
static void check_slices(const char *dir, const struct key *key, const struct st_tensor *want)
{
    struct uz_got *got;
    char text[64];
    if (want->ndim != 2 || want->shape[0] < 2 || want->shape[1] < 2)
        return;
    uint64_t row = rng_below(want->shape[0]), column = rng_below(want->shape[1]);
    for (unsigned way = 0; way < 2; way++) {
        uint64_t n = way ? want->shape[0] : want->shape[1];
        if (way)
            snprintf(text, sizeof text, ":,%llu", (unsigned long long)column);
        else
            snprintf(text, sizeof text, "%llu", (unsigned long long)row);
        if (!open_got(&got, dir, key, text))
            return;
        size_t size = uz_dtype_size(uz_got_info(got)->dtype);
        unsigned char *bytes = malloc(n * size);
        CHECK_EQ_U64(uz_got_info(got)->numel, n);
        if (CHECK(bytes != NULL) && CHECK_EQ_I64(uz_got_read(got, 0, n, bytes, NULL), UZ_OK))
            for (uint64_t i = 0; i < n; i++)
                CHECK_EQ_MEM(bytes + i * size,
                             want->data +
                                 (way ? i * want->shape[1] + column : row * want->shape[1] + i) *
                                     size,
                             size);
        free(bytes);
        uz_got_free(got);
    }
}

/* Fragments of a tensor that are not strided cover it one after another. */
static void check_map(const char *dir, const char *state)
{
    struct uz_fragment_map *made;
    struct uz_map_options options;
    struct uz_error err;
    char text[3072];
    uz_fragment_map_options_default(&options);
    options.state = state;
    int rc = uz_fragment_map_new(&made, dir, &options, &err);
    if (!CHECK_F(rc == UZ_OK, "%s", uz_error_format(&err, text, sizeof text)))
        return;
    const struct uz_map_view *map = uz_fragment_map_view(made);
    size_t n_in_order = 0;
    for (size_t i = 0; i < map->n_tensors; i++) {
        uint64_t n_elems = 0;
        for (size_t k = 0; k < map->tensors[i].n_fragments; k++) {
            const struct uz_map_fragment *f = &map->fragments[map->tensors[i].first_fragment + k];
            CHECK(f->strided || (f->first == n_elems && f->last + 1 == n_elems + f->n_elems));
            n_elems += f->n_elems;
        }
        CHECK_EQ_U64(n_elems, map->tensors[i].numel);
    }
    for (size_t i = 0; i < map->n_partitions; i++) {
        const struct uz_map_partition *partition = &map->partitions[i];
        CHECK_EQ_U64(partition->first_in_order, n_in_order);
        n_in_order += partition->n_fragments;
        for (size_t k = 0; k < partition->n_fragments; k++) {
            const struct uz_map_fragment *f =
                &map->fragments[map->order[partition->first_in_order + k]];
            CHECK_EQ_U64(f->partition, i);
            CHECK(f->strided || f->partition_first + f->n_elems <= partition->n_elems);
        }
    }
    CHECK_EQ_U64(n_in_order, map->n_fragments);
    uz_fragment_map_free(made);
}

/* The bytes that the map names are the tensor's. */
static void check_map_bytes(const char *dir, const struct st_tensor *want, const struct key *key)
{
    struct uz_fragment_map *made;
    struct uz_map_options options;
    uz_fragment_map_options_default(&options);
    options.param = key->name;
    if (strcmp(key->state, "fp32") ||
        !CHECK_EQ_I64(uz_fragment_map_new(&made, dir, &options, NULL), UZ_OK))
        return;
    const struct uz_map_view *map = uz_fragment_map_view(made);
    for (size_t k = 0; k < map->n_fragments; k++) {
        const struct uz_map_fragment *f = &map->fragments[k];
        const struct uz_map_partition *p = &map->partitions[f->partition];
        size_t nbytes = 0;
        char *file = slurp(p->path, &nbytes);
        uint64_t at = p->offset + 4 * f->partition_first;
        if (CHECK(file != NULL) && p->offset != UINT64_MAX && !f->strided &&
            p->dtype == UZ_DTYPE_F32 && CHECK(at + 4 * f->n_elems <= nbytes))
            CHECK_EQ_MEM(file + at, want->data + 4 * f->first, 4 * f->n_elems);
        free(file);
    }
    uz_fragment_map_free(made);
}

static bool little_endian_stored(const char *dir)
{
    return !strstr(dir, "big-endian");
}

static void check_fixture(const char *dir)
{
    struct st_file truth;
    char path[PATH_NBYTES];
    char state[64] = "";
    path_of(path, "%s/expected.safetensors", dir);
    if (!CHECK_F(st_read(&truth, path), "%s", truth.error))
        return;
    for (size_t i = 0; i < truth.n; i++) {
        struct key key = split_key(truth.tensors[i].name);
        check_whole(dir, &key, &truth.tensors[i]);
        if (rng_one_in(4)) {
            check_statistics(dir, &key, &truth.tensors[i]);
            check_slices(dir, &key, &truth.tensors[i]);
        }
        if (rng_one_in(8) && little_endian_stored(dir))
            check_map_bytes(dir, &truth.tensors[i], &key);
        if (key.is_state)
            snprintf(state, sizeof state, "%s", key.state);
    }
    check_map(dir, NULL);
    if (*state)
        check_map(dir, state);
    st_free(&truth);
}

static void test_fixtures(void)
{
    each_fixture("good-*", check_fixture);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"every tensor of every good fixture", test_fixtures},
        CU_TEST_INFO_NULL,
    };
    fixtures_find();
    rng_init();
    scratch_make();
    return check_run("get", tests);
}
