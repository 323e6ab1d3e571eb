/* SPDX-License-Identifier: Apache-2.0 */
/* What may have its master in which file, by the module's order and the ranks of experts. */
#include <stdlib.h>
#include <string.h>

#include "zero/stage0.h"

enum { MAX_SIZES = 16 };

/* Sizes of the expert-parallel groups that the optimizer's parameter groups are of. */
struct sizes {
    uint32_t n;
    uint64_t size[MAX_SIZES];
};

/* ---- Which experts a rank holds ---- */

/* DeepSpeed names the groups of experts ep_size_N. */
static bool group_size(const struct uz_node *group, uint64_t *size)
{
    static const char prefix[] = "ep_size_";
    const struct uz_node *name = uz_node_get_small(group, "name");
    size_t n = sizeof prefix - 1;
    if (!name || name->kind != UZ_NODE_STR || name->u.text.nbytes <= n ||
        name->u.text.nbytes > n + 9 || memcmp(name->u.text.data, prefix, n) != 0)
        return false;
    *size = 0;
    for (size_t i = n; i < name->u.text.nbytes; i++) {
        char c = name->u.text.data[i];
        if (c < '0' || c > '9')
            return false;
        *size = *size * 10 + (uint64_t)(c - '0');
    }
    return *size > 0;
}

static void add_size(struct sizes *sizes, uint64_t size)
{
    for (uint32_t i = 0; i < sizes->n; i++)
        if (sizes->size[i] == size)
            return;
    if (sizes->n < MAX_SIZES)
        sizes->size[sizes->n++] = size;
}

static uint64_t largest(const struct sizes *sizes)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < sizes->n; i++)
        most = sizes->size[i] > most ? sizes->size[i] : most;
    return most;
}

/*
 * There is one expp_rank file for each rank of the largest group: so the sizes tell whether all
 * files are there, and without them nothing does.
 */
static int find_sizes(const struct uz_stage0 *s, const struct uz_stage0_source *source,
                      struct sizes *sizes, struct uz_error *err)
{
    const char *path = uz_torch_path(source->file);
    const struct uz_seq *groups =
        uz_node_list(uz_node_get(source->masters.optimizer, "param_groups"));
    *sizes = (struct sizes){0};
    if (source->masters.n_groups == 0)
        return UZ_OK; /* no optimizer: nothing has a master */
    for (size_t i = 0; i < s->reading->experts.n_layers; i++)
        if (s->reading->experts.layers[i].fused)
            add_size(sizes, s->reading->experts.layers[i].ep);
    for (size_t g = 0; groups && g < groups->n; g++) {
        uint64_t size;
        if (group_size(groups->items[g], &size))
            add_size(sizes, size);
    }
    if (sizes->n == 0)
        return uz_fail_at(err, UZ_UNSUPPORTED, path, UZ_NO_OFFSET,
                          "no parameter group of the optimizer is called ep_size_N, as DeepSpeed "
                          "calls those of experts: which rank holds which experts cannot be told; "
                          "--source lp exports the low-precision weights");
    if (largest(sizes) != s->n_ranks)
        return uz_fail_at(err, UZ_MISMATCH, s->reading->topology->dir, UZ_NO_OFFSET,
                          "Expected %llu of 'expp_rank_*_optim_states.pt' under %s but found %u",
                          (unsigned long long)largest(sizes), s->reading->topology->dir,
                          s->n_ranks);
    return UZ_OK;
}

/*
 * The rank in a group of `size` that the source's rank has. The files are written by the first
 * ranks of the largest group (DeepSpeed: utils/groups.py): ranks e, e + N, ... are expert-parallel
 * rank e, or with the data first each N-th part of them.
 */
static uint64_t rank_in(const struct uz_stage0 *s, const struct uz_stage0_source *source,
                        uint64_t size)
{
    if (s->reading->experts.data_first)
        return source->rank * size / s->n_ranks;
    return source->rank % size;
}

/* True if the rank holds the expert in a group of any of the sizes. */
static bool holds(const struct uz_stage0 *s, const struct uz_stage0_source *source,
                  const struct sizes *sizes, const struct uz_expert_name *name)
{
    for (uint32_t i = 0; i < sizes->n; i++) {
        uint64_t size = sizes->size[i], n_experts = name->layer->n_experts;
        if (n_experts % size == 0 && name->expert / (n_experts / size) == rank_in(s, source, size))
            return true;
    }
    return false;
}

/* ---- Candidates ---- */

/* The part of a stack that a rank holds: the experts of its shape's first dimension. */
static int set_stack(const struct uz_stage0 *s, const struct uz_stage0_source *source,
                     const struct uz_expert_layer *layer, struct uz_candidate *c,
                     struct uz_error *err)
{
    const struct uz_tensor *tensor = &s->reading->model->tensors[c->tensor];
    uint64_t *shape, rank = rank_in(s, source, layer->ep);
    UZ_TRY(uz_arena_alloc(s->reading->model->arena, tensor->ndim, sizeof *shape, &shape, err));
    memcpy(shape, tensor->shape, tensor->ndim * sizeof *shape);
    shape[0] = layer->n_local; /* uz_experts_add made the tensor of n_experts copies */
    c->shape = shape;
    c->numel = tensor->numel / layer->n_experts * layer->n_local;
    c->experts = &layer->ids[rank * layer->n_local];
    c->n_experts = layer->n_local;
    return UZ_OK;
}

/* True if AutoEP put the parameter into the module: a router, beside a layer's stacks. */
static bool is_router(const struct uz_experts *experts, const char *name)
{
    static const char stacks[] = "experts.", router[] = "router.";
    for (size_t i = 0; i < experts->n_layers; i++) {
        const struct uz_expert_layer *layer = &experts->layers[i];
        size_t n = layer->prefix_nbytes - (sizeof stacks - 1);
        if (layer->fused && layer->prefix_nbytes >= sizeof stacks - 1 &&
            !strcmp(layer->prefix + n, stacks) && !strncmp(name, layer->prefix, n) &&
            !strncmp(name + n, router, sizeof router - 1))
            return true;
    }
    return false;
}

/* False if the tensor cannot have a master in the source. */
static int make_candidate(const struct uz_stage0 *s, const struct uz_stage0_source *source,
                          const struct sizes *sizes, uint32_t index, struct uz_candidate *c,
                          bool *is_one, struct uz_error *err)
{
    const struct uz_tensor *tensor = &s->reading->model->tensors[index];
    bool counts = tensor->numel > 0 || source->masters.form == UZ_MASTERS_NONE;
    struct uz_expert_name name;
    *is_one = tensor->lp != UZ_NONE && counts;
    *c = (struct uz_candidate){
        .tensor = index,
        .dtype = tensor->lp_dtype,
        .ndim = tensor->ndim,
        .shape = tensor->shape,
        .numel = tensor->numel,
        .is_late = is_router(&s->reading->experts, tensor->name),
    };
    if (!*is_one || s->n_ranks == 0 ||
        !uz_expert_find(&s->reading->experts, tensor->name, strlen(tensor->name), &name))
        return UZ_OK;
    if (name.layer->fused)
        return set_stack(s, source, name.layer, c, err);
    *is_one = holds(s, source, sizes, &name);
    return UZ_OK;
}

/* ---- Samples of the low-precision copies ---- */

/* The file that the copies are in, kept open from one to the next. */
struct sampler {
    const struct uz_stage0 *stage0;
    struct uz_torch_file *file;
    uint32_t file_index;
};

static int open_for(struct sampler *sampler, uint32_t file, struct uz_torch_file **out,
                    struct uz_error *err)
{
    const struct uz_reading *r = sampler->stage0->reading;
    *out = sampler->stage0->model_states;
    if (file == sampler->stage0->model_states_index)
        return UZ_OK;
    if (!sampler->file || sampler->file_index != file) {
        uz_torch_close(sampler->file);
        sampler->file = NULL;
        UZ_TRY(
            uz_torch_open(&sampler->file, r->model->files[file], &r->options->input.limits, err));
        sampler->file_index = file;
    }
    *out = sampler->file;
    return UZ_OK;
}

/* The piece of the copy that the candidate's first element is in; a stack has one an expert. */
static const struct uz_piece *first_piece(const struct uz_model *model,
                                          const struct uz_candidate *c)
{
    const struct uz_tensor *tensor = &model->tensors[c->tensor];
    const struct uz_piece *pieces = &model->lp_pieces[tensor->lp];
    uint64_t first = c->n_experts ? c->experts[0] * (c->numel / c->n_experts) : 0;
    for (uint32_t i = 0; i < tensor->n_lp; i++)
        if (pieces[i].lo == first)
            return &pieces[i];
    return NULL;
}

static int sample_copy(struct sampler *sampler, struct uz_candidate *c, struct uz_error *err)
{
    const struct uz_model *model = sampler->stage0->reading->model;
    const struct uz_piece *piece = first_piece(model, c);
    struct uz_torch_file *file;
    if (!piece || piece->n_elems == 0)
        return UZ_OK;
    const struct uz_place *place = &model->places[piece->storage];
    struct uz_view view = {
        .dtype = c->dtype,
        .first = piece->src,
        .contiguous = !piece->map,
        .storage =
            {
                .key = place->entry,
                .offset = place->offset,
                .nbytes = place->nbytes,
                .entry = place->entry,
                .packing = place->packing,
                .big_endian = place->big_endian,
            },
    };
    if (piece->map) {
        view.ndim = piece->map->ndim;
        memcpy(view.shape, piece->map->shape, view.ndim * sizeof *view.shape);
        memcpy(view.stride, piece->map->src_stride, view.ndim * sizeof *view.stride);
    }
    c->copy.n_elems = piece->n_elems < UZ_SAMPLE_ELEMS ? (uint32_t)piece->n_elems : UZ_SAMPLE_ELEMS;
    UZ_TRY(open_for(sampler, place->file, &file, err));
    return uz_sample_read(file, &view, 0, c->copy.n_elems, c->copy.bytes, err);
}

static int sample_copies(const struct uz_stage0 *s, struct uz_stage0_source *source,
                         struct uz_error *err)
{
    struct sampler sampler = {.stage0 = s};
    int rc = UZ_OK;
    for (size_t c = 0; rc == UZ_OK && c < source->n; c++)
        rc = sample_copy(&sampler, &source->candidates[c], err);
    uz_torch_close(sampler.file);
    return rc;
}

/* ---- All of them ---- */

int uz_stage0_list_candidates(const struct uz_stage0 *s, struct uz_stage0_source *source,
                              struct uz_error *err)
{
    const struct uz_model *model = s->reading->model;
    struct sizes sizes = {0};
    if (s->n_ranks > 0)
        UZ_TRY(find_sizes(s, source, &sizes, err));
    UZ_TRY(uz_alloc(&source->candidates, model->n_tensors, sizeof *source->candidates, err));
    UZ_TRY(uz_alloc(&source->weights, model->n_tensors, sizeof *source->weights, err));
    UZ_TRY(uz_alloc(&source->group_of, model->n_tensors, sizeof *source->group_of, err));
    UZ_TRY(uz_alloc(&source->place_of, model->n_tensors, sizeof *source->place_of, err));
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        struct uz_candidate *c = &source->candidates[source->n];
        bool is_one;
        UZ_TRY(make_candidate(s, source, &sizes, i, c, &is_one, err));
        if (!is_one)
            continue;
        source->weights[source->n++] = source->masters.form == UZ_MASTERS_FLAT ? c->numel : 1;
    }
    return source->masters.form == UZ_MASTERS_NONE ? UZ_OK : sample_copies(s, source, err);
}
