/* SPDX-License-Identifier: Apache-2.0 */
/* Worlds of ranks with values that tests/golden/make_linkage.py makes in the same way. */
#ifndef UZ_TESTS_LINKAGE_WORLD_H
#define UZ_TESTS_LINKAGE_WORLD_H

#include <stdlib.h>

#include <unzero/linkage.h>

#include "cast_oracle.h"
#include "check.h"

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

static inline size_t format_of(enum uz_dtype dtype)
{
    if (dtype == UZ_DTYPE_F32)
        return FORMAT_F32;
    return dtype == UZ_DTYPE_BF16 ? FORMAT_BF16 : FORMAT_F16;
}

/* Fills the view as `values` in make_linkage.py does. */
static inline void fill(const struct uz_tensor_view *view, uint64_t world, uint64_t rank,
                        uint64_t what)
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

static inline uint64_t fnv(uint64_t sum, const void *data, size_t nbytes)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < nbytes; i++)
        sum = (sum ^ bytes[i]) * 0x100000001b3;
    return sum;
}

static const uint64_t FNV = 0xcbf29ce484222325;

static inline uint64_t fnv_view(uint64_t sum, const struct uz_tensor_view *view)
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

static inline struct uz_tensor_view new_view(struct world *world, enum uz_dtype dtype,
                                             uint64_t numel)
{
    void *data = calloc(numel + 1, uz_dtype_size(dtype));
    if (!data || world->n_blocks == sizeof world->blocks / sizeof world->blocks[0])
        abort();
    world->blocks[world->n_blocks++] = data;
    return uz_view_of(data, dtype, numel);
}

static inline void make_states(struct world *world, uint64_t r)
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

static inline uint64_t gradient_numel(const struct plan *plan, const struct uz_lp_param *param)
{
    uint64_t numel = param->hp_mapping ? param->hp_mapping->lp_fragment_address.numel : 0;
    if (!strcmp(plan->kind, "whole"))
        return param->lp.numel;
    return numel + !strcmp(plan->kind, "odd");
}

static inline void make_gradients(struct world *world, uint64_t r)
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

static inline void make_rank(struct world *world, uint64_t r)
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

static inline int add_up(void *cookie, float *full, uint64_t numel,
                         const struct uz_fragment_address *own, struct uz_error *err)
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

static inline struct world *make_world(const struct plan *plan, struct sums *sums)
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

static inline void free_world(struct world *world)
{
    for (uint64_t r = 0; r < world->plan->world; r++)
        uz_unlink_hp_params(world->ranks[r].items, world->plan->n);
    for (size_t i = 0; i < world->n_blocks; i++)
        free(world->blocks[i]);
    free(world);
}

#endif
