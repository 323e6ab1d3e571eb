/* SPDX-License-Identifier: Apache-2.0 */
/* The base optimizer's state dictionary for one rank: states cut anew, all else as it was. */
#include <string.h>

#include "convert/reshard_impl.h"
#include "zero/optim_state.h"

static struct uz_maker *maker_of(struct uz_reshard_builder *b)
{
    return &b->graph.maker;
}

/* ---- Partitions ---- */

/* The tensor of a parameter's weight (state NULL) or state. */
static uint32_t tensor_of(const struct uz_reshard_source *source, const struct uz_text *state,
                          size_t param)
{
    return state ? uz_reshard_state_tensor(source, state->data, state->nbytes, param)
                 : source->params[param].tensor;
}

/* The dtype that the whole flat group has. */
static int dtype_of(const struct uz_reshard_source *source, const struct uz_flat_group *flat,
                    const struct uz_text *state, enum uz_dtype *dtype, struct uz_error *err)
{
    const struct uz_tensor *tensors = source->model.tensors;
    *dtype = tensors[tensor_of(source, state, flat->params[0])].dtype;
    for (size_t i = 1; i < flat->n; i++)
        if (tensors[tensor_of(source, state, flat->params[i])].dtype != *dtype)
            return uz_fail(
                err, UZ_UNSUPPORTED, "%s and %s are in one parameter group, but of different types",
                source->params[flat->params[0]].name, source->params[flat->params[i]].name);
    return UZ_OK;
}

int uz_reshard_partition(struct uz_reshard_builder *b, const struct uz_flat_group *flat,
                         const struct uz_text *state, uint64_t numel, const struct uz_node **tensor,
                         struct uz_error *err)
{
    const struct uz_reshard_source *source = &b->job->source;
    struct uz_stored *stored = &b->job->stored;
    const struct uz_node *persid;
    struct uz_hp_fragment fragment;
    enum uz_dtype dtype;
    UZ_TRY(dtype_of(source, flat, state, &dtype, err));
    UZ_TRY(uz_graph_open_storage(&b->graph, dtype, dtype, flat->part_numel, &persid, err));
    for (size_t i = 0; i < flat->n; i++)
        if (uz_zero_fragment(&b->job->layout, flat, i, b->rank, &fragment))
            UZ_TRY(uz_stored_put(stored, fragment.hp.start,
                                 tensor_of(source, state, flat->params[i]), fragment.lp.start,
                                 fragment.lp.numel, err));
    UZ_TRY(uz_stored_close(stored, err));
    *tensor = uz_make_tensor(maker_of(b), persid, 0, 1, &numel);
    return UZ_OK;
}

/* ---- States ---- */

static int refuse_state(const struct uz_reshard_builder *b, const struct uz_node *key,
                        const char *what, struct uz_error *err)
{
    char name[128];
    uz_printable(name, sizeof name, key->u.text.data, key->u.text.nbytes);
    return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(b->job->source.optim), UZ_NO_OFFSET,
                      "the optimizer state %s %s", name, what);
}

/* Do all parameters of the flat group have the state as a tensor of their shape? */
static int is_sharded(const struct uz_reshard_builder *b, const struct uz_flat_group *flat,
                      const struct uz_node *key, bool *sharded, struct uz_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < flat->n; i++)
        n += tensor_of(&b->job->source, &key->u.text, flat->params[i]) != UZ_NONE;
    *sharded = n > 0;
    if (n > 0 && n < flat->n)
        return refuse_state(b, key, "is there for some parameters of a group, and not for others",
                            err);
    return UZ_OK;
}

/* What is kept as it is must be one value for the whole group, not one for each element. */
static int check_kept(const struct uz_reshard_builder *b, const struct uz_node *key,
                      const struct uz_node *value, struct uz_error *err)
{
    struct uz_view view;
    if (!uz_torch_is_tensor(value))
        return UZ_OK;
    UZ_TRY(uz_torch_tensor(b->job->source.optim, value, "an optimizer state", &view, err));
    if (view.ndim > 0 && view.numel != 1)
        return refuse_state(b, key,
                            "is neither one number nor a value for each element of the "
                            "parameters: how it is to be cut is unknown",
                            err);
    return UZ_OK;
}

/* {state: value} of a flat group. */
static int make_states(struct uz_reshard_builder *b, const struct uz_flat_group *flat,
                       const struct uz_dict *old, struct uz_node *states, struct uz_error *err)
{
    for (size_t i = 0; i < old->n; i++) {
        const struct uz_node *key = old->pairs[i].key, *value = old->pairs[i].value;
        bool sharded;
        if (key->kind != UZ_NODE_STR)
            return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(b->job->source.optim),
                              UZ_NO_OFFSET, "has an optimizer state without a name");
        UZ_TRY(is_sharded(b, flat, key, &sharded, err));
        if (sharded)
            UZ_TRY(uz_reshard_partition(b, flat, &key->u.text, flat->part_numel, &value, err));
        else
            UZ_TRY(check_kept(b, key, value, err));
        uz_make_put(maker_of(b), states, key, value);
    }
    return UZ_OK;
}

/* What a universal checkpoint has of a group beside that: states' files, the count of steps. */
static int make_universal_states(struct uz_reshard_builder *b, const struct uz_flat_group *flat,
                                 struct uz_node *states, struct uz_error *err)
{
    const struct uz_model *model = &b->job->source.model;
    const struct uz_scalar *step = &b->job->source.steps[flat->group];
    const struct uz_node *value, *persid = NULL;
    if (step->kind == UZ_NODE_OBJECT)
        UZ_TRY(uz_graph_bytes(&b->graph, step->dtype, 1, step->bytes, &persid, err));
    if (step->kind != UZ_NODE_NONE && !uz_node_get(states, "step"))
        uz_make_set(maker_of(b), states, "step", uz_scalar_make(maker_of(b), step, persid));
    for (size_t i = 1; i < model->n_states; i++) {
        const struct uz_node *key = uz_make_str(maker_of(b), model->states[i]);
        bool sharded;
        UZ_TRY(uz_maker_check(maker_of(b), err));
        UZ_TRY(is_sharded(b, flat, key, &sharded, err));
        if (!sharded || uz_node_get(states, model->states[i]))
            continue;
        UZ_TRY(uz_reshard_partition(b, flat, &key->u.text, flat->part_numel, &value, err));
        uz_make_put(maker_of(b), states, key, value);
    }
    return UZ_OK;
}

static int refuse_number(const struct uz_reshard_builder *b, const struct uz_node *key,
                         struct uz_error *err)
{
    return refuse_state(b, key,
                        "is not in this universal checkpoint, or for the first parameter group "
                        "only: reshard the ZeRO checkpoint that it was made from",
                        err);
}

/*
 * DeepSpeed's converter drops what is one number for a group. Which optimizers of PyTorch have such
 * ones is told by settings that only they have: NAdam, ASGD.
 */
static int check_known_numbers(const struct uz_reshard_builder *b, const struct uz_flat_group *flat,
                               const struct uz_node *states, struct uz_error *err)
{
    static const struct {
        const char *setting, *number;
    } known[] = {{"momentum_decay", "mu_product"}, {"lambd", "eta"}, {"lambd", "mu"}};
    const struct uz_seq *groups = uz_node_list(uz_node_get(b->job->source.base, "param_groups"));
    const struct uz_node *group = groups->items[flat->group];
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (states->u.dict.n > 0 && uz_node_get_small(group, known[i].setting) &&
            !uz_node_get(states, known[i].number)) {
            const struct uz_node key = {
                .kind = UZ_NODE_STR,
                .u.text = {known[i].number, strlen(known[i].number)},
            };
            return refuse_number(b, &key, err);
        }
    return UZ_OK;
}

/* Older versions of `unzero universal` kept such numbers for the first group alone. */
static int check_numbers(const struct uz_reshard_builder *b, const struct uz_flat_group *flat,
                         const struct uz_node *states, struct uz_error *err)
{
    const struct uz_reshard_source *source = &b->job->source;
    const struct uz_dict *first = uz_node_dict(uz_reshard_states_of(source, 0));
    for (size_t i = 0; first && flat->group > 0 && i < first->n; i++) {
        const struct uz_node *key = first->pairs[i].key;
        bool found = key->kind != UZ_NODE_STR || uz_node_is_str(key, "step");
        for (size_t j = 0; j < states->u.dict.n && !found; j++) {
            const struct uz_node *other = states->u.dict.pairs[j].key;
            found = other->u.text.nbytes == key->u.text.nbytes &&
                    !memcmp(other->u.text.data, key->u.text.data, key->u.text.nbytes);
        }
        if (!found)
            return refuse_number(b, key, err);
    }
    return check_known_numbers(b, flat, states, err);
}

/* States that the model has must all be in the shards, too. */
static int check_complete(const struct uz_reshard_builder *b, const struct uz_flat_group *flat,
                          const struct uz_node *states, struct uz_error *err)
{
    const struct uz_reshard_source *source = &b->job->source;
    for (size_t i = 1; i < source->model.n_states; i++) {
        const char *name = source->model.states[i];
        const struct uz_text text = {name, strlen(name)};
        if (tensor_of(source, &text, flat->params[0]) != UZ_NONE && !uz_node_get(states, name))
            return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(source->optim), UZ_NO_OFFSET,
                              "lacks the optimizer state %s, which other files have", name);
    }
    return UZ_OK;
}

static int make_all_states(struct uz_reshard_builder *b, struct uz_node *all, struct uz_error *err)
{
    const struct uz_zero_layout *layout = &b->job->layout;
    for (size_t f = 0; f < layout->n_flats; f++) {
        const struct uz_flat_group *flat = &layout->flats[f];
        const struct uz_dict *old =
            uz_node_dict(uz_reshard_states_of(&b->job->source, flat->group));
        struct uz_node *states = uz_make_dict(maker_of(b));
        UZ_TRY(uz_maker_check(maker_of(b), err));
        if (old)
            UZ_TRY(make_states(b, flat, old, states, err));
        if (b->job->source.info.is_universal)
            UZ_TRY(make_universal_states(b, flat, states, err));
        UZ_TRY(uz_maker_check(maker_of(b), err));
        UZ_TRY(check_complete(b, flat, states, err));
        if (b->job->source.info.is_universal)
            UZ_TRY(check_numbers(b, flat, states, err));
        if (states->u.dict.n > 0) /* else it is before the first step */
            uz_make_put(maker_of(b), all, uz_make_int(maker_of(b), (int64_t)f), states);
    }
    return UZ_OK;
}

/* ---- Parameter groups ---- */

/*
 * The numbers of the flat groups that an optimizer group has. Under stage 3 DeepSpeed 0.19.8 makes
 * an Adagrad of PyTorch with them in the group, and when it loads or saves it adds them
 * (runtime/zero/stage3.py, initialize_optimizer_states): so they stand there twice.
 */
static const struct uz_node *make_params(struct uz_reshard_builder *b, size_t group,
                                         const struct uz_node *old)
{
    const bool twice = b->job->layout.settings.stage == 3 &&
                       uz_node_get_small(old, "initial_accumulator_value") != NULL;
    struct uz_node *params = uz_make_list(maker_of(b));
    for (int times = 0; times < 1 + twice; times++)
        for (size_t f = 0; f < b->job->layout.n_flats; f++)
            if (b->job->layout.flats[f].group == group)
                uz_make_append(maker_of(b), params, uz_make_int(maker_of(b), (int64_t)f));
    return params;
}

/* The flat groups that an optimizer group had on each rank: sub-groups, or itself. */
static size_t n_old_flats(const struct uz_reshard_builder *b, const struct uz_node *group)
{
    return b->job->source.stage == 3 ? uz_reshard_n_sub_groups(group) : 1;
}

/*
 * Optimizers that count steps in the group raise the count once for each of its flat groups; Muon
 * works on whole matrices, whose momentum is not cut as other states are.
 */
static int check_group(const struct uz_reshard_builder *b, size_t g, const struct uz_node *group,
                       size_t n_flats, struct uz_error *err)
{
    const char *path = uz_torch_path(b->job->source.optim);
    int64_t muon;
    if (!uz_node_dict(group))
        return uz_fail_at(err, UZ_CORRUPT, path, UZ_NO_OFFSET,
                          "has a parameter group that is no dictionary");
    if (uz_node_get_small(group, "step") && n_flats != n_old_flats(b, group))
        return uz_fail_at(err, UZ_UNSUPPORTED, path, UZ_NO_OFFSET,
                          "parameter group %zu counts its steps once for each of its %zu parts on "
                          "a rank, of which there would be %zu: choose --stage and sub_group_size "
                          "so that there are as many",
                          g, n_old_flats(b, group), n_flats);
    if (uz_node_int(uz_node_get_small(group, "use_muon"), &muon) && muon)
        return uz_fail_at(err, UZ_UNSUPPORTED, path, UZ_NO_OFFSET,
                          "parameter group %zu is trained with Muon, whose states are not cut as "
                          "others are",
                          g);
    return UZ_OK;
}

static int make_param_groups(struct uz_reshard_builder *b, struct uz_node *groups,
                             struct uz_error *err)
{
    const struct uz_seq *old = uz_node_list(uz_node_get(b->job->source.base, "param_groups"));
    for (size_t g = 0; g < old->n; g++) {
        const struct uz_node *params = make_params(b, g, old->items[g]);
        UZ_TRY(uz_maker_check(maker_of(b), err));
        UZ_TRY(check_group(b, g, old->items[g], params->u.seq.n, err));
        struct uz_node *group = uz_make_copy(maker_of(b), old->items[g]);
        uz_make_set(maker_of(b), group, "params", params);
        uz_make_append(maker_of(b), groups, group);
    }
    return UZ_OK;
}

int uz_reshard_base(struct uz_reshard_builder *b, const struct uz_node **base, struct uz_error *err)
{
    struct uz_node *made = uz_make_dict(maker_of(b)), *states = uz_make_dict(maker_of(b));
    struct uz_node *groups = uz_make_list(maker_of(b));
    UZ_TRY(make_all_states(b, states, err));
    UZ_TRY(make_param_groups(b, groups, err));
    uz_make_set(maker_of(b), made, "state", states);
    uz_make_set(maker_of(b), made, "param_groups", groups);
    *base = made;
    return UZ_OK;
}
