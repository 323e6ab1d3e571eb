/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a side and lists its names. */
#include "check/diff_side.h"

#include <stdlib.h>
#include <string.h>

#include "check/replicas.h"
#include "engine/fetch.h"
#include "out/names.h"

enum { REPLICA_NBYTES = 1024 * 1024 }; /* compared at a time */

static bool is_all(const char *state)
{
    return state && !strcmp(state, "all");
}

static bool has_states(const struct uz_side *side)
{
    return side->info.kind == UZ_INPUT_ZERO || side->info.kind == UZ_INPUT_UNIVERSAL;
}

static bool is_wanted(const struct uz_side *side, const char *state, const struct uz_tensor *tensor)
{
    if (is_all(state))
        return true;
    if (!state || !has_states(side))
        return tensor->role != UZ_ROLE_STATE;
    return tensor->role == UZ_ROLE_STATE && !strcmp(side->model.states[tensor->state], state);
}

/* Of "all", names have the state before them, as consolidate writes them. */
static int add_name(struct uz_side *side, const char *state, const char *name, uint32_t tensor,
                    struct uz_error *err)
{
    struct uz_side_name *slot;
    UZ_TRY(UZ_APPEND(side->names, side->n_names, side->cap_names, &slot, err));
    slot->name = name;
    slot->tensor = tensor;
    if (!is_all(state) || !has_states(side))
        return UZ_OK;
    const char *prefix = side->model.states[side->model.tensors[tensor].state];
    size_t n = strlen(prefix), m = strlen(name);
    char *joined;
    UZ_TRY(uz_arena_alloc(side->arena, (uint64_t)n + m + 2, 1, &joined, err));
    memcpy(joined, prefix, n);
    joined[n] = '/';
    memcpy(joined + n + 1, name, m + 1);
    slot->name = joined;
    return UZ_OK;
}

/* All names of one parameter's tensors: its aliases are those of its states, too. */
static int list_aliases(struct uz_side *side, const char *state, uint32_t *first_state,
                        struct uz_error *err)
{
    const struct uz_model *model = &side->model;
    for (size_t i = 0; i < model->n_aliases; i++) {
        uint32_t tensor = model->aliases[i].tensor;
        if (is_wanted(side, state, &model->tensors[tensor]))
            UZ_TRY(add_name(side, state, model->aliases[i].name, tensor, err));
        for (uint32_t t = first_state[tensor]; t != UZ_NONE; t = first_state[t])
            if (is_wanted(side, state, &model->tensors[t]))
                UZ_TRY(add_name(side, state, model->aliases[i].name, t, err));
    }
    return UZ_OK;
}

static int list_names(struct uz_side *side, const char *state, struct uz_error *err)
{
    const struct uz_model *model = &side->model;
    uint32_t *next_state; /* of each tensor: another state of its parameter */
    UZ_TRY(uz_alloc(&next_state, model->n_tensors, sizeof *next_state, err));
    int rc = UZ_OK;
    for (uint32_t i = 0; i < model->n_tensors; i++)
        next_state[i] = UZ_NONE;
    for (uint32_t i = 0; rc == UZ_OK && i < model->n_tensors; i++) {
        const struct uz_tensor *tensor = &model->tensors[i];
        if (tensor->role == UZ_ROLE_STATE) {
            next_state[i] = next_state[tensor->param];
            next_state[tensor->param] = i;
        }
        if (is_wanted(side, state, tensor))
            rc = add_name(side, state, tensor->name, i, err);
    }
    if (rc == UZ_OK)
        rc = list_aliases(side, state, next_state, err);
    free(next_state);
    return rc;
}

/* Takes the names that `renamed` has none for off the list, and gives others their new ones. */
static void keep_names(struct uz_side *side, const char *const *renamed,
                       const struct uz_side *other)
{
    size_t n = 0;
    for (size_t i = 0; i < side->n_names; i++) {
        struct uz_side_name name = side->names[i];
        bool known = other && uz_map_get(other->by_name, name.name, strlen(name.name), NULL);
        if (!renamed[i] && !known)
            continue;
        name.name = renamed[i] ? renamed[i] : name.name;
        side->names[n++] = name;
    }
    side->n_names = n;
}

static int apply_rules(struct uz_side *side, const struct uz_diff_options *options,
                       const struct uz_side *other, struct uz_notes *notes, struct uz_error *err)
{
    struct uz_name_rules rules = options->names;
    struct uz_notes unheard = {0}; /* a rule that fits nothing on this side is no news */
    const char **names, **renamed;
    uint64_t n = side->n_names;
    if (other)
        rules.n_strip_prefixes = rules.n_renames = 0;
    UZ_TRY(uz_arena_alloc(side->arena, n, sizeof *names, &names, err));
    UZ_TRY(uz_arena_alloc(side->arena, n, sizeof *renamed, &renamed, err));
    for (size_t i = 0; i < n; i++)
        names[i] = side->names[i].name;
    int rc = uz_names_apply(&rules, names, n, options->input.limits.max_name_bytes, side->arena,
                            renamed, other ? &unheard : notes, err);
    uz_notes_free(&unheard);
    if (rc == UZ_OK)
        keep_names(side, renamed, other);
    return rc;
}

static int index_side(struct uz_side *side, struct uz_error *err)
{
    for (size_t i = 0; i < side->n_names; i++) {
        bool present;
        const char *name = side->names[i].name;
        UZ_TRY(uz_map_add(side->by_name, name, strlen(name), i, &present, err));
        if (present)
            return uz_fail(err, UZ_ARG, "two tensors are called %s", name);
    }
    return UZ_OK;
}

int uz_side_open(struct uz_side *side, const char *path, const struct uz_diff_options *options,
                 const struct uz_side *other, struct uz_notes *notes, struct uz_error *err)
{
    enum uz_input_kind kind;
    *side = (struct uz_side){.arena = uz_arena_new(UINT64_MAX), .by_name = uz_map_new()};
    if (!side->arena || !side->by_name)
        return uz_fail_nomem(err, sizeof *side);
    UZ_TRY(uz_input_kind(path, options->input.tag, &kind, err));
    bool plain = kind != UZ_INPUT_ZERO && kind != UZ_INPUT_UNIVERSAL;
    UZ_TRY(uz_input_open(path, &options->input, plain ? NULL : options->state, &side->model,
                         &side->info, notes, err));
    side->has_model = true;
    UZ_TRY(uz_spool_open(&side->spool, &side->model, options->scratch_dir, options->input.threads,
                         &options->input.limits, err));
    UZ_TRY(uz_fetch_check(&side->model, err));
    UZ_TRY(uz_check_replicas(&side->model, options->input.threads, REPLICA_NBYTES, err));
    UZ_TRY(list_names(side, options->state, err));
    UZ_TRY(apply_rules(side, options, other, notes, err));
    return index_side(side, err);
}

void uz_side_free(struct uz_side *side)
{
    uz_spool_close(side->spool);
    if (side->has_model)
        uz_model_free(&side->model);
    uz_input_info_free(&side->info);
    uz_map_free(side->by_name);
    uz_arena_free(side->arena);
    free(side->names);
    *side = (struct uz_side){0};
}
