/* SPDX-License-Identifier: Apache-2.0 */
/* Selects tensors, names and dtypes. */
#include "out/items.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "out/weight_names.h"

/* Far above any model, far below where sums of offsets and headers could wrap. */
#define MAX_TOTAL_NBYTES ((uint64_t)1 << 62)

enum uz_dtype uz_output_dtype(const struct uz_tensor *tensor, enum uz_dtype_policy policy)
{
    if (tensor->role == UZ_ROLE_BUFFER || !uz_dtype_is_castable(tensor->dtype))
        return tensor->dtype;
    switch (policy) {
    case UZ_POLICY_FP32:
        return UZ_DTYPE_F32;
    case UZ_POLICY_BF16:
        return UZ_DTYPE_BF16;
    case UZ_POLICY_FP16:
        return UZ_DTYPE_F16;
    case UZ_POLICY_KEEP:
        break;
    }
    return uz_dtype_is_castable(tensor->lp_dtype) ? tensor->lp_dtype : tensor->dtype;
}

/* What is needed while items are selected. */
struct selection {
    struct uz_items *items;
    const struct uz_model *model;
    const struct uz_items_options *options;
    struct uz_notes *notes;
    size_t n_weights; /* tensors that are no states: they come first in the model */
    struct uz_weight_names names;
    uint64_t *order; /* of each item: that of its name in the module */
    size_t cap_order;
    char stateless[400]; /* names of parameters that lack the state */
    size_t n_stateless;
};

static bool is_all(const struct selection *s)
{
    return s->options->state && !strcmp(s->options->state, "all");
}

static int leave_out(struct uz_items *items, const char *name, enum uz_left_out why,
                     struct uz_error *err)
{
    struct uz_left_out_name *left_out;
    UZ_TRY(UZ_APPEND(items->left_out, items->n_left_out, items->cap_left_out, &left_out, err));
    *left_out = (struct uz_left_out_name){name, why};
    return UZ_OK;
}

/* Tells of names that the rules dropped or changed. */
static int tell_names(struct selection *s, struct uz_error *err)
{
    struct uz_items *items = s->items;
    for (size_t i = 0; i < s->names.n; i++) {
        const struct uz_weight_name *name = &s->names.names[i];
        struct uz_renamed *change;
        if (!name->name)
            UZ_TRY(leave_out(items, name->old_name, UZ_LEFT_OUT_BY_RULES, err));
        if (!name->name || name->name == name->old_name)
            continue;
        UZ_TRY(UZ_APPEND(items->renamed, items->n_renamed, items->cap_renamed, &change, err));
        *change = (struct uz_renamed){name->old_name, name->name};
    }
    return UZ_OK;
}

/* With "all", NAME is written as STATE/NAME. */
static int full_name(struct selection *s, const struct uz_tensor *tensor, const char *name,
                     const char **full, struct uz_error *err)
{
    *full = name;
    if (!is_all(s))
        return UZ_OK;
    const char *state = s->model->states[tensor->state];
    size_t n_state = strlen(state), n = strlen(name);
    char *text;
    UZ_TRY(uz_arena_alloc(s->items->arena, n_state + n + 2, 1, &text, err));
    memcpy(text, state, n_state);
    text[n_state] = '/';
    memcpy(text + n_state + 1, name, n + 1);
    *full = text;
    return UZ_OK;
}

/* ---- Items ---- */

static enum uz_dtype dtype_of(const struct selection *s, const struct uz_tensor *tensor)
{
    if (tensor->role == UZ_ROLE_BUFFER && s->options->widen_buffers &&
        uz_dtype_is_castable(tensor->dtype))
        return UZ_DTYPE_F32;
    return uz_output_dtype(tensor, s->options->policy);
}

static int add_item(struct selection *s, size_t tensor_index,
                    const struct uz_weight_name *candidate, size_t holder, struct uz_error *err)
{
    struct uz_items *items = s->items;
    const struct uz_tensor *tensor = &s->model->tensors[tensor_index];
    struct uz_item *item;
    const char *name;
    UZ_TRY(full_name(s, tensor, candidate->name, &name, err));
    UZ_TRY(uz_reserve(&s->order, &s->cap_order, (uint64_t)items->n + 1, sizeof *s->order, err));
    UZ_TRY(UZ_APPEND(items->items, items->n, items->cap, &item, err));
    enum uz_dtype dtype = dtype_of(s, tensor);
    *item = (struct uz_item){
        .name = name,
        .tensor = (uint32_t)tensor_index,
        .dtype = dtype,
        .nbytes = tensor->numel * uz_dtype_size(dtype),
        .holder = holder,
    };
    s->order[items->n - 1] = candidate->order;
    return UZ_OK;
}

static int drop_name(struct selection *s, const char *name, size_t item, struct uz_error *err)
{
    struct uz_items *items = s->items;
    const struct uz_tensor *tensor = &s->model->tensors[items->items[item].tensor];
    struct uz_dropped_name *dropped;
    UZ_TRY(full_name(s, tensor, name, &name, err));
    UZ_TRY(UZ_APPEND(items->dropped, items->n_dropped, items->cap_dropped, &dropped, err));
    *dropped = (struct uz_dropped_name){name, items->items[item].name, item};
    return UZ_OK;
}

static int add_one_name(struct selection *s, size_t tensor, size_t first, size_t end,
                        struct uz_error *err)
{
    const struct uz_weight_name *kept = &s->names.names[first];
    for (size_t i = first + 1; i < end; i++)
        if (uz_is_embedding(&s->names.names[i]) && !uz_is_embedding(kept))
            kept = &s->names.names[i];
    size_t item = s->items->n;
    UZ_TRY(add_item(s, tensor, kept, item, err));
    for (size_t i = first; i < end; i++)
        if (&s->names.names[i] != kept)
            UZ_TRY(drop_name(s, s->names.names[i].name, item, err));
    return UZ_OK;
}

static int add_tensor(struct selection *s, size_t index, struct uz_error *err)
{
    const struct uz_tensor *tensor = &s->model->tensors[index];
    size_t first = s->names.first[tensor->param], end = s->names.first[tensor->param + 1];
    size_t holder = s->items->n;
    if (first == end)
        return UZ_OK; /* rules dropped all of its names */
    if (tensor->role != UZ_ROLE_BUFFER && !uz_dtype_is_castable(tensor->dtype))
        s->items->n_as_stored++;
    if (s->options->ties == UZ_TIES_ONE_NAME)
        return add_one_name(s, index, first, end, err);
    for (size_t i = first; i < end; i++)
        UZ_TRY(add_item(s, index, &s->names.names[i],
                        s->options->ties == UZ_TIES_SHARED ? holder : s->items->n, err));
    return UZ_OK;
}

/* A parameter without elements has no master even if it is trained, and takes no room: it stays. */
static bool is_excluded(const struct selection *s, const struct uz_tensor *tensor)
{
    return s->options->exclude_frozen && tensor->role == UZ_ROLE_FROZEN && tensor->numel > 0;
}

/* Leaves all names of a weight out, apart from those that rules dropped. */
static int leave_out_weight(struct selection *s, size_t weight, enum uz_left_out why,
                            struct uz_error *err)
{
    for (size_t i = s->names.first[weight]; i < s->names.first[weight + 1]; i++)
        UZ_TRY(leave_out(s->items, s->names.names[i].old_name, why, err));
    return UZ_OK;
}

static int leave_out_frozen(struct selection *s, size_t weight, struct uz_error *err)
{
    s->items->n_excluded += s->names.first[weight] < s->names.first[weight + 1];
    return leave_out_weight(s, weight, UZ_LEFT_OUT_FROZEN, err);
}

static void note_stateless(struct selection *s, const struct uz_tensor *param)
{
    size_t used = strlen(s->stateless), n = strlen(param->name);
    s->n_stateless++;
    if (used + n + 8 > sizeof s->stateless)
        return;
    snprintf(s->stateless + used, sizeof s->stateless - used, "%s%s", used ? ", " : "",
             param->name);
}

/* One state is wanted: marks the weights that have it. */
static int list_stateless(struct selection *s, uint32_t state, struct uz_error *err)
{
    bool *has_state;
    UZ_TRY(uz_alloc(&has_state, s->n_weights, sizeof *has_state, err));
    for (size_t i = s->n_weights; i < s->model->n_tensors; i++)
        if (s->model->tensors[i].state == state)
            has_state[s->model->tensors[i].param] = true;
    int rc = UZ_OK;
    for (size_t i = 0; rc == UZ_OK && i < s->n_weights; i++) {
        const struct uz_tensor *weight = &s->model->tensors[i];
        if (has_state[i] || s->names.first[i] == s->names.first[i + 1])
            continue;
        if (weight->role == UZ_ROLE_PARAM && weight->numel > 0)
            note_stateless(s, weight);
        rc = leave_out_weight(s, i, UZ_LEFT_OUT_STATELESS, err);
    }
    free(has_state);
    UZ_TRY(rc);
    if (s->n_stateless == 0)
        return UZ_OK;
    return uz_warn_of_data(s->notes, err, "the optimizer keeps no state %s of %zu parameters: %s",
                           s->options->state, s->n_stateless, s->stateless);
}

static int add_state(struct selection *s, struct uz_error *err)
{
    uint32_t state = 0;
    while (state < s->model->n_states && strcmp(s->model->states[state], s->options->state) != 0)
        state++;
    UZ_TRY(list_stateless(s, state, err));
    for (size_t i = s->n_weights; i < s->model->n_tensors; i++)
        if (s->model->tensors[i].state == state)
            UZ_TRY(add_tensor(s, i, err));
    return UZ_OK;
}

static int add_all(struct selection *s, struct uz_error *err)
{
    size_t n = is_all(s) ? s->model->n_tensors : s->n_weights;
    for (size_t i = 0; i < n; i++) {
        if (is_excluded(s, &s->model->tensors[i]))
            UZ_TRY(leave_out_frozen(s, i, err));
        else
            UZ_TRY(add_tensor(s, i, err));
    }
    return UZ_OK;
}

/* ---- Order ---- */

/* Where an item goes. */
struct ranked {
    uint32_t state;
    uint64_t order;
    size_t old_index;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->state != y->state)
        return x->state < y->state ? -1 : 1;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return x->old_index < y->old_index ? -1 : 1;
}

/* The first of those that share data becomes the holder. */
static void number_anew(struct uz_items *items, size_t *new_index)
{
    size_t *holder_of = new_index + items->n; /* by old index of the holder, plus one */
    for (size_t i = 0; i < items->n; i++) {
        size_t *holder = &holder_of[items->items[i].holder];
        if (*holder == 0)
            *holder = i + 1;
        items->items[i].holder = *holder - 1;
    }
    for (size_t i = 0; i < items->n_dropped; i++)
        items->dropped[i].item = new_index[items->dropped[i].item];
}

/* Puts the items into the order of their names in the module; aliases have places of their own. */
static int sort_items(struct selection *s, struct uz_error *err)
{
    struct uz_items *items = s->items;
    struct ranked *ranked = NULL;
    struct uz_item *sorted = NULL;
    size_t *new_index = NULL;
    int rc;
    UZ_TRY_GOTO(uz_alloc(&ranked, items->n, sizeof *ranked, err), end);
    UZ_TRY_GOTO(uz_alloc(&sorted, items->n, sizeof *sorted, err), end);
    UZ_TRY_GOTO(uz_alloc(&new_index, 2 * (uint64_t)items->n, sizeof *new_index, err), end);
    for (size_t i = 0; i < items->n; i++)
        ranked[i] = (struct ranked){
            .state = s->model->tensors[items->items[i].tensor].state,
            .order = s->order[i],
            .old_index = i,
        };
    qsort(ranked, items->n, sizeof *ranked, by_rank);
    for (size_t i = 0; i < items->n; i++) {
        sorted[i] = items->items[ranked[i].old_index];
        new_index[ranked[i].old_index] = i;
    }
    memcpy(items->items, sorted, items->n * sizeof *sorted);
    number_anew(items, new_index);
end:
    free(ranked);
    free(sorted);
    free(new_index);
    return rc;
}

/* Rules keep names apart; STATE/NAME could still be another state's name. */
static int check_twins(const struct uz_items *items, struct uz_error *err)
{
    struct uz_map *seen = uz_map_new();
    int rc = seen ? UZ_OK : uz_fail_nomem(err, sizeof(void *));
    for (size_t i = 0; rc == UZ_OK && i < items->n; i++) {
        const char *name = items->items[i].name;
        bool present;
        rc = uz_map_add(seen, name, strlen(name), i, &present, err);
        if (rc == UZ_OK && present)
            rc = uz_fail(err, UZ_ARG, "two tensors would be named %s", name);
    }
    uz_map_free(seen);
    return rc;
}

static int check_total(const struct uz_items *items, struct uz_error *err)
{
    uint64_t total = 0;
    if (items->n == 0)
        return uz_fail(err, UZ_ARG, "no tensor is left to write");
    for (size_t i = 0; i < items->n; i++)
        if (items->items[i].holder == i && !uz_add_u64(total, items->items[i].nbytes, &total))
            total = UINT64_MAX; /* and so it stays: no sum with it fits */
    if (total > MAX_TOTAL_NBYTES)
        return uz_fail(err, UZ_LIMIT, "the tensors have more bytes than a file system can hold");
    return UZ_OK;
}

static int run(struct selection *s, struct uz_error *err)
{
    UZ_TRY(uz_weight_names_make(&s->names, s->model, s->n_weights, s->options->names,
                                s->items->arena, s->notes, err));
    UZ_TRY(tell_names(s, err));
    UZ_TRY(s->options->state && !is_all(s) ? add_state(s, err) : add_all(s, err));
    UZ_TRY(check_total(s->items, err));
    UZ_TRY(sort_items(s, err));
    return is_all(s) ? check_twins(s->items, err) : UZ_OK;
}

int uz_items_select(struct uz_items *items, const struct uz_model *model,
                    const struct uz_items_options *options, struct uz_notes *notes,
                    struct uz_error *err)
{
    struct selection s = {.items = items, .model = model, .options = options, .notes = notes};
    *items = (struct uz_items){.arena = uz_arena_new(UINT64_MAX)};
    if (!items->arena)
        return uz_fail_nomem(err, sizeof(void *));
    while (s.n_weights < model->n_tensors && model->tensors[s.n_weights].role != UZ_ROLE_STATE)
        s.n_weights++;
    int rc = run(&s, err);
    uz_weight_names_free(&s.names);
    free(s.order);
    return rc;
}

void uz_items_free(struct uz_items *items)
{
    free(items->items);
    free(items->dropped);
    free(items->left_out);
    free(items->renamed);
    uz_arena_free(items->arena);
    *items = (struct uz_items){0};
}
