/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of joining tensor ranks and pipeline stages, against splits made by plain loops. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "check/replicas.h"
#include "engine/fetch.h"
#include "random_tp.h"
#include "zero/grid_join.h"

static struct random_tp r;

static int join(struct uz_model *model, struct uz_notes *notes, struct uz_error *err)
{
    static struct uz_limits limits;
    struct uz_tp_rules *none[RT_MAX_PP] = {0};
    uz_limits_default(&limits);
    const struct uz_grid_sources sources = {
        .grid = {.pp = r.pp, .tp = r.tp},
        .slices = r.models,
        .rules = none,
        .tp_map = r.map_path[0] ? r.map_path : NULL,
        .limits = &limits,
    };
    rt_must(!uz_model_init(model, &limits, NULL), "model");
    struct uz_tp_rules *own_rules = NULL;
    int rc = uz_grid_join(model, &sources, &own_rules, notes, err);
    uz_tp_rules_free(own_rules);
    if (rc == UZ_OK)
        rc = uz_model_finish(model, err);
    return rc;
}

/* ---- Random splits ---- */

static void check_tensor(struct uz_fetch *fetch, const struct uz_model *model,
                         const struct rt_tensor *t)
{
    static float got[RT_MAX_NUMEL];
    struct uz_error err;
    uint32_t index;
    if (!CHECK_F(uz_model_find(model, t->name, strlen(t->name), &index), "%s is there", t->name))
        return;
    const struct uz_tensor *tensor = &model->tensors[index];
    uint64_t numel = t->numel / t->shape[0] * t->kept_rows;
    CHECK_EQ_U64(tensor->ndim, t->ndim);
    CHECK_EQ_U64(tensor->shape[0], t->kept_rows);
    if (!CHECK_EQ_U64(tensor->numel, numel))
        return;
    for (unsigned k = 0; k < 3; k++) {
        uint64_t lo = k ? rng_below(numel) : 0, n = k ? 1 + rng_below(numel - lo) : numel;
        int rc = uz_fetch_elems(fetch, index, lo, n, UZ_DTYPE_F32, got, &err);
        if (CHECK_F(rc == UZ_OK, "%s: %s", t->name, err.message))
            CHECK_F(!memcmp(got, t->values + lo, n * 4), "%s, %u x %u ranks, elements %u + %u",
                    t->name, r.pp, r.tp, (unsigned)lo, (unsigned)n);
    }
}

static void check_joined(struct uz_model *model)
{
    struct uz_fetch fetch;
    struct uz_error err = {0};
    int rc = uz_check_replicas(model, 2, 1 << 12, &err);
    CHECK_F(rc == UZ_OK, "%s", err.message);
    rc = uz_fetch_check(model, &err);
    CHECK_F(rc == UZ_OK, "%s", err.message);
    rt_must(!uz_fetch_init(&fetch, model, rng_one_in(2) ? 1 << 20 : 256, 2, NULL), "fetch");
    for (size_t i = 0; i < r.n; i++)
        check_tensor(&fetch, model, &r.tensors[i]);
    uz_fetch_free(&fetch);
}

/* A byte of a copy that differs must be found. */
static void check_fault(struct uz_model *model)
{
    struct uz_error err = {0};
    if (!r.has_copy)
        return;
    r.bytes[r.copy_at] ^= (unsigned char)rng_range(1, 255);
    rt_must(write_file(r.path, r.bytes, r.used), "file");
    CHECK_EQ_I64(uz_check_replicas(model, 2, 1 << 12, &err), UZ_MISMATCH);
    CHECK_F(strstr(err.message, r.copy_name) && strstr(err.message, "the first of the elements"),
            "%s: %s", r.copy_name, err.message);
}

static void test_random(void)
{
    for (unsigned i = 0; i < 400; i++) {
        struct uz_notes notes = {0};
        struct uz_error err = {0};
        struct uz_model model;
        rt_make(&r);
        int rc = join(&model, &notes, &err);
        if (CHECK_F(rc == UZ_OK, "%s: %s", err.file, err.message)) {
            check_joined(&model);
            check_fault(&model);
        }
        uz_model_free(&model);
        uz_notes_free(&notes);
        rt_free(&r);
    }
}

/* ---- Single cases; many are the facts of DeepSpeed's test_autotp_uc_checkpoint.py ---- */

/* A shard holds the elements of the whole (0, 1, 2, ...) that stand in `rows` of `width` each. */
struct shard {
    int n_rows; /* -1: the rank has none */
    int rows[12];
};

struct one {
    const char *what;
    uint32_t tp;
    unsigned ndim; /* of the shards: 2, or 1 with rows of one element; 0: one element */
    uint64_t width;
    struct shard shards[3];
    bool by_columns; /* the rows are columns of a whole of `height` rows */
    uint64_t height;
    const char *map; /* NULL: none */
    int status;
    const char *message; /* a part of the error, or of the warning */
    bool strict, with_state;
    uint64_t shape[2]; /* of the whole */
};

#define SUB(shape, dim)                                                                            \
    "\"parameter_with_sub_params\": [{\"patterns\": [\"^w$\"], \"shape\": " shape                  \
    ", \"partition_dim\": " dim "}]"
#define WIDTHS(widths)                                                                             \
    "\"universal_checkpoint_version\": 0.4, \"sub_param_shard_widths\": {\"^w$\": " widths "}"
#define AFFINE(version, scale)                                                                     \
    "{\"affine_map\": {\"version\": " version                                                      \
    ", \"params\": {\"^w$\": {\"logical_shape\": [2, 2], "                                         \
    "\"ranks\": {\"0\": {\"shard_shape\": [1, 2], \"pieces\": [{\"shape\": [1, 2], \"source\": "   \
    "[0, "                                                                                         \
    "[2, 1]], \"dest\": [0, [2, 1]], \"locations\": [0]" scale                                     \
    "}]}, \"1\": {\"shard_shape\": [1, "                                                           \
    "2], \"pieces\": [{\"shape\": [1, 2], \"source\": [2, [2, 1]], \"dest\": [0, [2, 1]], "        \
    "\"locations\": [1]" scale "}]}}}}}}"

static const struct one ones[] = {
    {"the legacy count of sub-parameters",
     2,
     2,
     2,
     {{6, {0, 1, 4, 5, 8, 9}}, {6, {2, 3, 6, 7, 10, 11}}},
     .map = "{" SUB("[3, -1]", "0") "}",
     .shape = {12, 2}},
    {"uneven widths of grouped queries",
     2,
     2,
     2,
     {{8, {0, 1, 2, 3, 6, 7, 9, 10}}, {4, {4, 5, 8, 11}}},
     .map = "{" SUB("[[6, 3, 3], 2]", "0") ", " WIDTHS("[[4, 2], [2, 1], [2, 1]]") "}",
     .shape = {12, 2}},
    {"their bias in the same order",
     2,
     1,
     1,
     {{8, {0, 1, 2, 3, 6, 7, 9, 10}}, {4, {4, 5, 8, 11}}},
     .map = "{" SUB("[[6, 3, 3]]", "0") ", " WIDTHS("[[4, 2], [2, 1], [2, 1]]") "}",
     .shape = {12}},
    {"a rank without any rows",
     2,
     2,
     2,
     {{4, {0, 1, 2, 3}}, {0, {0}}},
     .map = "{" SUB("[[2, 1, 1], -1]", "0") ", " WIDTHS("[[2, 0], [1, 0], [1, 0]]") "}",
     .shape = {4, 2}},
    {"a rank in the middle without any",
     3,
     2,
     2,
     {{4, {0, 1, 4, 6}}, {0, {0}}, {4, {2, 3, 5, 7}}},
     .map = "{" SUB("[[4, 2, 2], 2]", "0") ", " WIDTHS("[[2, 0, 2], [1, 0, 1], [1, 0, 1]]") "}",
     .shape = {8, 2}},
    {"the same, not even with a shape",
     3,
     2,
     2,
     {{4, {0, 1, 4, 6}}, {-1, {0}}, {4, {2, 3, 5, 7}}},
     .map = "{" SUB("[[4, 2, 2], 2]", "0") ", " WIDTHS("[[2, 0, 2], [1, 0, 1], [1, 0, 1]]") "}",
     .shape = {8, 2}},
    {"uneven rows along dimension 1",
     2,
     2,
     4,
     {{3, {0, 1, 2}}, {2, {3, 4}}},
     .by_columns = true,
     .height = 4,
     .map = "{\"parameter_with_row_parallelism_patterns\": [\"w\"]}",
     .shape = {4, 5}},
    {"three in one along dimension 1, as GPT-2 has them",
     2,
     2,
     6,
     {{6, {0, 1, 4, 5, 8, 9}}, {6, {2, 3, 6, 7, 10, 11}}},
     .by_columns = true,
     .height = 3,
     .map = "{" SUB("[3, [4, 4, 4]]", "1") "}",
     .shape = {3, 12}},
    {"an affine map", 2, 2, 2, {{1, {0}}, {1, {1}}}, .map = AFFINE("1", ""), .shape = {2, 2}},
    {"patterns match at the start only",
     2,
     2,
     2,
     {{1, {0}}, {1, {1}}},
     .map = "{\"tp_replicated_parameter_patterns\": [\"x?y\"]}",
     .message = "Unused patterns",
     .shape = {2, 2}},
    {"unused patterns with --strict",
     2,
     2,
     2,
     {{1, {0}}, {1, {1}}},
     .strict = true,
     .map = "{\"tp_replicated_parameter_patterns\": [\"other\"]}",
     .status = UZ_MISMATCH,
     .message = "Unused patterns: 1"},
    {"widths that the version asks for",
     2,
     2,
     4,
     {{3, {0, 1, 2}}, {3, {3, 4, 5}}},
     .map = "{\"universal_checkpoint_version\": 0.4, " SUB("[[2, 2, 2], 4]", "0") "}",
     .status = UZ_CORRUPT,
     .message = "records no sub_param_shard_widths"},
    {"widths that do not add up",
     2,
     2,
     2,
     {{2, {0, 1}}, {2, {2, 3}}},
     .map = "{" SUB("[[2, 2], 2]", "0") ", " WIDTHS("[[2, 1], [1, 1]]") "}",
     .status = UZ_CORRUPT,
     .message = "do not add up"},
    {"widths of another shard",
     2,
     2,
     2,
     {{3, {0, 1, 2}}, {1, {3}}},
     .map = "{" SUB("[[2, 2], 2]", "0") ", " WIDTHS("[[1, 1], [1, 1]]") "}",
     .status = UZ_MISMATCH,
     .message = "tensor rank 0 holds 6 elements"},
    {"a count that does not divide",
     2,
     2,
     2,
     {{2, {0, 1}}, {2, {2, 3}}},
     .map = "{" SUB("[3, -1]", "0") "}",
     .status = UZ_MISMATCH,
     .message = "do not divide"},
    {"sub-parameters that cannot be even",
     2,
     2,
     2,
     {{3, {0, 1, 2}}, {3, {3, 4, 5}}},
     .map = "{" SUB("[[3, 3], 2]", "0") "}",
     .status = UZ_UNSUPPORTED,
     .message = "not divisible by 2 tensor ranks"},
    {"a rank that lacks its shard",
     2,
     2,
     2,
     {{4, {0, 1, 2, 3}}, {-1, {0}}},
     .map = "{}",
     .status = UZ_MISMATCH,
     .message = "tensor rank 1 holds no shard"},
    {"what AutoTP cannot convert",
     2,
     2,
     2,
     {{1, {0}}, {1, {1}}},
     .map = "{\"autotp_unsupported_parameter_patterns\": {\"^w$\": \"fused in an odd way\"}}",
     .status = UZ_UNSUPPORTED,
     .message = "fused in an odd way"},
    {"two patterns of one category",
     2,
     2,
     2,
     {{1, {0}}, {1, {1}}},
     .map = "{\"tp_replicated_parameter_patterns\": [\"w\", \"^w$\"]}",
     .status = UZ_MISMATCH,
     .message = "more than one matching pattern of tp_replicated_parameter_patterns for w"},
    {"replicated shapes that differ",
     2,
     2,
     2,
     {{1, {0}}, {2, {0, 1}}},
     .map = "{\"tp_replicated_parameter_patterns\": [\"w\"]}",
     .status = UZ_MISMATCH,
     .message = "shapes differ"},
    {"no dimension and no rule",
     2,
     0,
     1,
     {{1, {0}}, {1, {0}}},
     .map = "{}",
     .status = UZ_UNSUPPORTED,
     .message = "w: a tensor of no dimension"},
    {"no dimension, but replicated",
     2,
     0,
     1,
     {{1, {0}}, {1, {0}}},
     .map = "{\"tp_replicated_parameter_patterns\": [\"w\"]}",
     .shape = {0}},
    {"row parallelism of a vector",
     2,
     1,
     1,
     {{1, {0}}, {1, {1}}},
     .map = "{\"parameter_with_row_parallelism_patterns\": [\"w\"]}",
     .status = UZ_UNSUPPORTED,
     .message = "dimension 1, which it does not have"},
    {"a vocabulary of unknown size",
     2,
     2,
     2,
     {{1, {0}}, {1, {1}}},
     .map = "{\"vocabulary_parameter_patterns\": [\"w\"]}",
     .status = UZ_MISMATCH,
     .message = "original_vocab_size is not recorded"},
    {"an affine map of the future",
     2,
     2,
     2,
     {{1, {0}}, {1, {1}}},
     .map = AFFINE("2", ""),
     .status = UZ_UNSUPPORTED,
     .message = "format version 2"},
    {"a scale of 0",
     2,
     2,
     2,
     {{1, {0}}, {1, {1}}},
     .map = AFFINE("1", ", \"scale\": 0"),
     .status = UZ_CORRUPT,
     .message = "can be divided by"},
    {"an affine map of another shard",
     2,
     2,
     2,
     {{2, {0, 1}}, {1, {1}}},
     .map = AFFINE("1", ""),
     .status = UZ_MISMATCH,
     .message = "by affine_map it has 2"},
    {"a moment of a scaled parameter",
     2,
     2,
     2,
     {{1, {0}}, {1, {1}}},
     .with_state = true,
     .map = AFFINE("1", ", \"scale\": 0.5"),
     .status = UZ_UNSUPPORTED,
     .message = "stored scaled"},
    {"no rules for unknown names",
     2,
     2,
     2,
     {{1, {0}}, {1, {1}}},
     .status = UZ_UNSUPPORTED,
     .message = "lacks 1: w); tell how each is joined with --tp-map"},
    {"no JSON",
     2,
     2,
     2,
     {{1, {0}}, {1, {1}}},
     .map = "{\"a\": ",
     .status = UZ_CORRUPT,
     .message = "no proper JSON"},
    {"a pattern that is none",
     2,
     2,
     2,
     {{1, {0}}, {1, {1}}},
     .map = "{\"tp_replicated_parameter_patterns\": [\"(\"]}",
     .status = UZ_ARG,
     .message = "("},
};

/* The elements of a shard, in order. */
static size_t shard_values(const struct one *c, const struct shard *shard, float *values)
{
    size_t n = 0;
    uint64_t total = 0;
    for (uint32_t t = 0; t < c->tp; t++)
        total += c->shards[t].n_rows > 0 ? (uint64_t)c->shards[t].n_rows : 0;
    if (c->by_columns)
        for (uint64_t row = 0; row < c->height; row++)
            for (int k = 0; k < shard->n_rows; k++)
                values[n++] = (float)(row * total + (uint64_t)shard->rows[k]);
    else
        for (int k = 0; k < shard->n_rows; k++)
            for (uint64_t j = 0; j < c->width; j++)
                values[n++] = (float)((uint64_t)shard->rows[k] * c->width + j);
    return n;
}

static void add_shard(const struct one *c, uint32_t rank)
{
    const struct shard *shard = &c->shards[rank];
    struct uz_model *model = &r.slices[rank];
    uint64_t rows = (uint64_t)shard->n_rows;
    uint64_t shape[2] = {c->by_columns ? c->height : rows, c->by_columns ? rows : c->width};
    float values[64];
    uint32_t tensor, place, state, moment;
    if (shard->n_rows < 0)
        return;
    size_t n = shard_values(c, shard, values);
    const struct uz_place made = {.offset = r.used, .nbytes = n * 4};
    memcpy(r.bytes + r.used, values, n * 4);
    r.used += n * 4;
    rt_must(!uz_model_add_tensor(model, "w", 1, UZ_ROLE_PARAM, UZ_DTYPE_F32, c->ndim, shape,
                                 &tensor, NULL),
            "tensor");
    rt_must(!uz_model_add_place(model, &made, &place, NULL), "place");
    struct uz_piece piece = {.tensor = tensor, .storage = place, .n_elems = n};
    rt_must(!uz_model_add_piece(model, &piece, NULL), "piece");
    if (!c->with_state)
        return;
    rt_must(!uz_model_add_state(model, "exp_avg", 7, &state, NULL), "state");
    rt_must(!uz_model_add_state_tensor(model, tensor, state, UZ_DTYPE_F32, &moment, NULL), "state");
    piece.tensor = moment;
    rt_must(!uz_model_add_piece(model, &piece, NULL), "piece");
}

static void make_one(const struct one *c)
{
    struct uz_limits limits;
    uint32_t file;
    uz_limits_default(&limits);
    r = (struct random_tp){.pp = 1, .tp = c->tp};
    r.bytes = calloc(1, RT_FILE_NBYTES);
    rt_must(r.bytes != NULL, "calloc");
    path_of(r.path, "%s/one.bin", scratch_dir);
    path_of(r.map_path, "%s/one.json", scratch_dir);
    rt_must(write_file(r.map_path, c->map ? c->map : "", c->map ? strlen(c->map) : 0), "map");
    for (uint32_t i = 0; i < c->tp; i++) {
        r.models[i] = &r.slices[i];
        rt_must(!uz_model_init(&r.slices[i], &limits, NULL), "model");
        rt_must(!uz_model_add_file(&r.slices[i], r.path, &file, NULL), "file");
        add_shard(c, i);
        rt_must(!uz_model_finish(&r.slices[i], NULL), "finish");
    }
    rt_must(write_file(r.path, r.bytes, r.used), "file");
    if (!c->map)
        r.map_path[0] = '\0';
}

static void check_one_values(const struct one *c, const struct uz_model *model)
{
    struct uz_fetch fetch;
    float got[64];
    const struct uz_tensor *tensor = &model->tensors[0];
    for (unsigned j = 0; j < tensor->ndim; j++)
        CHECK_F(tensor->shape[j] == c->shape[j], "%s: dimension %u is %u", c->what, j,
                (unsigned)tensor->shape[j]);
    rt_must(!uz_fetch_init(&fetch, model, 1 << 16, 1, NULL), "fetch");
    CHECK_EQ_I64(uz_fetch_elems(&fetch, 0, 0, tensor->numel, UZ_DTYPE_F32, got, NULL), UZ_OK);
    for (uint64_t i = 0; i < tensor->numel; i++)
        CHECK_F(got[i] >= (float)i && got[i] <= (float)i, "%s: element %u is %g", c->what,
                (unsigned)i, (double)got[i]);
    uz_fetch_free(&fetch);
}

static void test_single_cases(void)
{
    for (size_t i = 0; i < sizeof ones / sizeof ones[0]; i++) {
        const struct one *c = &ones[i];
        struct uz_notes notes = {.strict = c->strict};
        struct uz_error err = {0};
        struct uz_model model;
        make_one(c);
        int rc = join(&model, &notes, &err);
        const char *text = rc < 0 ? err.message : notes.n ? notes.items[0] : "";
        CHECK_F(rc == c->status, "%s: status %d, %s", c->what, rc, err.message);
        CHECK_F(!c->message || strstr(text, c->message), "%s: %s", c->what, text);
        CHECK_F(c->message || !notes.n, "%s: %s", c->what, text);
        if (rc == UZ_OK && c->status == UZ_OK)
            check_one_values(c, &model);
        uz_model_free(&model);
        uz_notes_free(&notes);
        rt_free(&r);
    }
}

/* ---- Names without rules ---- */

static void check_family(const struct uz_tp_named *names, size_t n, int status, const char *text)
{
    struct uz_limits limits;
    struct uz_tp_rules *rules = NULL;
    struct uz_error err = {0};
    uz_limits_default(&limits);
    CHECK_EQ_I64(uz_tp_rules_of_family(&rules, names, n, &limits, &err), status);
    const char *got = rules ? uz_tp_family_name(rules) : err.message;
    CHECK_F(strstr(got, text) != NULL, "%s", got);
    uz_tp_rules_free(rules);
}

static void test_families(void)
{
    static const uint64_t shape[2] = {8, 8};
    const struct uz_tp_named llama[] = {{"model.embed_tokens.weight", 2, shape},
                                        {"model.layers.0.self_attn.q_proj.weight", 2, shape}};
    const struct uz_tp_named gpt2[] = {{"transformer.wte.weight", 2, shape},
                                       {"transformer.h.0.attn.c_attn.weight", 2, shape}};
    check_family(llama, 2, UZ_OK, "Hugging Face Llama/Qwen");
    check_family(gpt2, 2, UZ_UNSUPPORTED, "Conv1D");
    check_family(gpt2, 1, UZ_UNSUPPORTED, "transformer.wte.weight");
}

/* ---- Rules of several stages ---- */

static struct uz_tp_rules *rules_of(const char *json)
{
    struct uz_tp_rules *rules = NULL;
    struct uz_limits limits;
    char path[PATH_NBYTES];
    uz_limits_default(&limits);
    path_of(path, "%s/stage.json", scratch_dir);
    rt_must(write_file(path, json, strlen(json)), "rules");
    rt_must(!uz_tp_rules_from_json(&rules, path, &limits, NULL), json);
    return rules;
}

/* Each stage records the patterns of its own parameters. */
static void test_rule_sets(void)
{
    struct uz_tp_rules *of[] = {
        NULL,
        rules_of("{\"tp_replicated_parameter_patterns\": [\"^a$\"]}"),
        rules_of("{\"parameter_with_row_parallelism_patterns\": [\"^b$\"], "
                 "\"original_vocab_size\": 77}"),
    };
    struct uz_tp_rule_sets sets = {of, sizeof of / sizeof *of};
    struct uz_tp_rule rule;
    uint64_t n_rows = 0;
    CHECK_EQ_I64(uz_tp_rule_sets_find(&sets, "a", &rule, NULL), UZ_OK);
    CHECK(rule.is_named && rule.join == UZ_TP_REPLICATED);
    CHECK_EQ_I64(uz_tp_rule_sets_find(&sets, "b", &rule, NULL), UZ_OK);
    CHECK(rule.is_named && rule.join == UZ_TP_ROWS);
    CHECK_EQ_I64(uz_tp_rule_sets_find(&sets, "c", &rule, NULL), UZ_OK);
    CHECK(!rule.is_named && rule.join == UZ_TP_COLUMNS);
    CHECK(uz_tp_rule_sets_vocabulary(&sets, &n_rows) && n_rows == 77);
    sets.n = 1;
    CHECK_EQ_I64(uz_tp_rule_sets_find(&sets, "a", &rule, NULL), UZ_OK);
    CHECK(!rule.is_named && rule.is_known && !uz_tp_rule_sets_vocabulary(&sets, &n_rows));
    uz_tp_rules_free(of[1]);
    uz_tp_rules_free(of[2]);
}

/* ---- Large reads ---- */

enum { BIG = 8192, BIG_TP = 8, BIG_WIDTH = BIG / BIG_TP, BIG_ROWS = 128, LARGE_NBYTES = 256 << 10 };

/* Counted by all threads of the engine. */
static _Atomic uint64_t n_reads, n_small_reads, n_read_bytes;

int __real_uz_pread_all(int fd, void *buf, size_t nbytes, uint64_t offset, const char *path,
                        struct uz_error *err);
int __wrap_uz_pread_all(int fd, void *buf, size_t nbytes, uint64_t offset, const char *path,
                        struct uz_error *err);

int __wrap_uz_pread_all(int fd, void *buf, size_t nbytes, uint64_t offset, const char *path,
                        struct uz_error *err)
{
    n_reads++;
    n_small_reads += nbytes < LARGE_NBYTES;
    n_read_bytes += nbytes;
    return __real_uz_pread_all(fd, buf, nbytes, offset, path, err);
}

/* Each rank's columns of an 8192 x 8192 matrix, in a sparse file of its own. */
static void make_columns(uint32_t rank)
{
    static const uint64_t shape[2] = {BIG, BIG_WIDTH};
    struct uz_model *model = &r.slices[rank];
    struct uz_limits limits;
    uint32_t file, place, tensor;
    char path[PATH_NBYTES];
    const float first = (float)rank;
    uz_limits_default(&limits);
    path_of(path, "%s/columns%u.bin", scratch_dir, rank);
    rt_must(write_file(path, &first, sizeof first), "file");
    const struct uz_place made = {.nbytes = (uint64_t)BIG * BIG_WIDTH * 4};
    rt_must(truncate(path, (off_t)made.nbytes) == 0, "truncate");
    r.models[rank] = model;
    rt_must(!uz_model_init(model, &limits, NULL), "model");
    rt_must(!uz_model_add_file(model, path, &file, NULL), "file");
    rt_must(!uz_model_add_place(model, &made, &place, NULL), "place");
    rt_must(
        !uz_model_add_tensor(model, "w", 1, UZ_ROLE_PARAM, UZ_DTYPE_F32, 2, shape, &tensor, NULL),
        "tensor");
    const struct uz_piece piece = {
        .tensor = tensor, .storage = place, .n_elems = (uint64_t)BIG * BIG_WIDTH};
    rt_must(!uz_model_add_piece(model, &piece, NULL), "piece");
    rt_must(!uz_model_finish(model, NULL), "finish");
}

/* As much as one chunk of output, 4 MiB: each rank's part of it is one read. */
static void check_chunk(const struct uz_model *model, uint64_t first_row)
{
    struct uz_fetch fetch;
    float *got = malloc((size_t)BIG_ROWS * BIG * sizeof *got);
    rt_must(got != NULL, "malloc");
    n_reads = 0;
    n_small_reads = 0;
    n_read_bytes = 0;
    rt_must(!uz_fetch_init(&fetch, model, 4 << 20, BIG_TP, NULL), "fetch");
    CHECK_EQ_I64(uz_fetch_elems(&fetch, 0, first_row * BIG, (uint64_t)BIG_ROWS * BIG, UZ_DTYPE_F32,
                                got, NULL),
                 UZ_OK);
    CHECK_EQ_U64(n_reads, BIG_TP);
    CHECK_EQ_U64(n_small_reads, 0);
    CHECK_EQ_U64(n_read_bytes, (uint64_t)BIG_ROWS * BIG * 4);
    for (unsigned rank = 0; first_row == 0 && rank < BIG_TP; rank++)
        CHECK(got[rank * BIG_WIDTH] >= (float)rank && got[rank * BIG_WIDTH] <= (float)rank);
    uz_fetch_free(&fetch);
    free(got);
}

static void test_large_reads(void)
{
    static const char map[] = "{\"parameter_with_row_parallelism_patterns\": [\"w\"]}";
    struct uz_notes notes = {0};
    struct uz_error err = {0};
    struct uz_model model;
    r = (struct random_tp){.pp = 1, .tp = BIG_TP};
    path_of(r.map_path, "%s/columns.json", scratch_dir);
    rt_must(write_file(r.map_path, map, sizeof map - 1), "map");
    for (uint32_t rank = 0; rank < BIG_TP; rank++)
        make_columns(rank);
    int rc = join(&model, &notes, &err);
    if (CHECK_F(rc == UZ_OK, "%s", err.message)) {
        check_chunk(&model, 0);
        check_chunk(&model, BIG - BIG_ROWS);
    }
    uz_model_free(&model);
    uz_notes_free(&notes);
    rt_free(&r);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"random splits are joined", test_random},
        {"single cases", test_single_cases},
        {"families", test_families},
        {"rules of several stages", test_rule_sets},
        {"large reads", test_large_reads},
        CU_TEST_INFO_NULL,
    };
    rng_init();
    scratch_make();
    return check_run("tp", tests);
}
