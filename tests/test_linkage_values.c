/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole weights, states and gradients of worlds of ranks against what DeepSpeed's getters and
 * setters did with them (tests/golden/linkage_values.txt; make_linkage.py tells its lines). Each
 * world is made twice: once as ranks within reach, once with a collective.
 */
#include <unzero/linkage.h>

#include "cast_oracle.h"
#include "check.h"
#include "scratch.h"

enum { MAX_RANKS = 4, MAX_PARAMS = 8, MAX_STATES = 5, MAX_GRADIENTS = 20, MAX_ELEMS = 1024 };
enum {
    SEED_HP = 1,
    SEED_STATE = 2,
    SEED_LP = 100,
    SEED_GRAD = 200,
    SEED_NEW = 300,
    SEED_FRESH = 400
};

/* ---- Values ---- */

static const uint32_t special[8] = {0x80000000, 0x00000000, 0x7f800000, 0xff800000,
                                    0x00000001, 0x33000001, 0x477ff000, 0x3f808000};

static size_t format_of(enum uz_dtype dtype)
{
    if (dtype == UZ_DTYPE_F32)
        return FORMAT_F32;
    return dtype == UZ_DTYPE_BF16 ? FORMAT_BF16 : FORMAT_F16;
}

/* Fills the view as `values` in make_linkage.py does. */
static void fill(const struct uz_tensor_view *view, uint64_t world, uint64_t rank, uint64_t what)
{
    uint64_t state = world * 1000003 + rank * 1009 + what;
    size_t size = uz_dtype_size(view->dtype);
    for (uint64_t i = 0; i < view->numel; i++) {
        uint64_t z = state += 0x9e3779b97f4a7c15;
        bool overflow;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        z ^= z >> 31;
        uint32_t bits = (uint32_t)(z & 0x807fffff) | (uint32_t)(107 + (z >> 32) % 40) << 23;
        if (z >> 61 == 0)
            bits = special[z & 7];
        if (size == 2)
            bits = oracle(FORMAT_F32, format_of(view->dtype), bits, &overflow);
        memcpy((char *)view->data + i * size, &bits, size);
    }
}

static uint64_t fnv(uint64_t sum, const void *data, size_t nbytes)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < nbytes; i++)
        sum = (sum ^ bytes[i]) * 0x100000001b3;
    return sum;
}

static const uint64_t FNV = 0xcbf29ce484222325;

static uint64_t fnv_view(uint64_t sum, const struct uz_tensor_view *view)
{
    return fnv(sum, view->data, (size_t)view->numel * uz_dtype_size(view->dtype));
}

/* ---- A world ---- */

struct state {
    char key[32], kind[16];
    enum uz_dtype dtype;
};

/* The lines `world` to `states`. */
struct plan {
    uint64_t number, world, part, total;
    bool trimmed, offload, has_offsets;
    enum uz_dtype hp, lp, gradient, value;
    uint64_t group;
    char kind[16]; /* of gradients */
    uint64_t numels[MAX_PARAMS], offsets[MAX_PARAMS];
    size_t n;
    struct state states[MAX_STATES];
    size_t n_states;
};

struct rank {
    struct uz_lp_param params[MAX_PARAMS];
    struct uz_lp_param *items[MAX_PARAMS];
    struct uz_tensor_view hp;
    struct uz_state_value states[MAX_STATES];
    struct uz_tensor_view gradients[MAX_GRADIENTS];
    size_t n_gradients;
    struct uz_gradient_list list;
    const struct uz_gradient_list *groups[4];
    struct uz_gradient_dict dict, other;
};

/* What the ranks gave to the collective, added up in two ways. */
struct sums {
    float added[MAX_ELEMS];
    uint32_t exact[MAX_ELEMS];
    size_t n_calls;
};

struct world {
    const struct plan *plan;
    struct rank ranks[MAX_RANKS];
    struct uz_lp_param_list lists[MAX_RANKS];
    struct uz_collective collective;
    struct uz_dp_group group;
    void *blocks[256]; /* to be freed */
    size_t n_blocks;
};

static struct uz_tensor_view new_view(struct world *world, enum uz_dtype dtype, uint64_t numel)
{
    void *data = calloc(numel + 1, uz_dtype_size(dtype));
    if (!data || world->n_blocks == sizeof world->blocks / sizeof world->blocks[0])
        abort();
    world->blocks[world->n_blocks++] = data;
    return uz_view_of(data, dtype, numel);
}

static void make_states(struct world *world, uint64_t r)
{
    const struct plan *plan = world->plan;
    struct rank *rank = &world->ranks[r];
    struct uz_state_values values = {rank->states, plan->n_states};
    struct uz_error err;
    for (size_t i = 0; i < plan->n_states; i++) {
        const struct state *state = &plan->states[i];
        bool is_scalar = !strcmp(state->kind, "scalar"), is_number = !strcmp(state->kind, "number");
        uint64_t numel = is_scalar || is_number ? 1 : rank->hp.numel;
        rank->states[i] = (struct uz_state_value){
            .key = state->key,
            .ndim = is_number                        ? -1
                    : is_scalar                      ? 0
                    : !strcmp(state->kind, "square") ? 2
                                                     : 1,
            .view = new_view(world, state->dtype, numel + !strcmp(state->kind, "long")),
        };
        fill(&rank->states[i].view, plan->number, r, SEED_STATE + i);
    }
    CHECK_EQ_I64(
        uz_lazy_init_hp_params_optimizer_state(rank->items, plan->n, &rank->hp, &values, &err),
        UZ_OK);
}

static uint64_t gradient_numel(const struct plan *plan, const struct uz_lp_param *param)
{
    uint64_t numel = param->hp_mapping ? param->hp_mapping->lp_fragment_address.numel : 0;
    if (!strcmp(plan->kind, "whole"))
        return param->lp.numel;
    return numel + !strcmp(plan->kind, "odd");
}

static void make_gradients(struct world *world, uint64_t r)
{
    const struct plan *plan = world->plan;
    struct rank *rank = &world->ranks[r];
    bool whole = !strcmp(plan->kind, "whole");
    for (size_t i = 0; i < plan->n; i++) {
        struct uz_lp_param *param = &rank->params[i];
        if (whole) /* as BF16_Optimizer counts */
            param->index_in_param_group = i;
        if (!param->has_index && !whole)
            continue;
        while (rank->n_gradients <= param->index_in_param_group)
            rank->gradients[rank->n_gradients++] = new_view(world, plan->gradient, 1);
        struct uz_tensor_view *made = &rank->gradients[param->index_in_param_group];
        *made = new_view(world, plan->gradient, gradient_numel(plan, param));
        fill(made, plan->number, r, SEED_GRAD + i);
    }
    rank->list = (struct uz_gradient_list){rank->gradients, rank->n_gradients};
    if (!strcmp(plan->kind, "short") && rank->n_gradients > 0)
        rank->list.n--;
    if (strcmp(plan->kind, "none") != 0)
        rank->groups[plan->group] = &rank->list;
    rank->dict.n_groups = strcmp(plan->kind, "missing") ? plan->group + 1 : plan->group;
}

static void make_rank(struct world *world, uint64_t r)
{
    const struct plan *plan = world->plan;
    struct rank *rank = &world->ranks[r];
    struct uz_error err;
    uint64_t start = r * plan->part, left = plan->total > start ? plan->total - start : 0;
    rank->hp = new_view(world, plan->hp, plan->trimmed && left < plan->part ? left : plan->part);
    fill(&rank->hp, plan->number, r, SEED_HP);
    for (size_t i = 0; i < plan->n; i++) {
        rank->params[i].lp = new_view(world, plan->lp, plan->numels[i]);
        fill(&rank->params[i].lp, plan->number, 0, SEED_LP + i);
        rank->items[i] = &rank->params[i];
    }
    rank->dict.groups = rank->groups;
    struct uz_linkage linkage = {
        .lp_params = rank->items,
        .n_lp_params = plan->n,
        .flat_hp_partition = rank->hp,
        .gradient_dict = plan->offload ? &rank->other : &rank->dict,
        .offload_gradient_dict = plan->offload ? &rank->dict : &rank->other,
        .use_offload = plan->offload,
        .param_group_index = plan->group,
        .partition_start = start,
        .partition_size = plan->part,
        .dp_group = &world->group,
        .param_offsets = plan->has_offsets ? plan->offsets : NULL,
    };
    CHECK_EQ_I64(uz_link_hp_params(&linkage, &err), UZ_OK);
    world->lists[r] = (struct uz_lp_param_list){rank->items, plan->n};
    make_states(world, r);
    make_gradients(world, r);
}

static int add_up(void *cookie, float *full, uint64_t numel, const struct uz_fragment_address *own,
                  struct uz_error *err)
{
    struct sums *sums = cookie;
    (void)err;
    for (uint64_t i = 0; i < numel; i++) {
        uint32_t bits;
        memcpy(&bits, full + i, 4);
        sums->exact[i] = (sums->n_calls ? sums->exact[i] : 0) + bits;
        sums->added[i] = sums->n_calls ? sums->added[i] + full[i] : full[i];
        if (i - own->start >= own->numel)
            CHECK_EQ_U64(bits, 0);
    }
    sums->n_calls++;
    return UZ_OK;
}

static struct world *make_world(const struct plan *plan, struct sums *sums)
{
    struct world *world = calloc(1, sizeof *world);
    if (!world)
        abort();
    world->plan = plan;
    world->collective = (struct uz_collective){add_up, sums};
    world->group = (struct uz_dp_group){world->lists, plan->world, NULL};
    if (sums)
        world->group = (struct uz_dp_group){NULL, 0, &world->collective};
    for (uint64_t r = 0; r < plan->world; r++)
        make_rank(world, r);
    return world;
}

static void free_world(struct world *world)
{
    for (uint64_t r = 0; r < world->plan->world; r++)
        uz_unlink_hp_params(world->ranks[r].items, world->plan->n);
    for (size_t i = 0; i < world->n_blocks; i++)
        free(world->blocks[i]);
    free(world);
}

/* ---- Comparing ---- */

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
    int rc = set(&test->reach->ranks[0].params[i], &test->plan, column, &value, &overflow, &err);
    CHECK_EQ_I64(rc, want[0] == '!' ? UZ_ARG : UZ_OK);
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
