/* SPDX-License-Identifier: Apache-2.0 */
/* The linkage against DeepSpeed's own (tests/golden), and against a loop over single elements. */
#include <unzero/linkage.h>

#include "check.h"
#include "rng.h"
#include "scratch.h"

enum { MAX_PARAMS = 16, MAX_ELEMS = 64 };

/* Parameters that are only numbers of elements. */
struct list {
    struct uz_lp_param params[MAX_PARAMS];
    struct uz_lp_param *items[MAX_PARAMS];
    uint64_t offsets[MAX_PARAMS];
    size_t n;
};

static void list_init(struct list *list, const uint64_t *numels, size_t n)
{
    memset(list, 0, sizeof *list);
    list->n = n;
    for (size_t i = 0; i < n; i++) {
        list->params[i].lp = uz_view_of(NULL, UZ_DTYPE_BF16, numels[i]);
        list->items[i] = &list->params[i];
    }
}

/* ---- What DeepSpeed answered ---- */

/* "3,0,5" or "-" for none; the number of them, and the rest of the line in *text. */
static size_t parse_numbers(char **text, uint64_t *numbers)
{
    size_t n = 0;
    char *word = strsep(text, " ");
    while (*word >= '0' && *word <= '9' && n < MAX_PARAMS) {
        numbers[n++] = strtoull(word, &word, 10);
        word += *word == ',';
    }
    return n;
}

static uint64_t parse_number(char **text)
{
    return strtoull(strsep(text, " "), NULL, 10);
}

/* The parameter in the words of the golden file. */
static const char *describe(const struct uz_lp_param *param, char buf[128])
{
    const struct uz_hp_mapping *mapping = param->hp_mapping;
    if (!param->has_index)
        return mapping ? "mapped without an index" : "-";
    int n = snprintf(buf, 128, "%zu", param->index_in_param_group);
    if (mapping)
        snprintf(buf + n, (size_t)(128 - n), "/%llu/%llu/%llu",
                 (unsigned long long)mapping->lp_fragment_address.start,
                 (unsigned long long)mapping->hp_fragment_address.start,
                 (unsigned long long)mapping->lp_fragment_address.numel);
    return buf;
}

static void check_answer(const struct uz_linkage *linkage, char *answer, size_t line)
{
    struct uz_error err;
    char buf[128];
    bool fails = !strncmp(answer, "! ", 2);
    int rc = uz_link_hp_params(linkage, &err);
    if (!CHECK_F(rc == (fails ? UZ_ARG : UZ_OK), "line %zu: %d %s", line, rc, err.message))
        return;
    for (size_t i = 0; i < linkage->n_lp_params; i++) {
        const struct uz_lp_param *param = linkage->lp_params[i];
        if (fails) {
            CHECK_F(!param->hp_mapping, "line %zu: a mapping after a failure", line);
            continue;
        }
        const char *want = strsep(&answer, " ");
        CHECK_F(!strcmp(describe(param, buf), want), "line %zu, parameter %zu: %s, not %s", line, i,
                buf, want);
    }
}

static void check_overlaps(const struct uz_linkage *linkage, char *want, size_t line)
{
    struct uz_param_offset overlaps[MAX_PARAMS];
    struct uz_error err;
    size_t n = 0;
    CHECK_EQ_I64(uz_init_lp_to_hp_mapping(linkage, overlaps, &n, &err), UZ_OK);
    for (size_t i = 0; i < n; i++) {
        char got[64];
        snprintf(got, sizeof got, "%zu@%llu", overlaps[i].param,
                 (unsigned long long)overlaps[i].offset);
        const char *word = want ? strsep(&want, " ") : "";
        CHECK_F(!strcmp(got, word), "line %zu: overlap %s, not %s", line, got, word);
    }
    CHECK_F(!want || !*want, "line %zu: overlaps are missing: %s", line, want);
}

static void check_map_line(char *text, size_t line)
{
    struct list list;
    uint64_t numels[MAX_PARAMS], offsets[MAX_PARAMS];
    size_t n = parse_numbers(&text, numels);
    bool has_offsets = *text != '-';
    list_init(&list, numels, n);
    size_t n_offsets = parse_numbers(&text, offsets);
    CHECK_EQ_U64(n_offsets, has_offsets ? n : 0);
    struct uz_linkage linkage = {.lp_params = list.items, .n_lp_params = n};
    linkage.param_offsets = has_offsets ? offsets : NULL;
    linkage.partition_start = parse_number(&text);
    linkage.partition_size = parse_number(&text);
    linkage.flat_hp_partition = uz_view_of(NULL, UZ_DTYPE_F32, parse_number(&text));
    linkage.use_offload = parse_number(&text);
    CHECK_EQ_STR(strsep(&text, " "), "|");
    char *answer = text;
    char *bar = strstr(text, "| ");
    if (!CHECK(bar != NULL))
        return;
    *bar = '\0';
    check_answer(&linkage, answer, line);
    check_overlaps(&linkage, bar + 2, line);
    uz_unlink_hp_params(list.items, n);
}

static void test_maps_of_deepspeed(void)
{
    char path[PATH_NBYTES];
    const char *srcdir = getenv("srcdir");
    char *text =
        slurp(path_of(path, "%s/tests/golden/linkage_map.txt", srcdir ? srcdir : "."), NULL);
    char *rest = text;
    size_t n = 0;
    if (!CHECK_F(text != NULL, "%s cannot be read", path))
        return;
    for (char *line = strsep(&rest, "\n"); line && *line; line = strsep(&rest, "\n"))
        check_map_line(line, ++n);
    CHECK_EQ_U64(n, 2800);
    free(text);
}

/* ---- One element after another ---- */

/* A flat group as a row of elements: which parameter each belongs to. */
struct row {
    size_t owner[2 * MAX_ELEMS]; /* SIZE_MAX: padding */
    uint64_t element[2 * MAX_ELEMS];
    uint64_t n;
};

static void lay_out(struct list *list, struct row *row)
{
    row->n = 0;
    for (size_t i = 0; i < list->n; i++) {
        for (uint64_t gap = rng_below(3); gap > 0; gap--)
            row->owner[row->n++] = SIZE_MAX;
        list->offsets[i] = row->n;
        for (uint64_t k = 0; k < list->params[i].lp.numel; k++) {
            row->element[row->n] = k;
            row->owner[row->n++] = i;
        }
    }
}

/* Whether parameter i has the element of the row at its address, and no other in the partition. */
static void check_elements(const struct list *list, const struct row *row, uint64_t start,
                           uint64_t size)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct uz_hp_mapping *mapping = list->params[i].hp_mapping;
        uint64_t n_here = 0;
        for (uint64_t at = start; at < start + size && at < row->n; at++) {
            if (row->owner[at] != i)
                continue;
            n_here++;
            if (!CHECK(mapping != NULL))
                return;
            uint64_t lp = row->element[at] - mapping->lp_fragment_address.start;
            uint64_t hp = at - start - mapping->hp_fragment_address.start;
            CHECK(lp == hp && lp < mapping->lp_fragment_address.numel);
        }
        CHECK_EQ_U64(mapping ? mapping->hp_fragment_address.numel : 0, n_here);
    }
}

/* The gradients that DeepSpeed keeps of a partition: gaps count, unless offloaded. */
static void check_indices(const struct list *list, uint64_t start, uint64_t size, bool offload)
{
    uint64_t explained = start;
    size_t index = 0;
    for (size_t i = 0; i < list->n; i++) {
        uint64_t at = list->offsets[i], end = at + list->params[i].lp.numel;
        bool counts = (at >= start && at < start + size) || (at < start && end > start);
        CHECK(list->params[i].has_index == counts);
        if (!counts)
            continue;
        index += !offload && at > explained;
        CHECK_EQ_U64(list->params[i].index_in_param_group, index);
        index++;
        explained = end < start + size ? end : start + size;
    }
}

static void test_every_element(void)
{
    struct list list;
    struct row row;
    struct uz_error err;
    for (int round = 0; round < 3000; round++) {
        uint64_t numels[MAX_PARAMS];
        size_t n = rng_below(7);
        for (size_t i = 0; i < n; i++)
            numels[i] = rng_below(MAX_ELEMS / 8);
        list_init(&list, numels, n);
        lay_out(&list, &row);
        uint64_t size = 1 + rng_below(MAX_ELEMS / 2), start = rng_below(row.n + 2);
        bool offload = rng_one_in(2);
        struct uz_linkage linkage = {
            .lp_params = list.items,
            .n_lp_params = n,
            .flat_hp_partition = uz_view_of(NULL, UZ_DTYPE_F32, size),
            .use_offload = offload,
            .partition_start = start,
            .partition_size = size,
            .param_offsets = list.offsets,
        };
        CHECK_EQ_I64(uz_link_hp_params(&linkage, &err), UZ_OK);
        check_elements(&list, &row, start, size);
        check_indices(&list, start, size, offload);
        uz_unlink_hp_params(list.items, n);
    }
}

/* ---- Errors ---- */

static void test_sizes_that_wrap(void)
{
    struct list list;
    struct uz_error err;
    const uint64_t numels[2] = {4, UINT64_MAX - 2};
    list_init(&list, numels, 2);
    struct uz_linkage linkage = {
        .lp_params = list.items,
        .n_lp_params = 2,
        .partition_size = 4,
        .flat_hp_partition = uz_view_of(NULL, UZ_DTYPE_F32, 4),
    };
    CHECK_EQ_I64(uz_link_hp_params(&linkage, &err), UZ_ARG);
    linkage.n_lp_params = 1;
    CHECK_EQ_I64(uz_link_hp_params(&linkage, &err), UZ_OK);
    linkage.partition_start = UINT64_MAX - 2;
    CHECK_EQ_I64(uz_link_hp_params(&linkage, &err), UZ_ARG);
    CHECK(list.params[0].hp_mapping == NULL);
    linkage.partition_start = 0;
    list.offsets[0] = UINT64_MAX - 2;
    linkage.param_offsets = list.offsets;
    CHECK_EQ_I64(uz_link_hp_params(&linkage, &err), UZ_ARG);
}

/* A parameter of four elements on one rank, and what belongs to it. */
struct small {
    float hp[4], avg[4], square[4];
    uint16_t lp[4];
    struct uz_lp_param param;
    struct uz_lp_param *items[1];
    struct uz_tensor_view partition;
};

static void small_link(struct small *small, uint64_t start)
{
    struct uz_error err;
    *small = (struct small){.hp = {1, 2, 3, 4}, .avg = {5, 6, 7, 8}};
    small->param.name = "weight";
    small->param.lp = uz_view_of(small->lp, UZ_DTYPE_BF16, 4);
    small->items[0] = &small->param;
    small->partition = uz_view_of(small->hp, UZ_DTYPE_F32, 4);
    struct uz_linkage linkage = {
        .lp_params = small->items,
        .n_lp_params = 1,
        .flat_hp_partition = small->partition,
        .partition_start = start,
        .partition_size = 4,
    };
    CHECK_EQ_I64(uz_link_hp_params(&linkage, &err), UZ_OK);
}

static void test_states(void)
{
    struct small small;
    struct uz_error err;
    struct uz_tensor_view view;
    const char *keys[2] = {"none", "none"};
    struct uz_state_value values[4] = {
        {"step", -1, {NULL, NULL, 0, 0, UZ_DTYPE_INVALID}},
        {"avg", 1, uz_view_of(small.avg, UZ_DTYPE_F32, 4)},
        {"square", 2, uz_view_of(small.square, UZ_DTYPE_F32, 4)},
        {"avg", 1, uz_view_of(small.avg, UZ_DTYPE_F32, 4)},
    };
    struct uz_state_values states = {values, 3};
    small_link(&small, 1);
    struct uz_hp_mapping *mapping = small.param.hp_mapping;
    CHECK_EQ_I64(uz_get_optim_state_fragment(mapping, "avg", &view, &err), UZ_ARG);
    CHECK(strstr(err.message, "before the first step") != NULL);
    CHECK_EQ_I64(
        uz_lazy_init_hp_params_optimizer_state(small.items, 1, &small.partition, NULL, &err),
        UZ_ARG);
    CHECK_EQ_I64(
        uz_lazy_init_hp_params_optimizer_state(small.items, 1, &small.partition, &states, &err),
        UZ_OK);
    CHECK_EQ_U64(uz_get_optim_state_keys(mapping, keys, 2), 1);
    CHECK_EQ_STR(keys[0], "avg");
    CHECK_EQ_STR(keys[1], "none");
    CHECK_EQ_I64(uz_get_optim_state_fragment(mapping, "avg", &view, &err), UZ_OK);
    CHECK(view.data == small.avg && view.numel == 3);
    CHECK_EQ_I64(uz_get_optim_state_fragment(mapping, "step", &view, &err), UZ_ARG);
    CHECK_EQ_STR(err.message, "'step' not found in optimizer state fragment; there are: avg");
    states.n = 4;
    CHECK_EQ_I64(uz_set_optim_state_fragment(mapping, &small.partition, &states, &err), UZ_ARG);
    CHECK(strstr(err.message, "two states called 'avg'") != NULL);
    uz_unlink_hp_params(small.items, 1);
    /* a parameter that is not here needs no states */
    small_link(&small, 4);
    CHECK(small.param.hp_mapping == NULL);
    CHECK_EQ_I64(
        uz_lazy_init_hp_params_optimizer_state(small.items, 1, &small.partition, NULL, &err),
        UZ_OK);
}

static void test_whole_values_need_all_ranks(void)
{
    struct small small;
    struct uz_error err;
    float full[4];
    small_link(&small, 0);
    CHECK_EQ_I64(uz_get_full_hp_param(&small.param, NULL, full, 4, &err), UZ_OK);
    CHECK_EQ_MEM(full, small.hp, sizeof full);
    CHECK_EQ_I64(uz_get_full_hp_param(&small.param, NULL, full, 3, &err), UZ_ARG);
    CHECK_EQ_I64(uz_get_full_hp_grad(&small.param, full, 4, &err), UZ_ARG);
    CHECK(strstr(err.message, "Gradients are only available immediately after backward and before "
                              "engine step") != NULL);
    uz_unlink_hp_params(small.items, 1);
    small_link(&small, 1); /* its first element is on no rank */
    CHECK_EQ_I64(uz_get_full_hp_param(&small.param, NULL, full, 4, &err), UZ_MISMATCH);
    CHECK(strstr(err.message, "weight") != NULL);
    uz_unlink_hp_params(small.items, 1);
}

/* Two ranks that hold the same elements, and lists that differ. */
static void test_ranks_that_disagree(void)
{
    struct small a, b;
    struct uz_error err;
    float full[4];
    struct uz_lp_param_list lists[2] = {{a.items, 1}, {b.items, 1}};
    struct uz_dp_group group = {lists, 2, NULL};
    small_link(&a, 0);
    small_link(&b, 0);
    a.param.dp_group = &group;
    CHECK_EQ_I64(uz_get_full_hp_param(&a.param, NULL, full, 4, &err), UZ_MISMATCH);
    CHECK(strstr(err.message, "rank 1 of the group was not linked with it") != NULL);
    b.param.dp_group = &group;
    CHECK_EQ_I64(uz_get_full_hp_param(&a.param, NULL, full, 4, &err), UZ_MISMATCH);
    CHECK(strstr(err.message, "do not cover weight exactly") != NULL);
    lists[1].n = 0;
    CHECK_EQ_I64(uz_get_full_hp_param(&a.param, NULL, full, 4, &err), UZ_MISMATCH);
    uz_unlink_hp_params(a.items, 1);
    uz_unlink_hp_params(b.items, 1);
}

/* Rank 0 has elements [0, 2), rank 1 the others, which cannot be written. */
static void test_all_ranks_or_none(void)
{
    struct small a, b;
    struct uz_error err;
    float ones[4] = {1, 1, 1, 1};
    const float before[2] = {3, 4};
    struct uz_lp_param_list lists[2] = {{a.items, 1}, {b.items, 1}};
    struct uz_dp_group group = {lists, 2, NULL};
    struct uz_tensor_view value = uz_view_of(ones, UZ_DTYPE_F32, 4);
    small_link(&a, 0);
    small_link(&b, 2);
    a.param.dp_group = b.param.dp_group = &group;
    struct uz_hp_mapping *mapping = a.param.hp_mapping;
    mapping->lp_fragment_address.numel = mapping->hp_fragment_address.numel = 2;
    mapping->hp_fragment = uz_view_of(a.hp + 2, UZ_DTYPE_F32, 2);
    b.param.hp_mapping->hp_fragment.data = NULL;
    CHECK_EQ_I64(uz_set_full_hp_param(&a.param, NULL, &value, &err), UZ_ARG);
    CHECK(strstr(err.message, "not at hand") != NULL);
    CHECK_EQ_MEM(a.hp + 2, before, sizeof before);
    b.param.hp_mapping->hp_fragment.data = b.hp;
    CHECK_EQ_I64(uz_set_full_hp_param(&a.param, NULL, &value, &err), UZ_OK);
    CHECK_EQ_MEM(a.hp + 2, ones, 2 * sizeof *ones);
    CHECK_EQ_MEM(b.hp, ones, 2 * sizeof *ones);
    CHECK_EQ_MEM(b.hp + 2, before, sizeof before);
    uz_unlink_hp_params(a.items, 1);
    uz_unlink_hp_params(b.items, 1);
}

static void test_between_the_precisions(void)
{
    struct small small;
    struct uz_error err;
    uint64_t n_overflows = 7;
    small_link(&small, 0);
    CHECK_EQ_I64(uz_update_lp(small.param.hp_mapping, &n_overflows, &err), UZ_OK);
    CHECK_EQ_U64(n_overflows, 0);
    CHECK_EQ_U64(small.lp[2], 0x4040); /* 3.0 */
    small.lp[0] = 0xc0a0;              /* -5.0 */
    CHECK_EQ_I64(uz_update_hp(small.param.hp_mapping, &err), UZ_OK);
    CHECK(small.hp[0] < -4.9f && small.hp[0] > -5.1f);
    small.param.hp_mapping->lp_fragment.dtype = UZ_DTYPE_I16;
    CHECK_EQ_I64(uz_update_lp(small.param.hp_mapping, NULL, &err), UZ_UNSUPPORTED);
    small.param.hp_mapping->lp_fragment = uz_view_of(NULL, UZ_DTYPE_BF16, 4);
    CHECK_EQ_I64(uz_update_lp(small.param.hp_mapping, NULL, &err), UZ_ARG);
    uz_unlink_hp_params(small.items, 1);
}

/* ---- Elements behind callbacks ---- */

/* A file of 70,000 bf16 elements: element i is the number i % 250. */
static uint16_t stored[70000];

static int read_stored(void *cookie, uint64_t first, uint64_t n_elems, void *out,
                       struct uz_error *err)
{
    (void)err;
    ++*(unsigned *)cookie;
    memcpy(out, stored + first, n_elems * 2);
    return UZ_OK;
}

static int write_stored(void *cookie, uint64_t first, uint64_t n_elems, const void *elems,
                        struct uz_error *err)
{
    (void)err;
    ++*(unsigned *)cookie;
    memcpy(stored + first, elems, n_elems * 2);
    return UZ_OK;
}

static void test_views_behind_callbacks(void)
{
    static float full[69000];
    unsigned n_calls = 0;
    struct uz_error err;
    struct uz_view_source source = {read_stored, NULL, &n_calls};
    struct uz_lp_param param = {.lp = uz_view_of(NULL, UZ_DTYPE_BF16, 69000)};
    struct uz_lp_param *items[1] = {&param};
    struct uz_linkage linkage = {
        .lp_params = items,
        .n_lp_params = 1,
        .flat_hp_partition = {NULL, &source, 500, 69000, UZ_DTYPE_BF16},
        .partition_size = 69000,
    };
    for (size_t i = 0; i < 70000; i++) {
        float value = (float)(i % 250);
        uint32_t bits;
        memcpy(&bits, &value, 4);
        stored[i] = (uint16_t)(bits >> 16);
    }
    CHECK_EQ_I64(uz_link_hp_params(&linkage, &err), UZ_OK);
    CHECK_EQ_I64(uz_get_full_hp_param(&param, NULL, full, 69000, &err), UZ_OK);
    size_t n_right = 0;
    for (size_t i = 0; i < 69000; i++)
        n_right += (size_t)full[i] == (i + 500) % 250;
    CHECK_EQ_U64(n_right, 69000);
    struct uz_tensor_view value = uz_view_of(full, UZ_DTYPE_F32, 69000);
    CHECK_EQ_I64(uz_set_full_hp_param(&param, NULL, &value, &err), UZ_ARG);
    CHECK(strstr(err.message, "cannot be written") != NULL);
    source.write = write_stored;
    for (size_t i = 0; i < 69000; i++)
        full[i] = 2.0f;
    CHECK_EQ_I64(uz_set_full_hp_param(&param, NULL, &value, &err), UZ_OK);
    CHECK(stored[500] == 0x4000 && stored[69499] == 0x4000);
    CHECK(stored[499] != 0x4000 && stored[69500] != 0x4000);
    CHECK(n_calls > 2);
    uz_unlink_hp_params(items, 1);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"maps of DeepSpeed", test_maps_of_deepspeed},
        {"every element", test_every_element},
        {"sizes that wrap", test_sizes_that_wrap},
        {"states", test_states},
        {"whole values need all ranks", test_whole_values_need_all_ranks},
        {"ranks that disagree", test_ranks_that_disagree},
        {"all ranks or none", test_all_ranks_or_none},
        {"between the precisions", test_between_the_precisions},
        {"views behind callbacks", test_views_behind_callbacks},
        CU_TEST_INFO_NULL,
    };
    rng_init();
    return check_run("linkage", tests);
}
