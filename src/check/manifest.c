/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of a manifest. */
#include "check/manifest.h"

#include <stdlib.h>
#include <string.h>

int uz_manifest_init(struct uz_manifest *manifest, struct uz_error *err)
{
    *manifest =
        (struct uz_manifest){.kind = "", .arena = uz_arena_new(UINT64_MAX), .names = uz_map_new()};
    return manifest->arena && manifest->names ? UZ_OK : uz_fail_nomem(err, sizeof *manifest);
}

void uz_manifest_free(struct uz_manifest *manifest)
{
    free(manifest->files);
    free(manifest->tensors);
    free(manifest->aliases);
    uz_map_free(manifest->names);
    uz_arena_free(manifest->arena);
    *manifest = (struct uz_manifest){0};
}

int uz_manifest_add_tensor(struct uz_manifest *manifest, const char *name, enum uz_dtype dtype,
                           unsigned ndim, const uint64_t *shape, struct uz_error *err)
{
    struct uz_manifest_tensor *tensor;
    uint64_t *sizes;
    const char *kept;
    bool present;
    UZ_TRY(uz_arena_strndup(manifest->arena, name, strlen(name), &kept, err));
    UZ_TRY(uz_arena_alloc(manifest->arena, ndim, sizeof *sizes, &sizes, err));
    memcpy(sizes, shape, ndim * sizeof *sizes);
    UZ_TRY(uz_map_add(manifest->names, kept, strlen(kept), manifest->n_tensors, &present, err));
    if (present)
        return uz_fail(err, UZ_CORRUPT, "two tensors are called %s", kept);
    UZ_TRY(UZ_APPEND(manifest->tensors, manifest->n_tensors, manifest->cap_tensors, &tensor, err));
    tensor->name = kept;
    tensor->dtype = dtype;
    tensor->ndim = ndim;
    tensor->shape = sizes;
    return UZ_OK;
}

const struct uz_manifest_tensor *uz_manifest_find(const struct uz_manifest *manifest,
                                                  const char *name)
{
    uint64_t index;
    return uz_map_get(manifest->names, name, strlen(name), &index) ? &manifest->tensors[index]
                                                                   : NULL;
}

const char *uz_manifest_digest(const struct uz_manifest_tensor *tensor, enum uz_dtype dtype)
{
    for (unsigned i = 0; i < tensor->n_digests; i++)
        if (tensor->digests[i].dtype == dtype)
            return tensor->digests[i].text;
    return NULL;
}
