/* SPDX-License-Identifier: Apache-2.0 */
/* Reads ds_autoep_layers (DeepSpeed: checkpoint/autoep_affine.py, runtime/engine.py). */
#include <string.h>

#include "zero/experts_impl.h"

/* What one layer records, and where. */
struct record {
    const struct uz_torch_file *file;
    const struct uz_node *entry;
    uint64_t number, n_experts, n_local, ep;
    char prefix[256]; /* for messages */
};

static int bad(const struct record *r, int status, struct uz_error *err, const char *message)
{
    return uz_fail_at(err, status, uz_torch_path(r->file), UZ_NO_OFFSET, "ds_autoep_layers: %s: %s",
                      r->prefix, message);
}

static int read_record(struct record *r, struct uz_error *err)
{
    const struct uz_node *prefix = uz_node_get_small(r->entry, "expert_key_prefix");
    if (!prefix || prefix->kind != UZ_NODE_STR || prefix->u.text.nbytes == 0)
        return bad(r, UZ_CORRUPT, err, "has no expert_key_prefix");
    uz_printable(r->prefix, sizeof r->prefix, prefix->u.text.data, prefix->u.text.nbytes);
    if (!uz_node_u64(uz_node_get_small(r->entry, "moe_layer_id"), &r->number) ||
        !uz_node_u64(uz_node_get_small(r->entry, "num_experts"), &r->n_experts) ||
        !uz_node_u64(uz_node_get_small(r->entry, "num_local_experts"), &r->n_local) ||
        !uz_node_u64(uz_node_get_small(r->entry, "ep_size"), &r->ep) || r->ep == 0 ||
        r->number > INT32_MAX || r->n_experts > INT32_MAX || r->ep > INT32_MAX)
        return bad(r, UZ_CORRUPT, err,
                   "has no proper moe_layer_id, num_experts, num_local_experts and ep_size");
    uint64_t product;
    if (!uz_mul_u64(r->n_local, r->ep, &product) || product != r->n_experts || r->n_local == 0)
        return bad(r, UZ_UNSUPPORTED, err,
                   "num_local_experts times ep_size is not num_experts: experts that are spread "
                   "unevenly, or held by several ranks, are not supported");
    return UZ_OK;
}

/* The experts of one rank, in the order of its stack; each may stand once. */
static int read_rank(const struct record *r, const struct uz_node *node, uint32_t *ids, bool *seen,
                     bool *seen_rank, struct uz_error *err)
{
    uint64_t rank, id;
    const struct uz_seq *list = uz_node_list(uz_node_get_small(node, "experts"));
    if (!uz_node_u64(uz_node_get_small(node, "rank"), &rank) || rank >= r->ep || seen_rank[rank] ||
        !list)
        return bad(r, UZ_CORRUPT, err, "expert_placement has no proper list of ranks");
    if (list->n != r->n_local)
        return bad(r, UZ_UNSUPPORTED, err,
                   "experts that are spread unevenly over the ranks are not supported");
    seen_rank[rank] = true;
    for (size_t i = 0; i < list->n; i++) {
        if (!uz_node_u64(list->items[i], &id) || id >= r->n_experts)
            return bad(r, UZ_CORRUPT, err, "expert_placement names an expert that is not there");
        if (seen[id])
            return bad(r, UZ_UNSUPPORTED, err,
                       "an expert that is held twice (expert_placement) is not supported");
        seen[id] = true;
        ids[rank * r->n_local + i] = (uint32_t)id;
    }
    return UZ_OK;
}

/* Without a descriptor the experts follow one another. */
static int read_placement(const struct record *r, struct uz_arena *arena, uint32_t *ids,
                          struct uz_error *err)
{
    const struct uz_node *placement = uz_node_get_small(r->entry, "expert_placement");
    bool *seen, *seen_rank;
    uint64_t version;
    for (uint64_t i = 0; i < r->n_experts; i++)
        ids[i] = (uint32_t)i;
    if (!placement || uz_node_is_none(placement))
        return UZ_OK;
    const struct uz_seq *ranks = uz_node_list(uz_node_get_small(placement, "ranks"));
    if (!uz_node_u64(uz_node_get_small(placement, "version"), &version) || version != 1)
        return bad(r, UZ_UNSUPPORTED, err, "expert_placement is of an unknown version");
    if (!ranks || ranks->n != r->ep)
        return bad(r, UZ_CORRUPT, err, "expert_placement does not list ep_size ranks");
    UZ_TRY(uz_arena_alloc(arena, r->n_experts, sizeof *seen, &seen, err));
    UZ_TRY(uz_arena_alloc(arena, r->ep, sizeof *seen_rank, &seen_rank, err));
    memset(seen, 0, r->n_experts * sizeof *seen);
    memset(seen_rank, 0, r->ep * sizeof *seen_rank);
    for (size_t i = 0; i < ranks->n; i++)
        UZ_TRY(read_rank(r, ranks->items[i], ids, seen, seen_rank, err));
    return UZ_OK;
}

static int add_layer(struct uz_experts *experts, const struct record *r, struct uz_error *err)
{
    struct uz_expert_layer *layer;
    const struct uz_text *prefix = &uz_node_get_small(r->entry, "expert_key_prefix")->u.text;
    char *text;
    uint32_t *ids;
    for (size_t i = 0; i < experts->n_layers; i++)
        if (experts->layers[i].number == r->number)
            return bad(r, UZ_CORRUPT, err, "has the moe_layer_id of another layer");
    UZ_TRY(uz_arena_alloc(experts->arena, r->n_experts, sizeof *ids, &ids, err));
    UZ_TRY(read_placement(r, experts->arena, ids, err));
    UZ_TRY(uz_arena_alloc(experts->arena, prefix->nbytes + 2, 1, &text, err));
    memcpy(text, prefix->data, prefix->nbytes);
    memcpy(text + prefix->nbytes, ".", 2);
    UZ_TRY(UZ_APPEND(experts->layers, experts->n_layers, experts->cap_layers, &layer, err));
    *layer = (struct uz_expert_layer){
        .prefix = text,
        .prefix_nbytes = prefix->nbytes + 1,
        .number = (uint32_t)r->number,
        .n_experts = (uint32_t)r->n_experts,
        .fused = true,
        .ep = (uint32_t)r->ep,
        .n_local = (uint32_t)r->n_local,
        .ids = ids,
    };
    return UZ_OK;
}

int uz_experts_read_autoep(struct uz_experts *experts, const struct uz_experts_request *request,
                           struct uz_error *err)
{
    const struct uz_node *root = uz_torch_root(request->file);
    const struct uz_node *layers = uz_node_get(root, "ds_autoep_layers");
    if (!layers || uz_node_is_none(layers))
        layers = uz_node_get(root, "autoep_layers");
    if (!layers || uz_node_is_none(layers))
        return UZ_OK;
    const struct uz_seq *list = uz_node_list(layers);
    if (!list)
        return uz_fail_at(err, UZ_CORRUPT, uz_torch_path(request->file), UZ_NO_OFFSET,
                          "'ds_autoep_layers' is no list");
    if (uz_node_get(root, "folding"))
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(request->file), UZ_NO_OFFSET,
                          "AutoEP folded with tensor parallelism is not supported");
    for (size_t i = 0; i < list->n; i++) {
        struct record r = {.file = request->file, .entry = list->items[i], .prefix = "a layer"};
        UZ_TRY(read_record(&r, err));
        UZ_TRY(add_layer(experts, &r, err));
    }
    return UZ_OK;
}
