/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the expert files of a checkpoint and checks that all are there. */
#include "zero/experts.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "zero/experts_impl.h"
#include "zero/source.h"

/* ---- The list of expert files, by layer and expert ---- */

static int by_layer(const void *a, const void *b)
{
    const struct uz_shard_file *left = *(const struct uz_shard_file *const *)a;
    const struct uz_shard_file *right = *(const struct uz_shard_file *const *)b;
    if (left->layer != right->layer)
        return left->layer < right->layer ? -1 : 1;
    return left->dp < right->dp ? -1 : left->dp > right->dp;
}

static int list_files(const struct uz_experts_request *request, const struct uz_shard_file ***out,
                      size_t *n, struct uz_error *err)
{
    const struct uz_shard_file *shards =
        uz_topology_shards_of(request->topology, UZ_SHARD_EXPERT, request->mp, n);
    const struct uz_shard_file **files;
    UZ_TRY(uz_alloc(&files, *n, sizeof(const struct uz_shard_file *), err));
    for (size_t i = 0; i < *n; i++)
        files[i] = &shards[i];
    if (*n > 1)
        qsort(files, *n, sizeof(const struct uz_shard_file *), by_layer);
    *out = files;
    return UZ_OK;
}

/* ---- One file ---- */

/* The last place of the native marker in a name; DeepSpeed looks from behind, too. */
static const char *native_marker(const char *name)
{
    const char *found = NULL;
    for (const char *at = strstr(name, UZ_NATIVE_EXPERTS); at;
         at = strstr(at + 1, UZ_NATIVE_EXPERTS))
        found = at;
    return found;
}

/* The layer that a key belongs to; a native one is made when its first key is met. */
static int find_layer(struct uz_experts *experts, const struct uz_shard_file *shard,
                      const char *path, const char *key, size_t *layer, struct uz_error *err)
{
    struct uz_expert_name found;
    struct uz_expert_layer *made;
    if (uz_expert_find(experts, key, strlen(key), &found)) {
        *layer = (size_t)(found.layer - experts->layers);
        if (found.layer->number == shard->layer)
            return UZ_OK;
        return uz_fail_at(err, UZ_MISMATCH, path, UZ_NO_OFFSET,
                          "holds %s, which is of layer %u: expert files are mixed up", key,
                          found.layer->number);
    }
    const char *marker = native_marker(key);
    if (!marker)
        return uz_fail_at(err, UZ_UNSUPPORTED, path, UZ_NO_OFFSET,
                          "holds %s, whose name does not tell an expert's number", key);
    for (size_t i = 0; i < experts->n_layers; i++)
        if (experts->layers[i].number == shard->layer)
            return uz_fail_at(err, UZ_MISMATCH, path, UZ_NO_OFFSET,
                              "holds %s, but layer %u is %.*s...: expert files are mixed up", key,
                              shard->layer, (int)experts->layers[i].prefix_nbytes,
                              experts->layers[i].prefix);
    *layer = experts->n_layers;
    UZ_TRY(UZ_APPEND(experts->layers, experts->n_layers, experts->cap_layers, &made, err));
    made->number = shard->layer;
    made->prefix_nbytes = (size_t)(marker - key) + strlen(UZ_NATIVE_EXPERTS);
    return uz_arena_strndup(experts->arena, key, made->prefix_nbytes, &made->prefix, err);
}

/*
 * The number of the expert in a key, and the name that the copy is known by. AutoEP puts the number
 * behind the name of the stack: <prefix>w1.<number>.
 */
static bool read_number(const struct uz_expert_layer *layer, const char *key, size_t *name_nbytes,
                        uint64_t *expert)
{
    const char *number = key + layer->prefix_nbytes;
    *name_nbytes = strlen(key);
    if (layer->fused) {
        *name_nbytes = layer->prefix_nbytes + 2;
        number += 3;
    }
    char *end;
    *expert = strtoull(number, &end, 10);
    return end > number && *expert <= UINT32_MAX && (layer->fused ? *end == '\0' : *end == '.');
}

/* AutoEP's keys do not end with the name of a stack; cut the number off. */
static const char *stack_name(const struct uz_experts *experts, const char *key, char *buf,
                              size_t size)
{
    const char *dot = strrchr(key, '.');
    size_t nbytes = dot ? (size_t)(dot - key) : 0;
    struct uz_expert_name found;
    if (nbytes == 0 || nbytes >= size)
        return key;
    memcpy(buf, key, nbytes);
    buf[nbytes] = '\0';
    return uz_expert_find(experts, buf, nbytes, &found) && found.layer->fused ? buf : key;
}

static int read_tensor(const struct uz_experts_request *request, struct uz_torch_file *file,
                       const struct uz_node *node, struct uz_expert_copy *copy,
                       struct uz_error *err)
{
    struct uz_view view;
    uint64_t *shape;
    UZ_TRY(uz_torch_tensor(file, node, copy->name, &view, err));
    UZ_TRY(uz_arena_alloc(request->model->arena, view.ndim + 1, sizeof *shape, &shape, err));
    memcpy(shape, view.shape, view.ndim * sizeof *shape);
    copy->dtype = view.dtype;
    copy->ndim = view.ndim;
    copy->shape = shape;
    return uz_source_whole(request->model, copy->file, &view, 0, &copy->piece, err);
}

static int add_copy(struct uz_experts *experts, const struct uz_experts_request *request,
                    const struct uz_shard_file *shard, struct uz_torch_file *file,
                    uint32_t file_index, const struct uz_pair *pair, struct uz_error *err)
{
    const char *path = uz_torch_path(file), *key;
    char name[UZ_EXPERT_NAME_SIZE];
    struct uz_expert_copy *copy;
    size_t layer, nbytes;
    uint64_t expert;
    const struct uz_text *text = &pair->key->u.text;
    if (pair->key->kind != UZ_NODE_STR || memchr(text->data, '\0', text->nbytes) ||
        text->nbytes >= sizeof name)
        return uz_fail_at(err, UZ_CORRUPT, path, UZ_NO_OFFSET, "has a key that is no name");
    UZ_TRY(uz_arena_strndup(experts->arena, text->data, text->nbytes, &key, err));
    UZ_TRY(
        find_layer(experts, shard, path, stack_name(experts, key, name, sizeof name), &layer, err));
    if (!read_number(&experts->layers[layer], key, &nbytes, &expert))
        return uz_fail_at(err, UZ_UNSUPPORTED, path, UZ_NO_OFFSET,
                          "holds %s, whose name does not tell an expert's number", key);
    if (expert != shard->dp)
        return uz_fail_at(err, UZ_MISMATCH, path, UZ_NO_OFFSET,
                          "is the file of expert %u of layer %u, but holds %s: the files of "
                          "experts are swapped",
                          shard->dp, shard->layer, key);
    UZ_TRY(UZ_APPEND(experts->copies, experts->n_copies, experts->cap_copies, &copy, err));
    *copy = (struct uz_expert_copy){.layer = layer, .expert = shard->dp, .file = file_index};
    UZ_TRY(uz_arena_strndup(experts->arena, key, nbytes, &copy->name, err));
    return read_tensor(request, file, pair->value, copy, err);
}

static int read_pairs(struct uz_experts *experts, const struct uz_experts_request *request,
                      const struct uz_shard_file *shard, struct uz_torch_file *file,
                      uint32_t file_index, struct uz_error *err)
{
    const struct uz_dict *pairs = uz_node_dict(uz_torch_root(file));
    if (!pairs || pairs->n == 0)
        return uz_fail_at(err, UZ_FORMAT, uz_torch_path(file), UZ_NO_OFFSET,
                          "holds no expert's weights");
    for (size_t i = 0; i < pairs->n; i++)
        UZ_TRY(add_copy(experts, request, shard, file, file_index, &pairs->pairs[i], err));
    return UZ_OK;
}

static int read_file(struct uz_experts *experts, const struct uz_experts_request *request,
                     const struct uz_shard_file *shard, struct uz_error *err)
{
    struct uz_torch_file *file;
    uint32_t file_index;
    if (!strncmp(shard->name, "expert_", 7))
        return uz_fail_at(err, UZ_UNSUPPORTED, request->topology->dir, UZ_NO_OFFSET,
                          "%s: expert files without a layer's number (DeepSpeed before 0.5.8) are "
                          "not supported",
                          shard->name);
    char *path = uz_shard_path(request->topology, shard);
    if (!path)
        return uz_fail_nomem(err, strlen(shard->name));
    int rc = uz_model_add_file(request->model, path, &file_index, err);
    if (rc == UZ_OK)
        rc = uz_torch_open(&file, path, request->limits, err);
    free(path);
    UZ_TRY(rc);
    rc = read_pairs(experts, request, shard, file, file_index, err);
    uz_torch_close(file);
    return rc;
}

/* ---- All files ---- */

/* num_experts of the model states: a list with a number for each layer, once one for all. */
static bool recorded_experts(const struct uz_torch_file *file, uint32_t layer, uint64_t *n)
{
    const struct uz_node *node = uz_node_get(uz_torch_root(file), "num_experts");
    const struct uz_seq *list = uz_node_list(node);
    if (!list)
        return uz_node_u64(node, n);
    return layer < list->n && uz_node_u64(list->items[layer], n);
}

static int missing(const struct uz_experts_request *request, uint32_t layer, uint64_t expert,
                   struct uz_error *err)
{
    return uz_fail_at(err, UZ_MISMATCH, request->topology->dir, UZ_NO_OFFSET,
                      "the file of an expert is missing: layer_%u_expert_%llu_mp_rank_%02u_"
                      "model_states.pt",
                      layer, (unsigned long long)expert, request->mp);
}

/* Files of a layer, which begin at files[first], must be those of experts 0, 1, 2, ... */
static int check_layer(const struct uz_experts_request *request,
                       const struct uz_shard_file *const *files, size_t n_files, size_t first,
                       size_t *end, struct uz_error *err)
{
    uint32_t layer = files[first]->layer;
    uint64_t recorded, n = 0;
    for (*end = first; *end < n_files && files[*end]->layer == layer; ++*end, n++)
        if (files[*end]->dp != n)
            return missing(request, layer, n, err);
    if (!recorded_experts(request->file, layer, &recorded) || recorded == n)
        return UZ_OK;
    if (recorded > n)
        return missing(request, layer, n, err);
    return uz_fail_at(err, UZ_MISMATCH, request->topology->dir, UZ_NO_OFFSET,
                      "there are files of %llu experts of layer %u, the model states tell of %llu "
                      "(num_experts)",
                      (unsigned long long)n, layer, (unsigned long long)recorded);
}

static int check_files(const struct uz_experts_request *request,
                       const struct uz_shard_file *const *files, size_t n_files,
                       struct uz_error *err)
{
    uint32_t layer = 0;
    size_t end;
    for (size_t i = 0; i < n_files; i = end, layer++) {
        if (files[i]->layer != layer)
            return missing(request, layer, 0, err);
        UZ_TRY(check_layer(request, files, n_files, i, &end, err));
    }
    uint64_t recorded;
    const struct uz_node *list = uz_node_get(uz_torch_root(request->file), "num_experts");
    if (uz_node_list(list) && recorded_experts(request->file, layer, &recorded))
        return missing(request, layer, 0, err);
    return UZ_OK;
}

static int count_experts(struct uz_experts *experts, const char *dir, struct uz_error *err)
{
    for (size_t i = 0; i < experts->n_copies; i++) {
        struct uz_expert_layer *layer = &experts->layers[experts->copies[i].layer];
        if (!layer->fused && layer->n_experts <= experts->copies[i].expert)
            layer->n_experts = experts->copies[i].expert + 1;
        if (layer->fused && experts->copies[i].expert >= layer->n_experts)
            return uz_fail_at(err, UZ_MISMATCH, dir, UZ_NO_OFFSET,
                              "there is a file of expert %u of layer %u, which has %u experts "
                              "(ds_autoep_layers)",
                              experts->copies[i].expert, layer->number, layer->n_experts);
    }
    return UZ_OK;
}

static bool is_native(const struct uz_node *key)
{
    static const char part[] = UZ_NATIVE_EXPERTS;
    return key->kind == UZ_NODE_STR &&
           memmem(key->u.text.data, key->u.text.nbytes, part, sizeof part - 1) != NULL;
}

/*
 * Native experts under ZeRO 3, which DeepSpeed's engine does not start with: if anything saved them
 * all the same, nobody tells whether they are cut over all ranks or over those that share them.
 */
static int refuse_native(const struct uz_experts_request *request, struct uz_error *err)
{
    const struct uz_dict *module =
        uz_node_dict(uz_node_get(uz_torch_root(request->file), "module"));
    size_t n_files;
    uz_topology_shards(request->topology, UZ_SHARD_EXPERT, &n_files);
    bool found = n_files > 0;
    for (size_t i = 0; module && !found && i < module->n; i++)
        found = is_native(module->pairs[i].key);
    if (!found)
        return UZ_OK;
    return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(request->file), UZ_NO_OFFSET,
                      "experts of deepspeed.moe under ZeRO-3 are not supported: DeepSpeed itself "
                      "refuses to train them, so that no rule tells which ranks share them");
}

static int read_files(struct uz_experts *experts, const struct uz_experts_request *request,
                      struct uz_error *err)
{
    const struct uz_shard_file **files;
    size_t n;
    if (request->partitioned)
        return refuse_native(request, err);
    UZ_TRY(list_files(request, &files, &n, err));
    if (n == 0 && request->topology->is_universal) {
        free(files); /* DeepSpeed's converter leaves them out, AutoEP's stacks are in zero/ */
        return UZ_OK;
    }
    int rc = check_files(request, files, n, err);
    for (size_t i = 0; i < n && rc == UZ_OK; i++)
        rc = read_file(experts, request, files[i], err);
    free(files);
    UZ_TRY(rc);
    return count_experts(experts, request->topology->dir, err);
}

int uz_experts_read(struct uz_experts *experts, const struct uz_experts_request *request,
                    struct uz_error *err)
{
    const struct uz_node *root = uz_torch_root(request->file);
    int64_t data_first = 0;
    *experts = (struct uz_experts){.arena = uz_arena_new(request->limits->max_pickle_arena)};
    if (!experts->arena)
        return uz_fail_nomem(err, sizeof(void *));
    uz_node_int(uz_node_get(uz_node_get(root, "ds_config"), "use_data_before_expert_parallelism"),
                &data_first);
    experts->data_first = data_first != 0;
    UZ_TRY(uz_experts_read_autoep(experts, request, err));
    UZ_TRY(read_files(experts, request, err));
    bool has_native = false;
    for (size_t i = 0; i < experts->n_layers; i++)
        has_native |= !experts->layers[i].fused;
    return has_native && request->flat_groups ? uz_experts_read_counts(experts, request, err)
                                              : UZ_OK;
}

void uz_experts_free(struct uz_experts *experts)
{
    free(experts->layers);
    free(experts->copies);
    free(experts->partition_counts);
    free(experts->group_names);
    uz_arena_free(experts->arena);
    *experts = (struct uz_experts){0};
}
