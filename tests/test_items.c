/* SPDX-License-Identifier: Apache-2.0 */
/* Which names, ties and states of a model become items, and in which order. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "out/items.h"

/* ---- A model of a few tensors ---- */

static uint32_t add(struct uz_model *model, const char *name, enum uz_role role,
                    enum uz_dtype dtype, uint64_t order)
{
    const uint64_t shape[] = {4};
    uint32_t tensor = 0;
    if (uz_model_add_tensor(model, name, strlen(name), role, dtype, 1, shape, &tensor, NULL) < 0)
        abort();
    model->tensors[tensor].order = order;
    return tensor;
}

static void add_alias(struct uz_model *model, const char *name, uint32_t tensor, uint64_t order)
{
    if (uz_model_add_alias(model, name, strlen(name), tensor, order, NULL) < 0)
        abort();
}

static void add_state(struct uz_model *model, const char *name, uint32_t param, enum uz_dtype dtype)
{
    uint32_t state, tensor;
    if (uz_model_add_state(model, name, strlen(name), &state, NULL) < 0 ||
        uz_model_add_state_tensor(model, param, state, dtype, &tensor, NULL) < 0)
        abort();
}

/* Pieces that cover every tensor; finishing wants them. */
static void finish(struct uz_model *model)
{
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        struct uz_piece piece = {.tensor = i, .n_elems = model->tensors[i].numel};
        if (uz_model_add_piece(model, &piece, NULL) < 0)
            abort();
    }
    if (uz_model_finish(model, NULL) < 0)
        abort();
}

/*
 * The module holds, in this order: head (tied to embed), embed, steps (an int64 buffer), mean (a
 * bf16 buffer), body, ice (frozen, tied to snow), snow, tail (without exp_avg).
 */
static void make_model(struct uz_model *model)
{
    struct uz_limits limits;
    uz_limits_default(&limits);
    if (uz_model_init(model, &limits, NULL) < 0)
        abort();
    uint32_t body = add(model, "body", UZ_ROLE_PARAM, UZ_DTYPE_F32, 4);
    uint32_t head = add(model, "head", UZ_ROLE_PARAM, UZ_DTYPE_F32, 0);
    uint32_t tail = add(model, "tail", UZ_ROLE_PARAM, UZ_DTYPE_F32, 7);
    add(model, "steps", UZ_ROLE_BUFFER, UZ_DTYPE_I64, 2);
    add(model, "mean", UZ_ROLE_BUFFER, UZ_DTYPE_BF16, 3);
    uint32_t ice = add(model, "ice", UZ_ROLE_FROZEN, UZ_DTYPE_BF16, 5);
    add_alias(model, "embed", head, 1);
    add_alias(model, "snow", ice, 6);
    add_state(model, "exp_avg", body, UZ_DTYPE_F32);
    add_state(model, "exp_avg", head, UZ_DTYPE_F32);
    add_state(model, "sum", tail, UZ_DTYPE_BF16);
    add_state(model, "sum", head, UZ_DTYPE_BF16);
    finish(model);
}

/* ---- Cases ---- */

enum { MAX_LINES = 24 };

/* What selecting comes to, as text: "NAME DTYPE HOLDER" and so on. */
struct outcome {
    int rc;
    char lines[MAX_LINES][64];
    size_t n;
    struct uz_notes notes;
    struct uz_error err;
};

static void select_items(struct outcome *o, const struct uz_items_options *options)
{
    struct uz_model model;
    struct uz_items items;
    memset(o, 0, sizeof *o);
    make_model(&model);
    o->rc = uz_items_select(&items, &model, options, &o->notes, &o->err);
    if (o->rc == UZ_OK) {
        static const char *const whys[] = {"frozen", "rules", "stateless"};
        for (size_t i = 0; i < items.n; i++)
            (void)snprintf(o->lines[o->n++], 64, "%s %s %zu", items.items[i].name,
                           uz_dtype_name(items.items[i].dtype), items.items[i].holder);
        for (size_t i = 0; i < items.n_dropped; i++)
            (void)snprintf(o->lines[o->n++], 64, "%s is %s at %zu", items.dropped[i].name,
                           items.dropped[i].kept, items.dropped[i].item);
        for (size_t i = 0; i < items.n_left_out; i++)
            (void)snprintf(o->lines[o->n++], 64, "no %s: %s", items.left_out[i].name,
                           whys[items.left_out[i].why]);
        for (size_t i = 0; i < items.n_renamed; i++)
            (void)snprintf(o->lines[o->n++], 64, "%s -> %s", items.renamed[i].from,
                           items.renamed[i].to);
    }
    uz_items_free(&items);
    uz_model_free(&model);
}

static void check_lines(const struct uz_items_options *options, const char *const *want)
{
    struct outcome o;
    size_t n = 0;
    select_items(&o, options);
    if (CHECK_F(o.rc == UZ_OK, "%s", o.err.message)) {
        for (; want[n]; n++)
            CHECK_EQ_STR(n < o.n ? o.lines[n] : "nothing", want[n]);
        CHECK_EQ_U64(o.n, n);
    }
    uz_notes_free(&o.notes);
}

#define LINES(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_one_name(void)
{
    check_lines(&(const struct uz_items_options){.policy = UZ_POLICY_FP32},
                LINES("embed fp32 0", "steps int64 1", "mean bf16 2", "body fp32 3", "ice fp32 4",
                      "tail fp32 5", "head is embed at 0", "snow is ice at 4"));
}

static void test_every_name(void)
{
    struct uz_items_options options = {.policy = UZ_POLICY_BF16, .ties = UZ_TIES_SHARED};
    check_lines(&options, LINES("head bf16 0", "embed bf16 0", "steps int64 2", "mean bf16 3",
                                "body bf16 4", "ice bf16 5", "snow bf16 5", "tail bf16 7"));
    options.ties = UZ_TIES_COPIES;
    check_lines(&options, LINES("head bf16 0", "embed bf16 1", "steps int64 2", "mean bf16 3",
                                "body bf16 4", "ice bf16 5", "snow bf16 6", "tail bf16 7"));
}

static void test_buffers(void)
{
    static const char *const include[] = {"mean", "steps"};
    const struct uz_name_rules rules = {.includes = include, .n_includes = 2};
    const struct uz_items_options options = {
        .policy = UZ_POLICY_FP16, .widen_buffers = true, .names = &rules};
    check_lines(&options,
                LINES("steps int64 0", "mean fp32 1", "no head: rules", "no embed: rules",
                      "no body: rules", "no ice: rules", "no snow: rules", "no tail: rules"));
}

static void test_frozen(void)
{
    check_lines(&(const struct uz_items_options){.exclude_frozen = true},
                LINES("embed fp32 0", "steps int64 1", "mean bf16 2", "body fp32 3", "tail fp32 4",
                      "head is embed at 0", "no ice: frozen", "no snow: frozen"));
}

/* A holder may go while another of its names stays; frozen or not, rules come first. */
static void test_rules(void)
{
    static const char *const exclude[] = {"embed", "ice", "steps|mean|body"};
    static const char *const rename[] = {"s/^(.)/x.\\1/"};
    const struct uz_name_rules rules = {
        .excludes = exclude, .n_excludes = 3, .renames = rename, .n_renames = 1};
    struct uz_items_options options = {.names = &rules};
    static const char *const want[] = {"x.head fp32 0",  "x.snow fp32 1",   "x.tail fp32 2",
                                       "no body: rules", "no embed: rules", "no ice: rules",
                                       "no mean: rules", "no steps: rules", "head -> x.head",
                                       "snow -> x.snow", "tail -> x.tail"};
    struct outcome o;
    for (options.ties = UZ_TIES_ONE_NAME; options.ties <= UZ_TIES_COPIES; options.ties++) {
        select_items(&o, &options);
        CHECK_EQ_I64(o.rc, UZ_OK);
        CHECK_EQ_U64(o.n, sizeof want / sizeof want[0]);
        for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
            bool found = false;
            for (size_t k = 0; k < o.n; k++)
                found |= !strcmp(o.lines[k], want[i]);
            CHECK_F(found, "no line '%s'", want[i]);
        }
        uz_notes_free(&o.notes);
    }
}

/* Neither a new name nor an old one may hide that a tensor is the embedding. */
static void test_renamed_embedding(void)
{
    static const char *const away[] = {"s/embed/tok/"}, *const to[] = {"s/snow/wte/"};
    struct uz_name_rules rules = {.renames = away, .n_renames = 1};
    const struct uz_items_options options = {.names = &rules};
    struct outcome o;
    select_items(&o, &options);
    CHECK_EQ_STR(o.lines[0], "tok fp32 0");
    CHECK_EQ_STR(o.lines[4], "ice fp32 4");
    rules.renames = to;
    select_items(&o, &options);
    CHECK_EQ_STR(o.lines[4], "wte fp32 4");
}

static void test_one_state(void)
{
    struct outcome o;
    struct uz_items_options options = {.state = "exp_avg", .policy = UZ_POLICY_BF16};
    select_items(&o, &options);
    CHECK_EQ_STR(o.lines[0], "embed bf16 0");
    CHECK_EQ_STR(o.lines[1], "body bf16 1");
    CHECK_EQ_STR(o.lines[2], "head is embed at 0");
    CHECK_EQ_U64(o.n, 3 + 5);
    CHECK_EQ_STR(o.lines[3], "no steps: stateless");
    CHECK_EQ_U64(o.notes.n, 1);
    CHECK_EQ_STR(o.notes.items[0], "the optimizer keeps no state exp_avg of 1 parameters: tail");
    uz_notes_free(&o.notes);
    options.policy = UZ_POLICY_KEEP;
    options.state = "sum";
    select_items(&o, &options);
    CHECK_EQ_STR(o.lines[0], "embed bf16 0"); /* as stored */
    CHECK_EQ_STR(o.lines[1], "tail bf16 1");
    uz_notes_free(&o.notes);
}

static void test_all_states(void)
{
    check_lines(&(const struct uz_items_options){.state = "all", .ties = UZ_TIES_COPIES},
                LINES("fp32/head fp32 0", "fp32/embed fp32 1", "fp32/steps int64 2",
                      "fp32/mean bf16 3", "fp32/body fp32 4", "fp32/ice fp32 5", "fp32/snow fp32 6",
                      "fp32/tail fp32 7", "exp_avg/head fp32 8", "exp_avg/embed fp32 9",
                      "exp_avg/body fp32 10", "sum/head fp32 11", "sum/embed fp32 12",
                      "sum/tail fp32 13"));
}

static void test_nothing_left(void)
{
    static const char *const exclude[] = {"."};
    const struct uz_name_rules rules = {.excludes = exclude, .n_excludes = 1};
    struct outcome o;
    select_items(&o, &(const struct uz_items_options){.names = &rules});
    CHECK_EQ_I64(o.rc, UZ_ARG);
    CHECK_EQ_STR(o.err.message, "no tensor is left to write");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"one name of tied tensors", test_one_name},
        {"every name, shared or copied", test_every_name},
        {"buffers are widened", test_buffers},
        {"frozen parameters are left out", test_frozen},
        {"rules are about names", test_rules},
        {"an embedding stays one", test_renamed_embedding},
        {"one state", test_one_state},
        {"weights and states", test_all_states},
        {"nothing is left", test_nothing_left},
        CU_TEST_INFO_NULL,
    };
    return check_run("items", tests);
}
