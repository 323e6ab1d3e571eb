/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole weights, states and gradients of worlds of ranks against what DeepSpeed's getters and
 * setters did with them (tests/golden/linkage_values.txt; make_linkage.py tells its lines). Each
 * world is made twice: once as ranks within reach, once with a collective.
 */
#include <unzero/linkage.h>

#include "check.h"
#include "linkage_world.h"
#include "scratch.h"

/* ---- Comparing ---- */

/* All that setting may change. */
static uint64_t sum_of(const struct world *world)
{
    uint64_t sum = FNV;
    for (uint64_t r = 0; r < world->plan->world; r++) {
        const struct rank *rank = &world->ranks[r];
        sum = fnv_view(sum, &rank->hp);
        for (size_t i = 0; i < world->plan->n_states; i++)
            sum = fnv_view(sum, &rank->states[i].view);
        for (size_t i = 0; i < rank->n_gradients; i++)
            sum = fnv_view(sum, &rank->gradients[i]);
    }
    return sum;
}

/* Two worlds, and the lines that tell of them. */
struct test {
    struct plan plan;
    struct sums sums;
    struct world *reach, *collective;
    size_t next_param, next_rank; /* of the lines that come once for each */
    bool all_set;                 /* nothing failed to be set, so both worlds are alike */
};

/* Columns of `get` and `set`: the weight, the gradient, the states. */
static const char *key_of(const struct plan *plan, size_t column)
{
    if (column < 2)
        return NULL;
    return column - 2 < plan->n_states ? plan->states[column - 2].key : "nope";
}

static int get(const struct uz_lp_param *param, const struct plan *plan, size_t column, float *full,
               struct uz_error *err)
{
    return column == 1
               ? uz_get_full_hp_grad(param, full, param->lp.numel, err)
               : uz_get_full_hp_param(param, key_of(plan, column), full, param->lp.numel, err);
}

/* The message of an error of Python's. */
static bool is_error(char letter, const struct uz_error *err, size_t column)
{
    static const char lifetime[] = "Gradients are only available immediately after backward";
    if (letter == 'V' && column == 1)
        return err->status == UZ_ARG && strstr(err->message, lifetime) != NULL;
    if (letter == 'V')
        return err->status == UZ_ARG &&
               strstr(err->message, "not found in optimizer state") != NULL;
    if (letter == 'I')
        return err->status == UZ_ARG && strstr(err->message, "gradients on this rank") != NULL;
    return letter == 'R' && err->status == UZ_ARG && strstr(err->message, "copied") != NULL;
}

/* `want` is '!' and a letter for each rank, or a value; rank r's call ended with rc. */
static void check_outcome(const char *want, uint64_t r, int rc, const struct uz_error *err,
                          size_t column)
{
    char letter = want[0] == '!' ? want[1 + r] : '.';
    bool right = letter == '.' ? rc == UZ_OK : rc < 0 && is_error(letter, err, column);
    CHECK_F(right, "rank %llu, column %zu: %s, got %d %s", (unsigned long long)r, column, want, rc,
            rc ? err->message : "");
}

static void check_get(struct test *test, size_t i, size_t column, const char *want)
{
    float full[MAX_ELEMS];
    struct uz_error err;
    size_t nbytes = (size_t)test->plan.numels[i] * 4;
    char *second;
    test->sums.n_calls = 0;
    for (uint64_t r = 0; r < test->plan.world; r++) {
        const struct uz_lp_param *param = &test->collective->ranks[r].params[i];
        int rc = get(param, &test->plan, column, full, &err);
        check_outcome(want, r, rc, &err, column);
    }
    for (uint64_t r = 0; r < test->plan.world; r++) {
        int rc = get(&test->reach->ranks[r].params[i], &test->plan, column, full, &err);
        CHECK_EQ_I64(rc, want[0] == '!' ? UZ_ARG : UZ_OK);
    }
    if (want[0] == '!')
        return;
    uint64_t added = strtoull(want, &second, 16);
    uint64_t exact = *second == ':' ? strtoull(second + 1, NULL, 16) : added;
    CHECK_EQ_U64(fnv(FNV, test->sums.added, nbytes), added);
    CHECK_EQ_U64(fnv(FNV, test->sums.exact, nbytes), exact);
    CHECK_EQ_U64(fnv(FNV, full, nbytes), exact);
}

static int set(struct uz_lp_param *param, const struct plan *plan, size_t column,
               const struct uz_tensor_view *value, bool *overflow, struct uz_error *err)
{
    return column == 1 ? uz_set_full_hp_grad(param, value, overflow, err)
                       : uz_set_full_hp_param(param, key_of(plan, column), value, err);
}

static void check_set(struct test *test, size_t i, size_t column, const char *want)
{
    struct uz_tensor_view value = new_view(test->reach, test->plan.value, test->plan.numels[i]);
    const char *slash = strchr(want, '/');
    struct uz_error err;
    bool any = false, overflow;
    fill(&value, test->plan.number, column, SEED_NEW + i);
    for (uint64_t r = 0; r < test->plan.world; r++) {
        overflow = false;
        int rc = set(&test->collective->ranks[r].params[i], &test->plan, column, &value, &overflow,
                     &err);
        check_outcome(want, r, rc, &err, column);
        any |= overflow;
    }
    overflow = false;
    uint64_t before = sum_of(test->reach);
    int rc = set(&test->reach->ranks[0].params[i], &test->plan, column, &value, &overflow, &err);
    CHECK_EQ_I64(rc, want[0] == '!' ? UZ_ARG : UZ_OK);
    if (want[0] == '!') /* on no rank then */
        CHECK_EQ_U64(sum_of(test->reach), before);
    test->all_set &= want[0] != '!';
    if (slash) {
        CHECK_EQ_U64(any, slash[1] - '0');
        if (want[0] != '!')
            CHECK_EQ_U64(overflow, slash[1] - '0');
    }
}

static void check_sum(const char *word, uint64_t sum)
{
    if (CHECK(word != NULL))
        CHECK_EQ_U64(sum, strtoull(word, NULL, 16));
}

/* All that a rank holds, against the line `end`. */
static void check_all(const struct plan *plan, const struct rank *rank, char *words)
{
    uint64_t sum = FNV;
    check_sum(strsep(&words, " "), fnv_view(FNV, &rank->hp));
    for (size_t i = 0; i < plan->n_states; i++)
        if (!strcmp(plan->states[i].kind, "flat"))
            sum = fnv_view(sum, &rank->states[i].view);
    check_sum(strsep(&words, " "), sum);
    sum = FNV;
    for (size_t i = 0; i < rank->n_gradients; i++)
        sum = fnv_view(sum, &rank->gradients[i]);
    check_sum(strsep(&words, " "), sum);
    sum = FNV;
    for (size_t i = 0; i < plan->n; i++)
        sum = fnv_view(sum, &rank->params[i].lp);
    check_sum(strsep(&words, " "), sum);
}

static void check_end(struct test *test, struct world *world, const char *words)
{
    struct rank *rank = &world->ranks[test->next_rank];
    struct uz_error err;
    char copy[256];
    for (size_t i = 0; i < test->plan.n; i++)
        if (rank->params[i].hp_mapping)
            CHECK_EQ_I64(uz_update_lp(rank->params[i].hp_mapping, NULL, &err), UZ_OK);
    snprintf(copy, sizeof copy, "%s", words);
    check_all(&test->plan, rank, copy);
}

static void check_hp(struct test *test, const char *want)
{
    struct rank *rank = &test->collective->ranks[test->next_rank];
    struct uz_error err;
    for (size_t i = 0; i < test->plan.n; i++) {
        fill(&rank->params[i].lp, test->plan.number, 0, SEED_FRESH + i);
        if (rank->params[i].hp_mapping)
            CHECK_EQ_I64(uz_update_hp(rank->params[i].hp_mapping, &err), UZ_OK);
    }
    check_sum(want, fnv_view(FNV, &rank->hp));
}

/* The parameters' fragments, then the keys of the first that has some ('?': none is mapped). */
static void check_rank(struct test *test, char *words)
{
    const struct rank *rank = &test->reach->ranks[test->next_rank];
    char got[256] = "?";
    for (size_t i = 0; i < test->plan.n; i++) {
        const struct uz_lp_param *param = &rank->params[i];
        const struct uz_hp_mapping *mapping = param->hp_mapping;
        const char *keys[MAX_STATES];
        const char *want = strsep(&words, " ");
        CHECK_F(!!mapping == !!strchr(want, '/'), "parameter %zu: %s", i, want);
        if (!mapping)
            continue;
        struct uz_fragment_address lp = mapping->lp_fragment_address;
        struct uz_fragment_address hp = mapping->hp_fragment_address;
        CHECK(mapping->lp_fragment.data ==
              (char *)param->lp.data + lp.start * uz_dtype_size(test->plan.lp));
        CHECK(mapping->hp_fragment.data ==
              (char *)rank->hp.data + hp.start * uz_dtype_size(test->plan.hp));
        CHECK(mapping->lp_fragment.numel == lp.numel && mapping->hp_fragment.numel == lp.numel);
        size_t n_keys = uz_get_optim_state_keys(mapping, keys, MAX_STATES), used = 0;
        snprintf(got, sizeof got, "-");
        for (size_t k = 0; k < n_keys; k++)
            used += (size_t)snprintf(got + used, sizeof got - used, "%s%s", k ? "," : "", keys[k]);
    }
    CHECK_EQ_STR(got, words);
}

/* ---- Lines ---- */

static enum uz_dtype next_dtype(char **rest)
{
    return uz_dtype_parse(strsep(rest, " "));
}

static uint64_t next_number(char **rest)
{
    return strtoull(strsep(rest, " "), NULL, 10);
}

static void parse_world(struct plan *plan, char *rest)
{
    *plan = (struct plan){.number = next_number(&rest)};
    plan->world = next_number(&rest);
    plan->part = next_number(&rest);
    plan->trimmed = next_number(&rest);
    plan->hp = next_dtype(&rest);
    plan->lp = next_dtype(&rest);
    plan->offload = next_number(&rest);
    plan->group = next_number(&rest);
    snprintf(plan->kind, sizeof plan->kind, "%s", strsep(&rest, " "));
    plan->gradient = next_dtype(&rest);
    plan->value = next_dtype(&rest);
}

static void parse_states(struct plan *plan, char *rest)
{
    while (rest && *rest && plan->n_states < MAX_STATES) {
        char *word = strsep(&rest, " ");
        struct state *state = &plan->states[plan->n_states++];
        snprintf(state->key, sizeof state->key, "%s", strsep(&word, ":"));
        snprintf(state->kind, sizeof state->kind, "%s", strsep(&word, ":"));
        state->dtype = uz_dtype_parse(word);
    }
}

static void parse_offsets(struct plan *plan, char *rest)
{
    plan->has_offsets = *rest != '-';
    for (size_t i = 0; i < plan->n; i++) {
        if (plan->has_offsets)
            plan->offsets[i] = next_number(&rest);
        uint64_t end = plan->offsets[i] + plan->numels[i];
        plan->total = plan->has_offsets ? plan->total : plan->total + plan->numels[i];
        if (plan->has_offsets && end > plan->total)
            plan->total = end;
    }
}

static void test_begin(struct test *test)
{
    test->reach = make_world(&test->plan, NULL);
    test->collective = make_world(&test->plan, &test->sums);
    test->all_set = true;
}

static void test_end(struct test *test)
{
    if (test->reach) {
        free_world(test->reach);
        free_world(test->collective);
    }
    memset(test, 0, sizeof *test);
}

/* The lines `get` and `set` have a column for each value of a parameter. */
static void check_columns(struct test *test, char *rest,
                          void (*check)(struct test *, size_t, size_t, const char *))
{
    for (size_t column = 0; rest; column++)
        check(test, test->next_param, column, strsep(&rest, " "));
    test->next_param = (test->next_param + 1) % test->plan.n;
}

static void check_line(struct test *test, char *line)
{
    const char *what = strsep(&line, " ");
    struct plan *plan = &test->plan;
    if (!strcmp(what, "world")) {
        test_end(test);
        parse_world(plan, line);
    } else if (!strcmp(what, "numels")) {
        while (line && *line && plan->n < MAX_PARAMS)
            plan->numels[plan->n++] = next_number(&line);
    } else if (!strcmp(what, "offsets")) {
        parse_offsets(plan, line);
    } else if (!strcmp(what, "states")) {
        parse_states(plan, line);
        test_begin(test);
    } else if (!strcmp(what, "get")) {
        check_columns(test, line, check_get);
    } else if (!strcmp(what, "set")) {
        check_columns(test, line, check_set);
    } else if (!strcmp(what, "rank")) {
        check_rank(test, line);
    } else if (!strcmp(what, "end")) {
        check_end(test, test->collective, line);
        if (test->all_set)
            check_end(test, test->reach, line);
    } else if (CHECK_EQ_STR(what, "hp")) {
        check_hp(test, line);
    }
    if (!strcmp(what, "rank") || !strcmp(what, "end") || !strcmp(what, "hp"))
        test->next_rank = (test->next_rank + 1) % plan->world;
}

static void test_values_of_deepspeed(void)
{
    static struct test test;
    char path[PATH_NBYTES];
    const char *srcdir = getenv("srcdir");
    char *text =
        slurp(path_of(path, "%s/tests/golden/linkage_values.txt", srcdir ? srcdir : "."), NULL);
    char *rest = text;
    size_t n = 0;
    if (!CHECK_F(text != NULL, "%s cannot be read", path))
        return;
    for (char *line = strsep(&rest, "\n"); line && *line; line = strsep(&rest, "\n")) {
        n += !strncmp(line, "world ", 6);
        unsigned before = CU_get_number_of_failures();
        check_line(&test, line);
        if (CU_get_number_of_failures() > before)
            CHECK_F(false, "in world %llu", (unsigned long long)test.plan.number);
    }
    test_end(&test);
    CHECK_EQ_U64(n, 320);
    free(text);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"values of DeepSpeed", test_values_of_deepspeed},
        CU_TEST_INFO_NULL,
    };
    make_midpoints();
    return check_run("linkage values", tests);
}
