/* SPDX-License-Identifier: Apache-2.0 */
/* Model states for the new world: what depends on stage or ranks made anew, all else as it was. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "convert/reshard_impl.h"
#include "layout/split.h"

/* What a tensor of the model is in the new file. */
struct entry {
    const struct uz_node *persid; /* its new storage; NULL: none yet */
    const struct uz_node *value;  /* in the module, under its own name; NULL: not there */
};

/* One file in the making. */
struct states {
    struct uz_reshard_builder b;
    const struct uz_node *old; /* the root of the file that it is made after */
    struct entry *entries;     /* of each of the model's tensors */
    const struct uz_node *module;
};

static struct uz_maker *maker_of(struct states *s)
{
    return &s->b.graph.maker;
}

static const struct uz_reshard_source *source_of(const struct states *s)
{
    return &s->b.job->source;
}

static bool to_stage3(const struct states *s)
{
    return s->b.job->layout.settings.stage == 3;
}

/* ---- The module ---- */

/* A parameter, trained or frozen, that a key of the module names; NULL: another value. */
static const struct uz_tensor *param_of(const struct states *s, const struct uz_node *key,
                                        uint32_t *tensor)
{
    const struct uz_reshard_source *source = source_of(s);
    uint64_t alias;
    if (key->kind != UZ_NODE_STR)
        return NULL;
    if (uz_map_get(source->aliases, key->u.text.data, key->u.text.nbytes, &alias))
        *tensor = source->model.aliases[alias].tensor;
    else if (!uz_model_find(&source->model, key->u.text.data, key->u.text.nbytes, tensor))
        return NULL;
    const struct uz_tensor *t = &source->model.tensors[*tensor];
    return t->role == UZ_ROLE_BUFFER ? NULL : t;
}

/* The dtype of the value that the old module has under a key. */
static int old_dtype(const struct states *s, const struct uz_node *value, const char *name,
                     enum uz_dtype *dtype, struct uz_error *err)
{
    struct uz_view view;
    UZ_TRY(uz_torch_tensor(s->b.graph.source, value, name, &view, err));
    *dtype = view.dtype;
    return UZ_OK;
}

/* Under stage 3 the module has an empty tensor for each parameter. */
static int make_placeholder(struct states *s, enum uz_dtype dtype, const struct uz_node **made,
                            struct uz_error *err)
{
    const struct uz_node *persid;
    const uint64_t shape = 0;
    UZ_TRY(uz_graph_open_storage(&s->b.graph, dtype, dtype, 0, &persid, err));
    *made = uz_make_tensor(maker_of(s), persid, 0, 1, &shape);
    return UZ_OK;
}

/* The whole parameter in the module's precision; tied ones share a storage. */
static int make_whole(struct states *s, uint32_t tensor, enum uz_dtype dtype,
                      const struct uz_node **made, struct uz_error *err)
{
    const struct uz_tensor *t = &source_of(s)->model.tensors[tensor];
    struct uz_stored *stored = &s->b.job->stored;
    if (t->dtype != dtype && !(uz_dtype_is_castable(t->dtype) && uz_dtype_is_castable(dtype)))
        return uz_fail(err, UZ_UNSUPPORTED, "%s is of type %s, which does not become %s", t->name,
                       uz_dtype_name(t->dtype), uz_dtype_name(dtype));
    if (!s->entries[tensor].persid) {
        UZ_TRY(uz_graph_open_storage(&s->b.graph, t->dtype, dtype, t->numel,
                                     &s->entries[tensor].persid, err));
        if (t->numel) {
            UZ_TRY(uz_stored_put(stored, 0, tensor, 0, t->numel, err));
            UZ_TRY(uz_stored_close(stored, err));
        }
    }
    *made = uz_make_tensor(maker_of(s), s->entries[tensor].persid, 0, t->ndim, t->shape);
    return UZ_OK;
}

/* The value under a key of the new module; the old one, unless it is of another kind of stage. */
static int make_entry(struct states *s, const struct uz_pair *pair, const struct uz_node **made,
                      struct uz_error *err)
{
    uint32_t tensor;
    enum uz_dtype dtype;
    const struct uz_tensor *t = param_of(s, pair->key, &tensor);
    *made = pair->value;
    if (!t || !uz_torch_is_tensor(pair->value))
        return UZ_OK;
    if (to_stage3(s) != (source_of(s)->stage == 3)) {
        UZ_TRY(old_dtype(s, pair->value, t->name, &dtype, err));
        UZ_TRY(to_stage3(s) ? make_placeholder(s, dtype, made, err)
                            : make_whole(s, tensor, dtype, made, err));
    }
    if (uz_node_is_str(pair->key, t->name))
        s->entries[tensor].value = *made;
    return UZ_OK;
}

static int make_module(struct states *s, struct uz_error *err)
{
    const struct uz_node *old = uz_node_get(s->old, "module");
    const struct uz_dict *pairs = uz_node_dict(old);
    if (!pairs)
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(s->b.graph.source), UZ_NO_OFFSET,
                          "has no dictionary 'module'");
    struct uz_node *module = uz_make_copy(maker_of(s), old);
    UZ_TRY(uz_maker_check(maker_of(s), err));
    struct uz_dict *dict = module->kind == UZ_NODE_DICT ? &module->u.dict : &module->u.object->dict;
    for (size_t i = 0; i < dict->n; i++)
        UZ_TRY(make_entry(s, &pairs->pairs[i], &dict->pairs[i].value, err));
    s->module = module;
    return UZ_OK;
}

/* ---- Shapes ---- */

static const struct uz_node *make_param_shapes(struct states *s)
{
    const struct uz_zero_layout *layout = &s->b.job->layout;
    struct uz_maker *maker = maker_of(s);
    struct uz_node *list = uz_make_list(maker);
    for (size_t f = 0; f < layout->n_flats; f++) {
        const struct uz_flat_group *flat = &layout->flats[f];
        struct uz_node *shapes = uz_make_ordered_dict(maker);
        for (size_t i = 0; i < flat->n; i++) {
            const struct uz_zero_param *param = &layout->params[flat->params[i]];
            uz_make_put(maker, shapes, uz_make_str(maker, param->name),
                        uz_make_size(maker, param->ndim, param->shape));
        }
        uz_make_append(maker, list, shapes);
    }
    return list;
}

/* ---- Frozen parameters ---- */

/* What the optimizer does not own: frozen parameters, and those without elements. */
static bool is_frozen(const struct uz_tensor *t)
{
    return t->role == UZ_ROLE_FROZEN || (t->role == UZ_ROLE_PARAM && t->numel == 0);
}

/* A rank's slice of a frozen parameter under stage 3, padded as all are. */
static int make_slice(struct states *s, uint32_t tensor, const struct uz_node **made,
                      struct uz_error *err)
{
    const struct uz_tensor *t = &source_of(s)->model.tensors[tensor];
    uint64_t world = s->b.job->layout.settings.world, start, n_real;
    uint64_t numel = uz_ceil_div(t->numel, world);
    const struct uz_node *persid;
    uz_ceil_split(t->numel, world, s->b.rank, &start, &n_real);
    UZ_TRY(uz_graph_open_storage(&s->b.graph, t->dtype, t->dtype, numel, &persid, err));
    if (numel) {
        UZ_TRY(uz_stored_put(&s->b.job->stored, 0, tensor, start, n_real, err));
        UZ_TRY(uz_stored_close(&s->b.job->stored, err));
    }
    *made = uz_make_tensor(maker_of(s), persid, 0, 1, &numel);
    return UZ_OK;
}

/* Of stages 1 and 2 the whole parameter, which is the module's own. */
static int find_fragment(struct states *s, uint32_t tensor, const struct uz_node **made,
                         struct uz_error *err)
{
    const struct uz_tensor *t = &source_of(s)->model.tensors[tensor];
    if (to_stage3(s))
        return make_slice(s, tensor, made, err);
    *made = s->entries[tensor].value;
    if (!*made)
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(s->b.graph.source), UZ_NO_OFFSET,
                          "the frozen parameter %s is not in 'module'", t->name);
    return UZ_OK;
}

struct frozen {
    struct uz_node *shapes, *fragments;
    size_t n;
};

static int make_frozen(struct states *s, struct frozen *frozen, struct uz_error *err)
{
    const struct uz_model *model = &source_of(s)->model;
    struct uz_maker *maker = maker_of(s);
    *frozen = (struct frozen){uz_make_ordered_dict(maker), uz_make_ordered_dict(maker), 0};
    for (size_t i = 0; i < model->n_tensors; i++) {
        const struct uz_tensor *t = &model->tensors[i];
        const struct uz_node *fragment = NULL;
        if (!is_frozen(t))
            continue;
        UZ_TRY(find_fragment(s, (uint32_t)i, &fragment, err));
        uz_make_put(maker, frozen->shapes, uz_make_str(maker, t->name),
                    uz_make_size(maker, t->ndim, t->shape));
        uz_make_put(maker, frozen->fragments, uz_make_str(maker, t->name), fragment);
        frozen->n++;
    }
    return UZ_OK;
}

/*
 * Stage 1 keeps none of it. Where the source kept none, its frozen parameters are in the module, or
 * were left out when it was saved; then they are left out again.
 */
static int put_frozen(struct states *s, struct uz_node *root, struct uz_error *err)
{
    const int stage = s->b.job->layout.settings.stage;
    const struct uz_node *none = uz_make_none(maker_of(s));
    const bool kept = uz_node_dict(uz_node_get(s->old, "frozen_param_fragments")) != NULL;
    const bool as_it_was = stage == 2 && source_of(s)->stage == 2;
    struct frozen frozen;
    if (stage > 1 && (as_it_was || (!kept && source_of(s)->stage > 1)))
        return UZ_OK;
    if (stage > 1)
        UZ_TRY(make_frozen(s, &frozen, err));
    const bool has = stage > 1 && (kept || frozen.n > 0);
    uz_make_set(maker_of(s), root, "frozen_param_shapes", has ? frozen.shapes : none);
    uz_make_set(maker_of(s), root, "frozen_param_fragments", has ? frozen.fragments : none);
    return UZ_OK;
}

/* ---- The file ---- */

static int fill_root(struct states *s, struct uz_node *root, struct uz_error *err)
{
    struct uz_maker *maker = maker_of(s);
    UZ_TRY(make_module(s, err));
    uz_make_set(maker, root, "module", s->module);
    uz_make_set(maker, root, "param_shapes", make_param_shapes(s));
    UZ_TRY(put_frozen(s, root, err));
    if (s->b.rank > 0) /* only the first rank knows of ties */
        uz_make_set(maker, root, "shared_params", uz_make_dict(maker));
    uz_make_set(maker, root, "dp_world_size",
                uz_make_int(maker, (int64_t)s->b.job->layout.settings.world));
    if (s->b.job->target.config)
        uz_make_set(maker, root, "ds_config", s->b.job->target.config);
    return UZ_OK;
}

static int build(struct states *s, struct uz_error *err)
{
    const struct uz_model *model = &source_of(s)->model;
    s->old = uz_torch_root(s->b.graph.source);
    UZ_TRY(uz_alloc(&s->entries, model->n_tensors, sizeof *s->entries, err));
    struct uz_node *root = uz_make_copy(maker_of(s), s->old);
    UZ_TRY(uz_maker_check(maker_of(s), err));
    UZ_TRY(fill_root(s, root, err));
    return uz_graph_finish(&s->b.graph, root, &s->b.job->out, err);
}

/* The file that a rank's is made after: its own, if the old world had one; else that of rank 0. */
static int open_template(struct uz_resharding *job, uint64_t rank, struct uz_torch_file **own,
                         struct uz_error *err)
{
    const struct uz_topology *topology = &job->source.topology;
    size_t n;
    const struct uz_shard_file *shards = uz_topology_shards_of(topology, UZ_SHARD_MODEL_Z3, 0, &n);
    *own = NULL;
    if (job->layout.settings.stage != 3 || rank == 0 || rank >= n)
        return UZ_OK;
    char *path = uz_shard_path(topology, &shards[rank]);
    int rc =
        path ? uz_torch_open(own, path, &job->options.input.limits, err) : uz_fail_nomem(err, 0);
    free(path);
    return rc;
}

static char *name_file(const struct uz_resharding *job, uint64_t rank)
{
    char *name;
    int n = job->layout.settings.stage == 3
                ? asprintf(&name, "%s/zero_pp_rank_%" PRIu64 "_mp_rank_00_model_states.pt",
                           job->tag, rank)
                : asprintf(&name, "%s/mp_rank_00_model_states.pt", job->tag);
    return n < 0 ? NULL : name;
}

int uz_reshard_add_states(struct uz_resharding *job, uint64_t rank, struct uz_error *err)
{
    struct states s = {.b = {.job = job, .rank = rank}};
    struct uz_torch_file *own;
    char *name = name_file(job, rank);
    if (!name)
        return uz_fail_nomem(err, 0);
    int rc = open_template(job, rank, &own, err);
    if (rc == UZ_OK)
        rc = uz_graph_start(&s.b.graph, name, &job->stored, own ? own : job->source.states,
                            &job->options.input.limits, err);
    if (rc == UZ_OK)
        rc = build(&s, err);
    uz_graph_free(&s.b.graph);
    uz_torch_close(own);
    free(s.entries);
    free(name);
    return rc;
}
