/* SPDX-License-Identifier: Apache-2.0 */
/* Names of experts' parameters, with local and with global numbers. */
#include <stdio.h>
#include <string.h>

#include "zero/experts.h"

static bool has_prefix(const struct uz_expert_layer *layer, const char *name, size_t nbytes)
{
    return nbytes > layer->prefix_nbytes && !memcmp(name, layer->prefix, layer->prefix_nbytes);
}

/* The number at the beginning of a text, and the bytes it takes; 0 if there is none. */
static size_t take_number(const char *text, size_t nbytes, uint64_t *number)
{
    size_t n = 0;
    *number = 0;
    for (; n < nbytes && n < 9 && text[n] >= '0' && text[n] <= '9'; n++)
        *number = *number * 10 + (uint64_t)(text[n] - '0');
    return n < nbytes && text[n] >= '0' && text[n] <= '9' ? 0 : n;
}

/* w1, w2 or w3: the stacks of AutoEP. */
static bool is_stack(const char *text, size_t nbytes)
{
    return nbytes == 2 && text[0] == 'w' && text[1] >= '1' && text[1] <= '3';
}

bool uz_expert_find(const struct uz_experts *experts, const char *name, size_t nbytes,
                    struct uz_expert_name *found)
{
    for (size_t i = 0; i < experts->n_layers; i++) {
        const struct uz_expert_layer *layer = &experts->layers[i];
        if (!has_prefix(layer, name, nbytes))
            continue;
        *found = (struct uz_expert_name){
            .layer = layer,
            .rest = name + layer->prefix_nbytes,
            .rest_nbytes = nbytes - layer->prefix_nbytes,
        };
        if (layer->fused)
            return is_stack(found->rest, found->rest_nbytes);
        size_t digits = take_number(found->rest, found->rest_nbytes, &found->expert);
        found->rest += digits;
        found->rest_nbytes -= digits;
        return digits > 0;
    }
    return false;
}

int uz_expert_global_name(struct uz_arena *arena, const struct uz_expert_name *name,
                          uint64_t expert, const char **out, struct uz_error *err)
{
    char number[24];
    const struct uz_expert_layer *layer = name->layer;
    size_t digits = (size_t)snprintf(number, sizeof number, "%llu", (unsigned long long)expert);
    char *text;
    UZ_TRY(uz_arena_alloc(arena, layer->prefix_nbytes + digits + name->rest_nbytes + 1, 1, &text,
                          err));
    memcpy(text, layer->prefix, layer->prefix_nbytes);
    memcpy(text + layer->prefix_nbytes, number, digits);
    memcpy(text + layer->prefix_nbytes + digits, name->rest, name->rest_nbytes);
    text[layer->prefix_nbytes + digits + name->rest_nbytes] = '\0';
    *out = text;
    return UZ_OK;
}

int uz_expert_group_ep(const struct uz_experts *experts, size_t group, uint64_t world, uint64_t *ep,
                       struct uz_error *err)
{
    uint64_t count = group < experts->n_groups ? experts->partition_counts[group] : 0;
    if (count == 0 || world == 0 || world % count != 0)
        return uz_fail(err, UZ_MISMATCH,
                       "the experts of group %zu are cut into %llu partitions (partition_count), "
                       "which do not divide the %llu data-parallel ranks",
                       group, (unsigned long long)count, (unsigned long long)world);
    *ep = world / count;
    return UZ_OK;
}
