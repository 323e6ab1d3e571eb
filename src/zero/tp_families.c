/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Built-in rules for checkpoints that record none. A family counts only if it knows every name, and
 * joined shapes must fit one another: the letters of a row are sizes, and each has one value in a
 * model. Names come from the models' sources, the splits from what makes them:
 *
 * - Hugging Face Llama, Qwen2, Qwen3, Mistral (transformers, models/<family>/modeling_<family>.py)
 *   under AutoTP: o_proj and down_proj are split by rows, other linear layers by columns, the rest
 *   is left alone (DeepSpeed, module_inject/auto_tp.py). A bias of a layer that is split by rows is
 *   not here: whether it is stored scaled depends on the version.
 * - Megatron-DeepSpeed GPT and Llama, with pipeline or without (megatron/model/gpt_model.py, class
 *   UniversalCheckpointInfo; language_model.py; transformer.py). With SwiGLU each rank's
 *   dense_h_to_4h is two halves; it is then twice as high as dense_4h_to_h is wide.
 *
 * There is none for Hugging Face GPT-2: AutoTP refuses that model.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "zero/tp_rules_impl.h"

enum { MAX_ROWS = 32, MAX_LISTED = 8 };

struct row {
    const char *pattern;
    enum uz_tp_category category;
    const char *dims;
};

enum glu { ANY, PLAIN, GATED };

struct family {
    const char *name;
    enum glu glu; /* which dense_h_to_4h it is for */
    struct row rows[MAX_ROWS];
};

#define HF      "^model\\.layers\\.\\d+\\."
#define MEG     "^(language_model\\.encoder\\.layers\\.)?\\d+\\."
#define COLUMNS UZ_TP_CAT_COLUMNS
#define ROWS    UZ_TP_CAT_ROWS
#define SAME    UZ_TP_CAT_REPLICATED
#define HALVES  UZ_TP_CAT_HALVES

#define MEGATRON_ROWS                                                                              \
    {"^(language_model\\.embedding|tied_modules\\.embed|\\d+)\\.word_embeddings\\.weight$",        \
     COLUMNS, "VH"},                                                                               \
        {"^(language_model\\.embedding|tied_modules\\.embed|\\d+)\\.position_embeddings\\."        \
         "weight$",                                                                                \
         SAME, "PH"},                                                                              \
        {"^(language_model\\.output_layer|\\d+\\.lm_head)\\.weight$", COLUMNS, "VH"},              \
        {MEG "(input|post_attention)_layernorm\\.(weight|bias)$", SAME, "H"},                      \
        {"^language_model\\.encoder\\.final_layernorm\\.(weight|bias)$", SAME, "H"},               \
        {"^\\d+\\.(weight|bias)$", SAME, "H"},                                                     \
        {MEG "self_attention\\.query_key_value\\.weight$", COLUMNS, "QH"},                         \
        {MEG "self_attention\\.query_key_value\\.bias$", COLUMNS, "Q"},                            \
        {MEG "self_attention\\.dense\\.weight$", ROWS, "HA"},                                      \
        {MEG "self_attention\\.dense\\.bias$", SAME, "H"},                                         \
        {MEG "mlp\\.dense_4h_to_h\\.weight$", ROWS, "HF"},                                         \
    {                                                                                              \
        MEG "mlp\\.dense_4h_to_h\\.bias$", SAME, "H"                                               \
    }

static const struct family families[] = {
    {"Hugging Face Llama/Qwen",
     ANY,
     {{"^model\\.embed_tokens\\.weight$", SAME, "VH"},
      {"^lm_head\\.weight$", COLUMNS, "VH"},
      {"^model\\.norm\\.weight$", SAME, "H"},
      {HF "(input|post_attention)_layernorm\\.weight$", SAME, "H"},
      {HF "self_attn\\.[qk]_norm\\.weight$", SAME, "D"},
      {HF "self_attn\\.q_proj\\.weight$", COLUMNS, "QH"},
      {HF "self_attn\\.[kv]_proj\\.weight$", COLUMNS, "KH"},
      {HF "self_attn\\.q_proj\\.bias$", COLUMNS, "Q"},
      {HF "self_attn\\.[kv]_proj\\.bias$", COLUMNS, "K"},
      {HF "self_attn\\.o_proj\\.weight$", ROWS, "HQ"},
      {HF "mlp\\.(gate|up)_proj\\.weight$", COLUMNS, "FH"},
      {HF "mlp\\.down_proj\\.weight$", ROWS, "HF"}}},
    {"Megatron-DeepSpeed GPT",
     PLAIN,
     {MEGATRON_ROWS,
      {MEG "mlp\\.dense_h_to_4h\\.weight$", COLUMNS, "FH"},
      {MEG "mlp\\.dense_h_to_4h\\.bias$", COLUMNS, "F"}}},
    {"Megatron-DeepSpeed Llama",
     GATED,
     {MEGATRON_ROWS,
      {MEG "mlp\\.dense_h_to_4h\\.weight$", HALVES, "GH"},
      {MEG "mlp\\.dense_h_to_4h\\.bias$", HALVES, "G"}}},
};

enum { N_FAMILIES = sizeof families / sizeof families[0] };

/* The rows' dims by number, which is what patterns have as their value. */
static int add_rows(struct uz_tp_rules *rules, const struct family *family, struct uz_error *err)
{
    const char **dims;
    UZ_TRY(uz_arena_alloc(rules->arena, MAX_ROWS, sizeof *dims, &dims, err));
    for (size_t i = 0; i < MAX_ROWS && family->rows[i].pattern; i++) {
        const struct row *row = &family->rows[i];
        dims[i] = row->dims;
        UZ_TRY(uz_tp_patterns_add(&rules->patterns[row->category], rules->arena, row->pattern,
                                  strlen(row->pattern), i, err));
    }
    rules->dims = dims;
    rules->family = family->name;
    rules->known_names_only = true;
    return UZ_OK;
}

/* Whether dense_h_to_4h makes two halves, by the shapes of one rank. */
static enum glu find_glu(const struct uz_tp_named *tensors, size_t n)
{
    uint64_t up = 0, down = 0;
    for (size_t i = 0; i < n; i++) {
        if (!up && tensors[i].ndim == 2 &&
            uz_ends_with(tensors[i].name, "mlp.dense_h_to_4h.weight"))
            up = tensors[i].shape[0];
        if (!down && tensors[i].ndim == 2 &&
            uz_ends_with(tensors[i].name, "mlp.dense_4h_to_h.weight"))
            down = tensors[i].shape[1];
    }
    return up == down ? PLAIN : up / 2 == down && up % 2 == 0 ? GATED : ANY;
}

/* How many names the rules do not know; some of them in `list`. */
static int count_unknown(struct uz_tp_rules *rules, const struct uz_tp_named *tensors, size_t n,
                         size_t *n_unknown, char *list, size_t size, struct uz_error *err)
{
    size_t used = 0;
    *n_unknown = 0;
    list[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        struct uz_tp_rule rule;
        UZ_TRY(uz_tp_rules_find(rules, tensors[i].name, &rule, err));
        if (rule.is_known)
            continue;
        if (++*n_unknown <= MAX_LISTED && used + strlen(tensors[i].name) + 8 < size)
            used += (size_t)snprintf(list + used, size - used, "%s%s", used ? ", " : "",
                                     tensors[i].name);
        else if (*n_unknown == MAX_LISTED + 1 && used + 8 < size)
            used += (size_t)snprintf(list + used, size - used, ", ...");
    }
    return UZ_OK;
}

/* c_attn is three layers in one, and a Conv1D: its weight is transposed. */
static bool is_gpt2(const struct uz_tp_named *tensors, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (uz_ends_with(tensors[i].name, ".attn.c_attn.weight"))
            return true;
    return false;
}

static int no_gpt2(struct uz_error *err)
{
    return uz_fail(err, UZ_UNSUPPORTED,
                   "tensor parallelism: the checkpoint records no universal_checkpoint_info, and "
                   "there is no built-in map for Hugging Face's GPT-2: DeepSpeed's AutoTP refuses "
                   "that model, so how its Conv1D layers were split is not known; tell it with "
                   "--tp-map FILE.json");
}

static int no_family(const char *closest, size_t n_unknown, const char *list, struct uz_error *err)
{
    return uz_fail(err, UZ_UNSUPPORTED,
                   "tensor parallelism: the checkpoint records no universal_checkpoint_info, and "
                   "the built-in maps do not know all of its names (%s, the closest, lacks %zu: "
                   "%s); tell how each is joined with --tp-map FILE.json",
                   closest, n_unknown, list);
}

int uz_tp_rules_of_family(struct uz_tp_rules **out, const struct uz_tp_named *tensors, size_t n,
                          const struct uz_limits *limits, struct uz_error *err)
{
    enum glu glu = find_glu(tensors, n);
    size_t least = SIZE_MAX;
    const char *closest = "";
    char closest_list[512] = "";
    for (size_t f = 0; f < N_FAMILIES; f++) {
        struct uz_tp_rules *rules = NULL;
        char list[512];
        size_t n_unknown = 0;
        if (families[f].glu != ANY && families[f].glu != glu)
            continue;
        int rc = uz_tp_rules_new(&rules, limits, err);
        if (rc == UZ_OK)
            rc = add_rows(rules, &families[f], err);
        if (rc == UZ_OK)
            rc = count_unknown(rules, tensors, n, &n_unknown, list, sizeof list, err);
        if (rc == UZ_OK && n_unknown == 0) {
            *out = rules;
            return UZ_OK;
        }
        uz_tp_rules_free(rules);
        UZ_TRY(rc);
        if (n_unknown < least) {
            least = n_unknown;
            closest = families[f].name;
            memcpy(closest_list, list, sizeof list);
        }
    }
    if (is_gpt2(tensors, n))
        return no_gpt2(err);
    return no_family(closest, least, closest_list, err);
}

const char *uz_tp_family_name(const struct uz_tp_rules *rules)
{
    return rules->family;
}

int uz_tp_rules_check_shape(struct uz_tp_rules *rules, const struct uz_tp_rule *rule,
                            const char *name, unsigned ndim, const uint64_t *shape,
                            struct uz_error *err)
{
    if (!rule->dims)
        return UZ_OK;
    if (strlen(rule->dims) != ndim)
        return uz_fail(err, UZ_MISMATCH,
                       "%s has %u dimensions, in the built-in map of %s it has %zu", name, ndim,
                       rules->family, strlen(rule->dims));
    for (unsigned j = 0; j < ndim; j++) {
        unsigned char letter = (unsigned char)rule->dims[j];
        if (!rules->seen_in[letter]) {
            rules->seen_in[letter] = name;
            rules->sizes[letter] = shape[j];
        }
        if (rules->sizes[letter] != shape[j])
            return uz_fail(err, UZ_MISMATCH,
                           "the built-in map of %s does not fit: joined by it, dimension %u of %s "
                           "would be %llu, but by %s it is %llu; tell how the tensors are joined "
                           "with --tp-map FILE.json",
                           rules->family, j, name, (unsigned long long)shape[j],
                           rules->seen_in[letter], (unsigned long long)rules->sizes[letter]);
    }
    return UZ_OK;
}
