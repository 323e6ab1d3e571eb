/* SPDX-License-Identifier: Apache-2.0 */
/* Pickle, storages and archive of one file. */
#include "out/torch_graph.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "out/saved.h"
#include "torch/node_write.h"

enum { KEY_NBYTES = 24 };

int uz_graph_start(struct uz_graph *graph, const char *name, struct uz_stored *stored,
                   struct uz_torch_file *source, const struct uz_limits *limits,
                   struct uz_error *err)
{
    *graph = (struct uz_graph){
        .name = name,
        .stored = stored,
        .source = source,
        .limits = limits,
        .source_file = UZ_NONE,
    };
    UZ_TRY(uz_maker_init(&graph->maker, limits, err));
    graph->copied = uz_map_new();
    return graph->copied ? UZ_OK : uz_fail_nomem(err, sizeof *graph);
}

void uz_graph_free(struct uz_graph *graph)
{
    uz_maker_free(&graph->maker);
    uz_map_free(graph->copied);
    free(graph->storages);
    *graph = (struct uz_graph){0};
}

static int add_storage(struct uz_graph *graph, enum uz_dtype dtype, uint64_t numel,
                       struct uz_graph_storage **storage, struct uz_error *err)
{
    UZ_TRY(UZ_APPEND(graph->storages, graph->n_storages, graph->cap_storages, storage, err));
    **storage = (struct uz_graph_storage){.dtype = dtype, .numel = numel};
    return UZ_OK;
}

/* What a storage is called in messages: the file and the entry it gets. */
static void name_storage(const struct uz_graph *graph, char *name, size_t size)
{
    (void)snprintf(name, size, "%s: data/%zu", graph->name, graph->n_storages - 1);
}

static int fail_class(enum uz_dtype dtype, struct uz_error *err)
{
    return uz_fail(err, UZ_UNSUPPORTED, "PyTorch has no storage class for elements of type %s",
                   uz_dtype_name(dtype));
}

int uz_graph_open_storage(struct uz_graph *graph, enum uz_dtype from, enum uz_dtype to,
                          uint64_t numel, const struct uz_node **persid, struct uz_error *err)
{
    struct uz_graph_storage *storage;
    char name[512];
    *persid = uz_make_storage(&graph->maker, to, graph->n_storages, numel);
    if (!*persid)
        return fail_class(to, err);
    UZ_TRY(add_storage(graph, to, numel, &storage, err));
    name_storage(graph, name, sizeof name);
    if (numel == 0)
        return UZ_OK;
    return uz_stored_open(graph->stored, name, from, numel, &storage->tensor, err);
}

int uz_graph_bytes(struct uz_graph *graph, enum uz_dtype dtype, uint64_t numel, const void *bytes,
                   const struct uz_node **persid, struct uz_error *err)
{
    struct uz_graph_storage *storage;
    *persid = uz_make_storage(&graph->maker, dtype, graph->n_storages, numel);
    if (!*persid)
        return fail_class(dtype, err);
    UZ_TRY(add_storage(graph, dtype, numel, &storage, err));
    storage->bytes = bytes;
    return UZ_OK;
}

/* ---- Storages of the source ---- */

/* The elements that are swapped if the source is big-endian, or copied as they are. */
static int copy_dtype(const struct uz_storage_ref *ref, enum uz_dtype *dtype, struct uz_error *err)
{
    *dtype = ref->dtype;
    if (ref->dtype == UZ_DTYPE_INVALID)
        *dtype = UZ_DTYPE_U8;
    if (ref->dtype == UZ_DTYPE_INVALID && ref->storage.big_endian && ref->nbytes > 0)
        return uz_fail(err, UZ_UNSUPPORTED,
                       "a value holds a tensor from a big-endian machine whose elements are no "
                       "plain numbers");
    return UZ_OK;
}

static int copy_storage(struct uz_graph *graph, const struct uz_storage_ref *ref, uint64_t *number,
                        struct uz_error *err)
{
    const struct uz_place place = {
        .file = graph->source_file,
        .packing = ref->storage.packing,
        .big_endian = ref->storage.big_endian,
        .offset = ref->storage.offset,
        .nbytes = ref->storage.nbytes,
        .entry = ref->storage.entry,
        .stream_nbytes = ref->storage.stream_nbytes,
    };
    struct uz_graph_storage *storage;
    enum uz_dtype dtype;
    char name[512], text[KEY_NBYTES];
    UZ_TRY(copy_dtype(ref, &dtype, err));
    *number = graph->n_storages;
    UZ_TRY(add_storage(graph, dtype, ref->nbytes / uz_dtype_size(dtype), &storage, err));
    (void)snprintf(text, sizeof text, "%" PRIu64, *number);
    storage->key = uz_make_str(&graph->maker, text);
    name_storage(graph, name, sizeof name);
    if (storage->numel == 0)
        return UZ_OK;
    return uz_stored_whole(graph->stored, name, dtype, storage->numel, &place, &storage->tensor,
                           err);
}

/* The number in this file of a source storage, which is brought along when it is first named. */
static int number_of(struct uz_graph *graph, const struct uz_storage_ref *ref, uint64_t *number,
                     struct uz_error *err)
{
    const char *key;
    if (uz_map_get(graph->copied, (const char *)&ref->storage.key, sizeof ref->storage.key, number))
        return UZ_OK;
    if (graph->source_file == UZ_NONE)
        UZ_TRY(uz_model_add_file(&graph->stored->model, uz_torch_path(graph->source),
                                 &graph->source_file, err));
    UZ_TRY(copy_storage(graph, ref, number, err));
    UZ_TRY(uz_arena_strndup(graph->maker.arena, (const char *)&ref->storage.key,
                            sizeof ref->storage.key, &key, err));
    return uz_map_add(graph->copied, key, sizeof ref->storage.key, *number, NULL, err);
}

/* The persistent id of a source's storage with its new number, and nothing else changed. */
static int replace_storage(struct uz_graph *graph, const struct uz_node *node,
                           const struct uz_node **made, struct uz_error *err)
{
    struct uz_storage_ref ref;
    uint64_t number;
    UZ_TRY(uz_torch_storage(graph->source, node, "a tensor among the values", &ref, err));
    if (ref.first != 0 || ref.nbytes != ref.storage.nbytes)
        return uz_fail(err, UZ_UNSUPPORTED,
                       "a value holds a view of a storage, as PyTorch wrote "
                       "them before 0.4");
    UZ_TRY(number_of(graph, &ref, &number, err));
    const struct uz_seq *old = uz_node_list(node->u.persid);
    const struct uz_node *const id[] = {old->items[0], old->items[1], graph->storages[number].key,
                                        old->items[3], old->items[4]};
    *made =
        uz_make_persid(&graph->maker, uz_make_tuple(&graph->maker, sizeof id / sizeof id[0], id));
    return UZ_OK;
}

/* Is the node one that this file has made? Its storages are those of the output already. */
static bool is_own(const struct uz_node *persid)
{
    return persid->opcode == 0;
}

static const struct uz_node *replace(void *cookie, const struct uz_node *node)
{
    struct uz_graph *graph = cookie;
    const struct uz_node *made = node;
    if (node->kind != UZ_NODE_PERSID || is_own(node) || graph->status < 0)
        return node;
    graph->status = replace_storage(graph, node, &made, graph->err);
    return made;
}

/* ---- The file ---- */

static int write_pickle(struct uz_graph *graph, const struct uz_node *root, struct uz_bytes *pickle,
                        struct uz_error *err)
{
    const struct uz_node_write_options options = {graph->limits, replace, graph};
    graph->err = err;
    UZ_TRY(uz_maker_check(&graph->maker, err));
    UZ_TRY(uz_pickle_write_node(pickle, root, &options, err));
    return graph->status < 0 ? graph->status : uz_maker_check(&graph->maker, err);
}

/* Where the storages' elements come from; keys are their numbers. */
static void list_storages(const struct uz_graph *graph, struct uz_saved_storage *saved,
                          char (*keys)[KEY_NBYTES])
{
    for (size_t i = 0; i < graph->n_storages; i++) {
        const struct uz_graph_storage *storage = &graph->storages[i];
        (void)snprintf(keys[i], KEY_NBYTES, "%zu", i);
        saved[i].key = keys[i];
        if (storage->bytes) {
            saved[i].bytes = storage->bytes;
            saved[i].nbytes = (size_t)storage->numel * uz_dtype_size(storage->dtype);
        } else {
            saved[i].target.tensor = storage->tensor;
            saved[i].target.dtype = storage->dtype;
            saved[i].target.n_elems = storage->numel;
        }
    }
}

static int add_file(struct uz_graph *graph, const struct uz_bytes *pickle, struct uz_out *out,
                    struct uz_error *err)
{
    struct uz_saved saved = {.pickle = pickle, .n = graph->n_storages};
    struct uz_saved_storage *storages = NULL;
    char(*keys)[KEY_NBYTES] = NULL;
    int rc = uz_alloc(&storages, saved.n, sizeof *storages, err);
    if (rc == UZ_OK)
        rc = uz_alloc(&keys, saved.n, sizeof *keys, err);
    saved.storages = storages;
    if (rc == UZ_OK) {
        list_storages(graph, storages, keys);
        rc = uz_out_add_saved(out, graph->name, &saved, err);
    }
    free(storages);
    free(keys);
    if (rc < 0)
        return rc;
    out->files[out->n_files - 1].n_tensors = graph->n_storages;
    return UZ_OK;
}

int uz_graph_finish(struct uz_graph *graph, const struct uz_node *root, struct uz_out *out,
                    struct uz_error *err)
{
    struct uz_bytes pickle = {0};
    int rc = write_pickle(graph, root, &pickle, err);
    if (rc < 0)
        rc = uz_error_in_file(err, rc, graph->name);
    if (rc == UZ_OK)
        rc = add_file(graph, &pickle, out, err);
    uz_bytes_free(&pickle);
    return rc;
}
