/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors, states and elements of an open checkpoint by name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "access/checkpoint_impl.h"

enum { BLOCK_ELEMS = 1024 * 1024 }; /* read at a time */

static enum uz_tensor_kind kind_of(enum uz_role role)
{
    if (role == UZ_ROLE_PARAM)
        return UZ_TENSOR_PARAM;
    return role == UZ_ROLE_FROZEN ? UZ_TENSOR_FROZEN : UZ_TENSOR_BUFFER;
}

struct uz_tensor_info uz_checkpoint_tensor(const struct uz_checkpoint *checkpoint, size_t index)
{
    const struct uz_tensor *tensor = &checkpoint->model.tensors[index];
    return (struct uz_tensor_info){
        .name = tensor->name,
        .kind = kind_of(tensor->role),
        .dtype = tensor->dtype,
        .lp_dtype = tensor->lp_dtype,
        .ndim = tensor->ndim,
        .shape = tensor->shape,
        .numel = tensor->numel,
    };
}

int uz_checkpoint_find(const struct uz_checkpoint *checkpoint, const char *name, size_t *index,
                       struct uz_error *err)
{
    const struct uz_model *model = &checkpoint->model;
    uint32_t found;
    uz_error_clear(err);
    if (uz_model_find(model, name, strlen(name), &found)) {
        *index = found;
        return UZ_OK;
    }
    for (size_t i = 0; i < model->n_aliases; i++)
        if (!strcmp(model->aliases[i].name, name)) {
            *index = model->aliases[i].tensor;
            return UZ_OK;
        }
    return uz_fail(err, UZ_ARG, "there is no tensor '%s' in this checkpoint", name);
}

/* The states that a tensor has are neighbours; the first of them. */
static size_t first_state(const struct uz_checkpoint *c, uint32_t param)
{
    size_t low = 0, high = c->n_states;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (c->states[mid].param < param)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static int no_such_state(const struct uz_checkpoint *c, uint32_t param, const char *state,
                         struct uz_error *err)
{
    char names[512] = "";
    size_t used = 0;
    for (size_t i = first_state(c, param); i < c->n_states && c->states[i].param == param; i++)
        if (used < sizeof names)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "",
                                     c->model.states[c->states[i].state]);
    return uz_fail(err, UZ_ARG, "%s has no optimizer state '%s'; there are: %s",
                   c->model.tensors[param].name, state, used ? names : "none");
}

/* The model's tensor that holds the weight or the state. */
static int find_tensor(const struct uz_checkpoint *c, size_t index, const char *state,
                       uint32_t *tensor, struct uz_error *err)
{
    if (index >= c->n_weights)
        return uz_fail(err, UZ_ARG, "there is no tensor number %zu, only %zu", index, c->n_weights);
    *tensor = (uint32_t)index;
    if (!state)
        return UZ_OK;
    for (size_t i = first_state(c, *tensor); i < c->n_states && c->states[i].param == index; i++)
        if (!strcmp(c->model.states[c->states[i].state], state)) {
            *tensor = c->states[i].tensor;
            return UZ_OK;
        }
    return no_such_state(c, (uint32_t)index, state, err);
}

static int check_dtype(enum uz_dtype from, enum uz_dtype to, struct uz_error *err)
{
    if (from == to || (uz_dtype_is_castable(from) && uz_dtype_is_castable(to)))
        return UZ_OK;
    return uz_fail(err, UZ_UNSUPPORTED, "there is no cast from %s to %s", uz_dtype_name(from),
                   uz_dtype_name(to));
}

int uz_checkpoint_read(struct uz_checkpoint *c, size_t index, const char *state, uint64_t first,
                       uint64_t n_elems, enum uz_dtype dtype, void *out, struct uz_error *err)
{
    uint32_t number;
    int rc = UZ_OK;
    uz_error_clear(err);
    UZ_TRY(find_tensor(c, index, state, &number, err));
    const struct uz_tensor *tensor = &c->model.tensors[number];
    UZ_TRY(check_dtype(tensor->dtype, dtype, err));
    if (first > tensor->numel || n_elems > tensor->numel - first)
        return uz_fail(err, UZ_ARG, "%s has %llu elements, not %llu + %llu", tensor->name,
                       (unsigned long long)tensor->numel, (unsigned long long)first,
                       (unsigned long long)n_elems);
    pthread_mutex_lock(&c->lock);
    for (uint64_t at = 0; rc == UZ_OK && at < n_elems; at += BLOCK_ELEMS) {
        uint64_t n = n_elems - at < BLOCK_ELEMS ? n_elems - at : BLOCK_ELEMS;
        rc = uz_fetch_elems(&c->fetch, number, first + at, n, dtype,
                            (char *)out + at * uz_dtype_size(dtype), err);
    }
    pthread_mutex_unlock(&c->lock);
    return rc;
}

int uz_read_partition(void *cookie, uint64_t first, uint64_t n_elems, void *out,
                      struct uz_error *err)
{
    const struct uz_origin *origin = cookie;
    struct uz_checkpoint *c = origin->checkpoint;
    const struct uz_partition *partition = &c->model.partitions[origin->number];
    pthread_mutex_lock(&c->lock);
    int rc = uz_fetch_stored(&c->fetch, partition->place, partition->first + first, n_elems,
                             partition->dtype, out, err);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

int uz_read_lp(void *cookie, uint64_t first, uint64_t n_elems, void *out, struct uz_error *err)
{
    const struct uz_origin *origin = cookie;
    struct uz_checkpoint *c = origin->checkpoint;
    pthread_mutex_lock(&c->lock);
    int rc = uz_fetch_lp(&c->fetch, origin->number, first, n_elems,
                         c->model.tensors[origin->number].lp_dtype, out, err);
    pthread_mutex_unlock(&c->lock);
    return rc;
}
