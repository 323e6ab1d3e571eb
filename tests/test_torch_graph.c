/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of files of any values: new storages, those of a source file, and what they share. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "convert/parts.h"
#include "out/torch_graph.h"
#include "scratch.h"

static struct uz_limits limits;
static const float values[] = {1, 2, 3, 4};

static void must(int rc)
{
    if (rc < 0)
        abort();
}

/* ---- Writing ---- */

/* A file in the making, beside nothing else. */
struct writing {
    struct uz_model source;
    struct uz_stored stored;
    struct uz_out out;
    struct uz_graph graph;
};

static void start(struct writing *w, struct uz_torch_file *source)
{
    *w = (struct writing){0};
    must(uz_model_init(&w->source, &limits, NULL));
    must(uz_model_finish(&w->source, NULL));
    must(uz_stored_start(&w->stored, &w->source, &limits, NULL));
    must(uz_graph_start(&w->graph, "value.pt", &w->stored, source, &limits, NULL));
}

/* Makes the folder `dir` with value.pt in it. */
static bool finish(struct writing *w, const struct uz_node *root, const char *dir,
                   struct uz_error *err)
{
    const struct uz_engine_options engine = {
        .threads = 2, .buffer_nbytes = 1 << 20, .limits = limits, .cpu_mask = ~0u};
    struct uz_parts parts = {0};
    struct uz_tree tree;
    int rc = uz_graph_finish(&w->graph, root, &w->out, err);
    if (rc == UZ_OK)
        rc = uz_model_finish(&w->stored.model, err);
    if (rc == UZ_OK) {
        must(uz_tree_open(&tree, dir, err));
        tree.sync = UZ_SYNC_NONE;
        rc = uz_parts_run(&parts, &tree, &w->stored.model, &w->out, &engine, err);
        if (rc == UZ_OK)
            rc = uz_tree_commit(&tree, err);
        uz_tree_close(&tree);
        CHECK_EQ_U64(parts.nbytes_done, w->out.data_nbytes);
    }
    uz_graph_free(&w->graph);
    uz_out_free(&w->out);
    uz_stored_free(&w->stored);
    uz_model_free(&w->source);
    return rc == UZ_OK;
}

/* {known: 4 elements, view: the last two of them, padding: 5 zeros in fp16, empty: no elements} */
static struct uz_node *make_value(struct uz_graph *graph)
{
    struct uz_maker *maker = &graph->maker;
    struct uz_node *root = uz_make_dict(maker);
    const struct uz_node *known, *padding, *empty;
    const uint64_t shape[] = {2, 2}, two = 2, five = 5, none = 0;
    must(uz_graph_bytes(graph, UZ_DTYPE_F32, 4, values, &known, NULL));
    must(uz_graph_open_storage(graph, UZ_DTYPE_F32, UZ_DTYPE_F16, 5, &padding, NULL));
    must(uz_stored_close(graph->stored, NULL));
    must(uz_graph_open_storage(graph, UZ_DTYPE_BF16, UZ_DTYPE_BF16, 0, &empty, NULL));
    uz_make_set(maker, root, "known", uz_make_tensor(maker, known, 0, 2, shape));
    uz_make_set(maker, root, "view", uz_make_tensor(maker, known, 2, 1, &two));
    uz_make_set(maker, root, "padding", uz_make_tensor(maker, padding, 0, 1, &five));
    uz_make_set(maker, root, "empty", uz_make_tensor(maker, empty, 0, 1, &none));
    return root;
}

/* ---- Reading ---- */

static struct uz_torch_file *open_value(const char *dir)
{
    struct uz_torch_file *file = NULL;
    struct uz_error err;
    char path[PATH_NBYTES];
    path_of(path, "%s/value.pt", dir);
    CHECK_F(uz_torch_open(&file, path, &limits, &err) == UZ_OK, "%s", err.message);
    return file;
}

static struct uz_view view_of(struct uz_torch_file *file, const char *key)
{
    struct uz_view view = {0};
    struct uz_error err;
    CHECK_F(uz_torch_tensor(file, uz_node_get(uz_torch_root(file), key), key, &view, &err) == UZ_OK,
            "%s: %s", key, err.message);
    return view;
}

/* What make_value has made, under these keys. */
static void check_value(struct uz_torch_file *file)
{
    const struct uz_view known = view_of(file, "known"), view = view_of(file, "view");
    const struct uz_view padding = view_of(file, "padding"), empty = view_of(file, "empty");
    static const unsigned char zeros[10];
    float got[4] = {0};
    unsigned char halves[10] = {1};
    CHECK(known.ndim == 2 && known.dtype == UZ_DTYPE_F32 && known.first == 0);
    CHECK_EQ_I64(uz_torch_read(file, &known.storage, 0, got, sizeof got, NULL), UZ_OK);
    CHECK_EQ_MEM(got, values, sizeof got);
    CHECK_EQ_U64(view.storage.key, known.storage.key);
    CHECK_EQ_U64(view.first, 2);
    CHECK(padding.dtype == UZ_DTYPE_F16 && padding.numel == 5);
    CHECK_EQ_I64(uz_torch_read(file, &padding.storage, 0, halves, sizeof halves, NULL), UZ_OK);
    CHECK_EQ_MEM(halves, zeros, sizeof zeros);
    CHECK(empty.dtype == UZ_DTYPE_BF16 && empty.numel == 0);
}

/* ---- Tests ---- */

static void test_new_values(void)
{
    struct writing w;
    struct uz_error err;
    char dir[PATH_NBYTES];
    path_of(dir, "%s/new", scratch_dir);
    start(&w, NULL);
    if (!CHECK_F(finish(&w, make_value(&w.graph), dir, &err), "%s", err.message))
        return;
    struct uz_torch_file *file = open_value(dir);
    if (file)
        check_value(file);
    uz_torch_close(file);
}

/* A source's storages come along once each, and are numbered behind the new ones. */
static void test_values_of_a_source(void)
{
    static const float more[] = {9, 8};
    const uint64_t two = 2;
    const struct uz_node *persid;
    struct writing w;
    struct uz_error err;
    char dir[PATH_NBYTES];
    path_of(dir, "%s/new", scratch_dir);
    struct uz_torch_file *source = open_value(dir);
    path_of(dir, "%s/again", scratch_dir);
    if (!source)
        return;
    start(&w, source);
    struct uz_node *root = uz_make_copy(&w.graph.maker, uz_torch_root(source));
    must(uz_graph_bytes(&w.graph, UZ_DTYPE_F32, 2, more, &persid, NULL));
    uz_make_set(&w.graph.maker, root, "more", uz_make_tensor(&w.graph.maker, persid, 0, 1, &two));
    uz_make_set(&w.graph.maker, root, "same", uz_node_get(root, "known"));
    if (CHECK_F(finish(&w, root, dir, &err), "%s", err.message)) {
        struct uz_torch_file *file = open_value(dir);
        if (file) {
            float got[2];
            const struct uz_node *value = uz_torch_root(file);
            const struct uz_view view = view_of(file, "more");
            check_value(file);
            CHECK(uz_node_get(value, "same") == uz_node_get(value, "known"));
            CHECK(view.storage.key != view_of(file, "known").storage.key);
            CHECK_EQ_I64(uz_torch_read(file, &view.storage, 0, got, sizeof got, NULL), UZ_OK);
            CHECK_EQ_MEM(got, more, sizeof more);
        }
        uz_torch_close(file);
    }
    uz_torch_close(source);
}

/* Elements without a class of storages are refused, and so are limits that do not suffice. */
static void test_refusals(void)
{
    struct uz_limits few = limits;
    const struct uz_node *persid;
    struct uz_error err;
    struct writing w;
    char dir[PATH_NBYTES];
    path_of(dir, "%s/refused", scratch_dir);
    start(&w, NULL);
    CHECK_EQ_I64(uz_graph_bytes(&w.graph, UZ_DTYPE_INVALID, 1, values, &persid, &err),
                 UZ_UNSUPPORTED);
    few.max_pickle_bytes = 8;
    w.graph.limits = &few;
    CHECK(!finish(&w, make_value(&w.graph), dir, &err));
    CHECK_EQ_I64(err.status, UZ_LIMIT);
    CHECK_EQ_STR(err.file, "value.pt");
    CHECK(!path_exists(dir));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"new values", test_new_values},
        {"values of a source", test_values_of_a_source},
        {"refusals", test_refusals},
        CU_TEST_INFO_NULL,
    };
    uz_limits_default(&limits);
    scratch_make();
    return check_run("torch graph", tests);
}
