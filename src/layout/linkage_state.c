/* SPDX-License-Identifier: Apache-2.0 */
/* Optimizer states and gradients of a mapping. */
#include <unzero/linkage.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "layout/view.h"

static int check_keys(const struct uz_state_values *states, struct uz_error *err)
{
    for (size_t i = 0; i < states->n; i++)
        for (size_t k = 0; k < i; k++)
            if (!strcmp(states->items[i].key, states->items[k].key))
                return uz_fail(err, UZ_ARG, "the optimizer has two states called '%s'",
                               states->items[i].key);
    return UZ_OK;
}

/* Only what has an element for each element of the partition can be cut like it. */
static bool has_shape_of(const struct uz_state_value *state, const struct uz_tensor_view *partition)
{
    return state->ndim == 1 && state->view.numel == partition->numel;
}

int uz_set_optim_state_fragment(struct uz_hp_mapping *mapping,
                                const struct uz_tensor_view *flat_hp_partition,
                                const struct uz_state_values *states, struct uz_error *err)
{
    const struct uz_fragment_address *address = &mapping->hp_fragment_address;
    struct uz_state_fragment *fragments;
    size_t n = 0;
    uz_error_clear(err);
    UZ_TRY(check_keys(states, err));
    if (flat_hp_partition->numel < address->numel ||
        flat_hp_partition->numel - address->numel < address->start)
        return uz_fail(err, UZ_ARG,
                       "the mapping is of another partition: it has %llu elements, "
                       "the fragment lies at %llu + %llu",
                       (unsigned long long)flat_hp_partition->numel,
                       (unsigned long long)address->start, (unsigned long long)address->numel);
    UZ_TRY(uz_alloc(&fragments, states->n, sizeof *fragments, err));
    for (size_t i = 0; i < states->n; i++)
        if (has_shape_of(&states->items[i], flat_hp_partition))
            fragments[n++] = (struct uz_state_fragment){
                .key = states->items[i].key,
                .view = uz_view_narrow(&states->items[i].view, address->start, address->numel),
            };
    free(mapping->states);
    mapping->states = fragments;
    mapping->n_states = n;
    mapping->has_states = true;
    return UZ_OK;
}

int uz_lazy_init_hp_params_optimizer_state(struct uz_lp_param *const *params, size_t n,
                                           const struct uz_tensor_view *flat_hp_partition,
                                           const struct uz_state_values *states,
                                           struct uz_error *err)
{
    uz_error_clear(err);
    for (size_t i = 0; i < n; i++) {
        if (!params[i]->hp_mapping)
            continue;
        if (!states)
            return uz_fail(err, UZ_ARG, "the optimizer has no state of this partition");
        UZ_TRY(uz_set_optim_state_fragment(params[i]->hp_mapping, flat_hp_partition, states, err));
    }
    return UZ_OK;
}

/* "exp_avg, exp_avg_sq", cut to size. */
static const char *list_keys(const struct uz_hp_mapping *mapping, char *buf, size_t size)
{
    size_t used = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < mapping->n_states && used < size; i++)
        used += (size_t)snprintf(buf + used, size - used, "%s%s", i ? ", " : "",
                                 mapping->states[i].key);
    return buf;
}

int uz_get_optim_state_fragment(const struct uz_hp_mapping *mapping, const char *key,
                                struct uz_tensor_view *fragment, struct uz_error *err)
{
    char keys[512];
    uz_error_clear(err);
    for (size_t i = 0; i < mapping->n_states; i++)
        if (!strcmp(mapping->states[i].key, key)) {
            *fragment = mapping->states[i].view;
            return UZ_OK;
        }
    if (!mapping->has_states)
        return uz_fail(err, UZ_ARG,
                       "'%s' not found in optimizer state fragment: no states were linked, as "
                       "before the first step",
                       key);
    if (mapping->n_states == 0)
        return uz_fail(err, UZ_ARG,
                       "'%s' not found in optimizer state fragment: no state has the shape of the "
                       "partition",
                       key);
    return uz_fail(err, UZ_ARG, "'%s' not found in optimizer state fragment; there are: %s", key,
                   list_keys(mapping, keys, sizeof keys));
}

size_t uz_get_optim_state_keys(const struct uz_hp_mapping *mapping, const char **keys,
                               size_t n_keys)
{
    for (size_t i = 0; i < mapping->n_states && i < n_keys; i++)
        keys[i] = mapping->states[i].key;
    return mapping->n_states;
}

int uz_get_lp_grad_fragment(const struct uz_hp_mapping *mapping, size_t index_in_param_group,
                            struct uz_tensor_view *gradient, struct uz_error *err)
{
    const struct uz_gradient_dict *dict =
        mapping->use_offload ? mapping->offload_gradient_dict : mapping->gradient_dict;
    size_t group = mapping->param_group_index;
    uz_error_clear(err);
    if (!dict || group >= dict->n_groups || !dict->groups[group])
        return uz_fail(err, UZ_ARG,
                       "Gradients are only available immediately after backward and before engine "
                       "step: there is no list of %sgradients for parameter group %zu",
                       mapping->use_offload ? "offloaded " : "", group);
    if (index_in_param_group >= dict->groups[group]->n)
        return uz_fail(err, UZ_ARG,
                       "parameter group %zu has %zu gradients on this rank, none with index %zu",
                       group, dict->groups[group]->n, index_in_param_group);
    *gradient = dict->groups[group]->items[index_in_param_group];
    return UZ_OK;
}

int uz_update_hp(const struct uz_hp_mapping *mapping, struct uz_error *err)
{
    uint64_t n_overflows = 0;
    uz_error_clear(err);
    return uz_view_copy(&mapping->hp_fragment, &mapping->lp_fragment, &n_overflows, err);
}

int uz_update_lp(const struct uz_hp_mapping *mapping, uint64_t *n_overflows, struct uz_error *err)
{
    uint64_t n = 0;
    uz_error_clear(err);
    int rc = uz_view_copy(&mapping->lp_fragment, &mapping->hp_fragment, &n, err);
    if (rc == UZ_OK && n_overflows)
        *n_overflows = n;
    return rc;
}
