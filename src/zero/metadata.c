/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and compares the metadata of model-states files. */
#include "zero/metadata.h"

#include <string.h>

#include "base/file.h"
#include "base/hash.h"

/* A list may name one dictionary many times; no checkpoint has as many parameters as this. */
enum { MAX_HASHED_PAIRS = 4 * 1024 * 1024 };

static uint64_t hash_shapes(uint64_t hash, const struct uz_torch_file *file,
                            const struct uz_dict *shapes)
{
    hash = uz_hash_u64(hash, shapes->n);
    for (size_t i = 0; i < shapes->n; i++) {
        const struct uz_node *key = shapes->pairs[i].key;
        unsigned ndim = 0;
        uint64_t shape[UZ_MAX_NDIM];
        if (key->kind == UZ_NODE_STR)
            hash = uz_hash_bytes(hash, key->u.text.data, key->u.text.nbytes);
        /* a value that is no shape is refused where shapes are used; here it hashes as none */
        if (uz_torch_shape(file, shapes->pairs[i].value, "", &ndim, shape, NULL) == UZ_OK)
            hash = uz_hash_bytes(hash, shape, ndim * sizeof *shape);
    }
    return hash;
}

/* A dictionary of shapes, or a list of such dictionaries. */
static uint64_t hash_shape_lists(const struct uz_torch_file *file, const struct uz_node *node)
{
    const struct uz_seq *list = uz_node_list(node);
    const struct uz_dict *dict = uz_node_dict(node);
    uint64_t hash = 0;
    if (dict)
        return hash_shapes(hash, file, dict);
    uint64_t n_pairs = 0;
    for (size_t i = 0; list && i < list->n && n_pairs <= MAX_HASHED_PAIRS; i++) {
        const struct uz_dict *group = uz_node_dict(list->items[i]);
        if (!group)
            continue;
        hash = hash_shapes(hash, file, group);
        n_pairs += group->n;
    }
    return hash;
}

static void read_text(char *buf, size_t size, const struct uz_node *node)
{
    buf[0] = '\0';
    if (node && node->kind == UZ_NODE_STR)
        uz_printable(buf, size, node->u.text.data, node->u.text.nbytes);
}

static void read_archive_root(struct uz_metadata *metadata, const struct uz_torch_file *file)
{
    const char *folder = uz_torch_archive_root(file);
    metadata->archive_root[0] = '\0';
    if (folder)
        uz_printable(metadata->archive_root, sizeof metadata->archive_root, folder, strlen(folder));
}

int uz_metadata_read(struct uz_metadata *metadata, const struct uz_torch_file *file,
                     struct uz_error *err)
{
    const struct uz_node *root = uz_torch_root(file);
    if (!uz_node_dict(root) || !uz_node_get(root, "module"))
        return uz_fail_at(err, UZ_FORMAT, uz_torch_path(file), UZ_NO_OFFSET,
                          "has no 'module'; not a model-states file of DeepSpeed");
    *metadata = (struct uz_metadata){.mp_world_size = 1};
    read_text(metadata->ds_version, sizeof metadata->ds_version, uz_node_get(root, "ds_version"));
    read_archive_root(metadata, file);
    metadata->has_steps = uz_node_int(uz_node_get(root, "global_steps"), &metadata->global_steps);
    uz_node_int(uz_node_get(root, "skipped_steps"), &metadata->skipped_steps);
    uz_node_u64(uz_node_get(root, "dp_world_size"), &metadata->dp_world_size);
    uz_node_u64(uz_node_get(root, "mp_world_size"), &metadata->mp_world_size);
    const struct uz_node *degrees = uz_node_get(root, "checkpoint_parallel_dimensions");
    uz_node_u64(uz_node_get(degrees, "tp_degree"), &metadata->tp_degree);
    uz_node_u64(uz_node_get(degrees, "pp_degree"), &metadata->pp_degree);
    metadata->param_shapes_hash = hash_shape_lists(file, uz_node_get(root, "param_shapes"));
    metadata->frozen_shapes_hash = hash_shape_lists(file, uz_node_get(root, "frozen_param_shapes"));
    return UZ_OK;
}

void uz_metadata_copy(struct uz_metadata *metadata, const struct uz_metadata *same,
                      const struct uz_torch_file *file)
{
    *metadata = *same;
    read_archive_root(metadata, file);
}

int uz_metadata_same_save(const struct uz_metadata *first, const char *first_path,
                          const struct uz_metadata *other, const char *other_path,
                          struct uz_error *err)
{
    const char *name = uz_path_name(first_path);
    if (first->has_steps != other->has_steps || first->global_steps != other->global_steps)
        return uz_fail_at(err, UZ_MISMATCH, other_path, UZ_NO_OFFSET,
                          "was saved at step %lld (global_steps), but %s at step %lld: shards of "
                          "different saves are mixed",
                          (long long)other->global_steps, name, (long long)first->global_steps);
    if (strcmp(first->ds_version, other->ds_version))
        return uz_fail_at(err, UZ_MISMATCH, other_path, UZ_NO_OFFSET,
                          "was written by DeepSpeed '%s', but %s by '%s'", other->ds_version, name,
                          first->ds_version);
    if (first->dp_world_size != other->dp_world_size)
        return uz_fail_at(err, UZ_MISMATCH, other_path, UZ_NO_OFFSET,
                          "records dp_world_size %llu, but %s %llu",
                          (unsigned long long)other->dp_world_size, name,
                          (unsigned long long)first->dp_world_size);
    return UZ_OK;
}

int uz_metadata_agree(const struct uz_metadata *first, const char *first_path,
                      const struct uz_metadata *other, const char *other_path, struct uz_error *err)
{
    const char *name = uz_path_name(first_path);
    UZ_TRY(uz_metadata_same_save(first, first_path, other, other_path, err));
    if (first->pp_degree != other->pp_degree || first->tp_degree != other->tp_degree)
        return uz_fail_at(
            err, UZ_MISMATCH, other_path, UZ_NO_OFFSET,
            "records %llu x %llu (pipeline x tensor) model-parallel ranks, but %s "
            "%llu x %llu: shards of different saves are mixed",
            (unsigned long long)other->pp_degree, (unsigned long long)other->tp_degree, name,
            (unsigned long long)first->pp_degree, (unsigned long long)first->tp_degree);
    if (first->param_shapes_hash != other->param_shapes_hash)
        return uz_fail_at(err, UZ_MISMATCH, other_path, UZ_NO_OFFSET,
                          "has other param_shapes than %s: shards of different models are mixed",
                          name);
    if (first->frozen_shapes_hash != other->frozen_shapes_hash)
        return uz_fail_at(err, UZ_MISMATCH, other_path, UZ_NO_OFFSET,
                          "has other frozen_param_shapes than %s", name);
    return UZ_OK;
}
