/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of inspect on every fixture: what it counts, and that it refuses what the others refuse. */
#include <stdlib.h>

#include <unzero/inspect.h>

#include "check.h"
#include "check/class_origin.h"
#include "check/node_set.h"
#include "fixtures.h"
#include "safetensors_reader.h"
#include "scratch.h"
#include "zero/topology.h"

static struct uz_inspection *inspect(const char *path, struct uz_error *err)
{
    struct uz_input_options options;
    struct uz_inspection *inspection = NULL;
    uz_input_options_default(&options);
    options.threads = 2;
    (void)uz_inspection_open(&inspection, path, &options, err);
    return inspection;
}

static uint64_t stored(const struct uz_inspect_summary *s, enum uz_stored_kind kind,
                       const char *state)
{
    uint64_t n = 0;
    for (size_t i = 0; i < s->n_contents; i++)
        if (s->contents[i].kind == kind && (!state || !strcmp(s->contents[i].state, state)))
            n += s->contents[i].n_elems;
    return n;
}

static bool names_class(const struct uz_inspect_summary *s, const char *name,
                        enum uz_class_origin origin)
{
    for (size_t i = 0; i < s->n_classes; i++)
        if (!strcmp(s->classes[i].name, name))
            return s->classes[i].origin == origin;
    return false;
}

/* The oracle's own list of tensors says how many elements there are of each kind. */
static void check_good(const char *path, const struct uz_inspect_summary *s)
{
    char expected[PATH_NBYTES];
    struct st_file file;
    uint64_t n_fp32 = 0, n_buffers = 0, n_frozen = 0;
    CHECK_F(s->refusal == NULL, "%s: %s", path, s->refusal);
    CHECK_F(s->joined && s->n_faults == 0, "%s", path);
    if (!CHECK(st_read(&file, path_of(expected, "%s/expected.safetensors", path))))
        return;
    for (size_t i = 0; i < file.n; i++) {
        const struct st_tensor *tensor = &file.tensors[i];
        n_fp32 += !strncmp(tensor->name, "fp32/", 5) ? tensor->numel : 0;
        n_buffers += !strncmp(tensor->name, "buffer/", 7) ? tensor->numel : 0;
        n_frozen += !strncmp(tensor->name, "frozen/", 7) ? tensor->numel : 0;
    }
    CHECK_F(s->trainable.n_elems == n_fp32, "%s: %" PRIu64 " of %" PRIu64, path,
            s->trainable.n_elems, n_fp32);
    CHECK_F(s->buffers.n_elems == n_buffers, "%s: %" PRIu64, path, s->buffers.n_elems);
    CHECK_F(s->frozen.n_elems == n_frozen, "%s: %" PRIu64, path, s->frozen.n_elems);
    CHECK_F(stored(s, UZ_STORED_MASTERS, NULL) >= n_fp32 || s->zero_stage == 0, "%s", path);
    CHECK_F(s->dp > 0 && s->tp > 0 && s->pp > 0 && s->ep > 0, "%s", path);
    CHECK_F(names_class(s, "torch._utils._rebuild_tensor_v2", UZ_CLASS_PYTORCH), "%s", path);
    st_free(&file);
}

static void check_good_one(const char *path)
{
    struct uz_error err;
    struct uz_inspection *inspection = inspect(path, &err);
    if (CHECK_F(inspection != NULL, "%s", path))
        check_good(path, uz_inspection_summary(inspection));
    uz_inspection_free(inspection);
}

static void test_good(void)
{
    each_fixture("good-*", check_good_one);
}

/* Where the shards can be listed, something is told of, whatever is wrong with them. */
static void check_bad_one(const char *path)
{
    struct uz_error err;
    struct uz_inspection *inspection = inspect(path, &err);
    const struct uz_inspect_summary *s = inspection ? uz_inspection_summary(inspection) : NULL;
    struct uz_topology topology;
    struct uz_topology_request request = {.path = path, .max_shards = 1000};
    bool listed = uz_topology_open(&topology, &request, NULL) == UZ_OK;
    uz_topology_free(&topology);
    CHECK_F((s != NULL) == listed, "%s", path);
    bool no_model = !strcmp(strrchr(path, '/'), "/bad-missing-model-states");
    CHECK_F(!s || s->n_files > 0, "%s", path);
    CHECK_F(!s || s->n_tensors > 0 || s->n_faults > 0 || no_model, "%s lists nothing", path);
    uz_inspection_free(inspection);
}

static void test_bad(void)
{
    each_fixture("bad-*", check_bad_one);
    each_fixture("unsupported-*", check_bad_one);
}

static void test_values(void)
{
    char path[PATH_NBYTES];
    struct uz_error err;
    struct uz_inspection *in =
        inspect(path_of(path, "%s/good-pickle-inert-system", fixtures_dir), &err);
    if (!CHECK_F(in != NULL, "%s", err.message))
        return;
    const struct uz_inspect_summary *s = uz_inspection_summary(in);
    CHECK_EQ_U64(s->kind, UZ_INPUT_ZERO);
    CHECK_EQ_I64(s->zero_stage, 2);
    CHECK_EQ_STR(s->tag, "global_step4");
    CHECK_EQ_STR(s->ds_version, "0.19.8");
    CHECK_EQ_I64(s->global_steps, 4);
    CHECK_EQ_U64(s->dp, 2);
    CHECK_EQ_U64(s->n_groups, 2);
    CHECK_EQ_U64(s->trainable.n_elems, 138);
    CHECK_EQ_U64(stored(s, UZ_STORED_STATE, "exp_avg"), 140);
    CHECK_EQ_U64(stored(s, UZ_STORED_LP, NULL), 138);
    CHECK_EQ_U64(s->padding_nbytes, 16); /* two elements of each of two states */
    CHECK_EQ_U64(s->dead_nbytes, 12);
    CHECK(names_class(s, "posix.system", UZ_CLASS_FOREIGN));
    CHECK(names_class(s, "acme.things.Thing", UZ_CLASS_FOREIGN));
    CHECK(names_class(s, "deepspeed.runtime.zero.config.ZeroStageEnum", UZ_CLASS_DEEPSPEED));
    if (CHECK_EQ_U64(s->n_client_keys, 1))
        CHECK_EQ_STR(s->client_keys[0], "client");
    if (CHECK(s->groups[0].n_values > 2)) {
        CHECK_EQ_STR(s->groups[0].values[0].name, "lr");
        CHECK_EQ_STR(s->groups[0].values[0].json, "0.01");
        CHECK_EQ_STR(s->groups[0].values[1].json, "[0.9,0.999]");
    }
    uz_inspection_free(in);
}

static void test_origins(void)
{
    static const struct {
        const char *module, *name;
        enum uz_class_origin origin;
    } cases[] = {
        {"__builtin__", "set", UZ_CLASS_PYTHON},
        {"builtins", "eval", UZ_CLASS_FOREIGN},
        {"__builtin__", "getattr", UZ_CLASS_FOREIGN},
        {"torch", "FloatStorage", UZ_CLASS_PYTORCH},
        {"torch", "bfloat16", UZ_CLASS_PYTORCH},
        {"torch", "load", UZ_CLASS_FOREIGN},
        {"torch.hub", "load", UZ_CLASS_FOREIGN},
        {"deepspeedx", "A", UZ_CLASS_FOREIGN},
        {"deepspeed", "A", UZ_CLASS_DEEPSPEED},
        {"posix", "system", UZ_CLASS_FOREIGN},
        {"numpy", "dtype", UZ_CLASS_NUMPY},
        {"numpy", "load", UZ_CLASS_FOREIGN},
        {"collections", "OrderedDict", UZ_CLASS_PYTHON},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct uz_node node = {.kind = UZ_NODE_GLOBAL};
        node.u.global.module = (struct uz_text){cases[i].module, strlen(cases[i].module)};
        node.u.global.name = (struct uz_text){cases[i].name, strlen(cases[i].name)};
        CHECK_F(uz_class_origin(&node) == cases[i].origin, "%s.%s: %s", cases[i].module,
                cases[i].name, uz_class_origin_name(uz_class_origin(&node)));
    }
}

static void test_node_set(void)
{
    static struct uz_node nodes[5000];
    struct uz_node_set set = {0};
    bool present;
    for (unsigned round = 0; round < 2; round++)
        for (uint64_t i = 0; i < 5000; i++) {
            uint64_t number = round ? 7 : i;
            CHECK_EQ_I64(uz_node_set_add(&set, &nodes[i], &number, &present, NULL), UZ_OK);
            CHECK(present == (round == 1) && number == i);
        }
    uz_node_set_free(&set);
}

/* What a tree has shown. */
struct shown {
    uint64_t n, n_references;
    unsigned depth;
    char last[64];
};

static int note_line(void *cookie, const struct uz_tree_line *line)
{
    struct shown *shown = cookie;
    CHECK_EQ_U64(line->number, shown->n + 1);
    CHECK(line->same_as < line->number);
    shown->n++;
    shown->n_references += line->same_as > 0;
    shown->depth = line->depth > shown->depth ? line->depth : shown->depth;
    (void)snprintf(shown->last, sizeof shown->last, "%s", line->value);
    return shown->n == 500; /* more than any of these files has */
}

static void test_tree(void)
{
    char path[PATH_NBYTES];
    struct uz_input_options input;
    struct uz_tree_options options;
    struct uz_error err;
    struct shown shown = {0};
    uz_input_options_default(&input);
    uz_tree_options_default(&options);
    path_of(path, "%s/good-pickle-shared-dag", fixtures_dir);
    CHECK_EQ_I64(uz_inspect_tree(path, NULL, &input, &options, note_line, &shown, &err), UZ_OK);
    CHECK(shown.n > 50);
    shown = (struct shown){0};
    CHECK_EQ_I64(uz_inspect_tree(path, "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", &input,
                                 &options, note_line, &shown, &err),
                 UZ_OK);
    CHECK(shown.n > 50 && shown.n_references > 0); /* two groups share their betas */
    shown = (struct shown){0};
    options.max_depth = 1;
    CHECK_EQ_I64(uz_inspect_tree(path, NULL, &input, &options, note_line, &shown, &err), UZ_OK);
    CHECK_EQ_U64(shown.depth, 2);
    shown = (struct shown){0};
    options.max_items = 3;
    CHECK_EQ_I64(uz_inspect_tree(path, NULL, &input, &options, note_line, &shown, &err), UZ_OK);
    CHECK(!strncmp(shown.last, "... and ", 8));
    shown = (struct shown){0};
    options.max_lines = 4;
    CHECK_EQ_I64(uz_inspect_tree(path, NULL, &input, &options, note_line, &shown, &err), UZ_OK);
    CHECK(shown.n >= 4 && shown.n <= 6);
    CHECK_EQ_I64(uz_inspect_tree(path, "no-such.pt", &input, &options, note_line, &shown, &err),
                 UZ_ARG);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"good fixtures", test_good},
        {"bad fixtures", test_bad},
        {"values", test_values},
        {"origins", test_origins},
        {"node set", test_node_set},
        {"trees", test_tree},
        CU_TEST_INFO_NULL,
    };
    fixtures_find();
    return check_run("inspect", tests);
}
