/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small training loop with the linkage in memory: two ranks in one process share three
 * parameters, each holds half of the fp32 masters, and gradients are offloaded.
 *
 *     cc two_ranks.c $(pkg-config --cflags --libs unzero) && ./a.out
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unzero/linkage.h>

enum { N_RANKS = 2, N_PARAMS = 3, N_ELEMS = 12, PARTITION = 6 };

static const char *const names[N_PARAMS] = {"embed", "weight", "bias"};
static const uint64_t numels[N_PARAMS] = {4, 5, 3};

struct rank {
    uint16_t lp[N_ELEMS]; /* bf16 weights: every rank has all of them */
    float hp[PARTITION];  /* fp32 masters: this rank's part */
    float momentum[PARTITION];
    float gradient[PARTITION]; /* of its part, as the backward pass left it */
    struct uz_lp_param params[N_PARAMS];
    struct uz_lp_param *list[N_PARAMS];
    struct uz_tensor_view gradient_views[N_PARAMS]; /* one for each fragment */
    struct uz_gradient_list gradients;
    const struct uz_gradient_list *groups[1]; /* NULL while there are no gradients */
    struct uz_gradient_dict dict;
};

static struct rank ranks[N_RANKS];
static struct uz_lp_param_list lists[N_RANKS];
static const struct uz_dp_group group = {lists, N_RANKS, NULL};

static void must(int rc, const struct uz_error *err)
{
    char text[2048];
    if (rc == UZ_OK)
        return;
    fprintf(stderr, "%s\n", uz_error_format(err, text, sizeof text));
    exit(1);
}

static struct uz_tensor_view partition_of(struct rank *rank)
{
    return uz_view_of(rank->hp, UZ_DTYPE_F32, PARTITION);
}

static void link_rank(struct rank *rank, uint64_t number)
{
    struct uz_error err;
    uint64_t offset = 0;
    for (int i = 0; i < N_PARAMS; i++) {
        rank->params[i].name = names[i];
        rank->params[i].lp = uz_view_of(rank->lp + offset, UZ_DTYPE_BF16, numels[i]);
        rank->list[i] = &rank->params[i];
        offset += numels[i];
    }
    lists[number] = (struct uz_lp_param_list){rank->list, N_PARAMS};
    rank->dict = (struct uz_gradient_dict){rank->groups, 1};
    const struct uz_linkage linkage = {
        .lp_params = rank->list,
        .n_lp_params = N_PARAMS,
        .flat_hp_partition = partition_of(rank),
        .offload_gradient_dict = &rank->dict,
        .use_offload = true,
        .partition_start = number * PARTITION,
        .partition_size = PARTITION,
        .dp_group = &group,
    };
    must(uz_link_hp_params(&linkage, &err), &err);
    for (int i = 0; i < N_PARAMS; i++) {
        const struct uz_hp_mapping *mapping = rank->params[i].hp_mapping;
        if (!mapping)
            continue;
        const struct uz_fragment_address *lp = &mapping->lp_fragment_address;
        const struct uz_fragment_address *hp = &mapping->hp_fragment_address;
        printf("rank %llu: %s [%llu, %llu) at [%llu, %llu) of the partition\n",
               (unsigned long long)number, names[i], (unsigned long long)lp->start,
               (unsigned long long)(lp->start + lp->numel), (unsigned long long)hp->start,
               (unsigned long long)(hp->start + hp->numel));
        rank->gradient_views[rank->params[i].index_in_param_group] =
            uz_view_of(rank->gradient + hp->start, UZ_DTYPE_F32, hp->numel);
        rank->gradients.n++;
    }
    rank->gradients.items = rank->gradient_views;
}

/* What a backward pass leaves: here the gradient pulls every weight towards 1. */
static void backward(struct rank *rank)
{
    for (int i = 0; i < PARTITION; i++)
        rank->gradient[i] = rank->hp[i] - 1;
    rank->groups[0] = &rank->gradients;
}

/* SGD with momentum on this rank's part; then the low-precision copies follow the masters. */
static void step(struct rank *rank)
{
    struct uz_error err;
    for (int i = 0; i < PARTITION; i++) {
        rank->momentum[i] = 0.5f * rank->momentum[i] + rank->gradient[i];
        rank->hp[i] -= 0.25f * rank->momentum[i];
    }
    for (int i = 0; i < N_PARAMS; i++)
        if (rank->params[i].hp_mapping)
            must(uz_update_lp(rank->params[i].hp_mapping, NULL, &err), &err);
    rank->groups[0] = NULL; /* the gradients are gone */
}

static void link_states(struct rank *rank)
{
    struct uz_error err;
    struct uz_tensor_view partition = partition_of(rank);
    struct uz_state_value momentum = {"momentum_buffer", 1,
                                      uz_view_of(rank->momentum, UZ_DTYPE_F32, PARTITION)};
    struct uz_state_values states = {&momentum, 1};
    must(uz_lazy_init_hp_params_optimizer_state(rank->list, N_PARAMS, &partition, &states, &err),
         &err);
}

static void show(const char *what, const float *values, uint64_t n)
{
    printf("%s:", what);
    for (uint64_t i = 0; i < n; i++)
        printf(" %g", (double)values[i]);
    printf("\n");
}

int main(void)
{
    struct uz_error err;
    struct uz_lp_param *weight = &ranks[0].params[1]; /* cut by the ranks' boundary */
    float full[5];

    for (uint64_t r = 0; r < N_RANKS; r++) {
        for (int i = 0; i < PARTITION; i++)
            ranks[r].hp[i] = (float)(r * PARTITION) + (float)i;
        link_rank(&ranks[r], r);
    }
    for (int i = 0; i < 3; i++) {
        for (int r = 0; r < N_RANKS; r++)
            backward(&ranks[r]);
        must(uz_get_full_hp_grad(weight, full, 5, &err), &err);
        show("gradient of weight", full, 5);
        for (int r = 0; r < N_RANKS; r++)
            step(&ranks[r]);
    }
    if (uz_get_full_hp_grad(weight, full, 5, &err) < 0)
        printf("after the step: %.*s\n", (int)strcspn(err.message, ":"), err.message);
    for (int r = 0; r < N_RANKS; r++)
        link_states(&ranks[r]);
    must(uz_get_full_hp_param(weight, NULL, full, 5, &err), &err);
    show("weight", full, 5);
    must(uz_get_full_hp_param(weight, "momentum_buffer", full, 5, &err), &err);
    show("momentum of weight", full, 5);

    memset(full, 0, sizeof full);
    struct uz_tensor_view zeros = uz_view_of(full, UZ_DTYPE_F32, 5);
    must(uz_set_full_hp_param(weight, NULL, &zeros, &err), &err); /* on both ranks */
    show("masters of rank 0", ranks[0].hp, PARTITION);
    show("masters of rank 1", ranks[1].hp, PARTITION);
    for (int r = 0; r < N_RANKS; r++)
        uz_unlink_hp_params(ranks[r].list, N_PARAMS);
    return 0;
}
