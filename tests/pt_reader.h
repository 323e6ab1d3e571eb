/* SPDX-License-Identifier: Apache-2.0 */
/* Reads state dicts of torch.save, through the library's own reader and libzip, as an st_file. */
#ifndef UZ_TESTS_PT_READER_H
#define UZ_TESTS_PT_READER_H

#include <zip.h>

#include "safetensors_reader.h"
#include "torch/file.h"

/* libzip must find nothing wrong with the archive, and read all entries with good checksums. */
static inline bool pt_check_archive(struct st_file *file, const char *path)
{
    char buf[4096];
    int code = 0;
    zip_t *zip = zip_open(path, ZIP_RDONLY | ZIP_CHECKCONS, &code);
    bool good = zip != NULL;
    for (zip_int64_t i = 0; good && i < zip_get_num_entries(zip, 0); i++) {
        zip_file_t *entry = zip_fopen_index(zip, (zip_uint64_t)i, 0);
        zip_int64_t n = entry ? 1 : -1;
        while (n > 0)
            n = zip_fread(entry, buf, sizeof buf);
        good = n == 0 && zip_fclose(entry) == 0;
    }
    if (!good)
        (void)snprintf(file->error, sizeof file->error, "libzip cannot read %s", path);
    zip_discard(zip);
    return good;
}

static inline bool pt_add(struct st_file *file, struct uz_torch_file *torch,
                          const struct uz_pair *pair)
{
    struct st_tensor *tensor = &file->tensors[file->n];
    struct uz_view view;
    struct uz_error err;
    char name[512];
    (void)snprintf(name, sizeof name, "%.*s", (int)pair->key->u.text.nbytes,
                   pair->key->u.text.data);
    if (uz_torch_tensor(torch, pair->value, name, &view, &err) < 0) {
        (void)snprintf(file->error, sizeof file->error, "%s", err.message);
        return false;
    }
    const cJSON *owner = cJSON_AddStringToObject(file->json, name, "");
    *tensor = (struct st_tensor){
        .name = owner->string,
        .dtype = uz_dtype_safetensors_name(view.dtype),
        .elem_size = uz_dtype_size(view.dtype),
        .ndim = view.ndim,
        .numel = view.numel,
        .nbytes = view.numel * uz_dtype_size(view.dtype),
        .data = (const unsigned char *)file->bytes + view.storage.offset,
    };
    for (unsigned j = 0; j < view.ndim && j < ST_MAX_NDIM; j++)
        tensor->shape[j] = view.shape[j];
    file->n++;
    return view.ndim <= ST_MAX_NDIM && view.contiguous && view.first == 0 &&
           view.storage.packing == UZ_PACKED_STORED && !view.storage.big_endian &&
           view.storage.nbytes == tensor->nbytes && view.storage.offset % 64 == 0;
}

static inline bool pt_add_all(struct st_file *file, struct uz_torch_file *torch)
{
    const struct uz_node *root = uz_torch_root(torch);
    const struct uz_dict *dict = uz_node_dict(root);
    if (!dict || !uz_node_is_object(root, "collections", "OrderedDict"))
        return false;
    file->tensors = calloc(dict->n + 1, sizeof *file->tensors);
    file->json = cJSON_CreateObject();
    if (!file->tensors || !file->json)
        abort();
    for (size_t i = 0; i < dict->n; i++)
        if (!pt_add(file, torch, &dict->pairs[i]))
            return false;
    return true;
}

/* As st_read. Objects that are one in the pickle have the same `data`. */
static inline bool pt_read(struct st_file *file, const char *path)
{
    struct uz_torch_file *torch = NULL;
    struct uz_limits limits;
    struct uz_error err;
    memset(file, 0, sizeof *file);
    uz_limits_default(&limits);
    if (!pt_check_archive(file, path))
        return false;
    file->bytes = slurp(path, &file->nbytes);
    bool good = file->bytes && uz_torch_open(&torch, path, &limits, &err) == UZ_OK &&
                pt_add_all(file, torch);
    uz_torch_close(torch);
    if (!good && !file->error[0])
        (void)snprintf(file->error, sizeof file->error, "%s is not what torch.save writes", path);
    return good;
}

/* True if both names have one storage, which no other tensor can look like. */
static inline bool pt_same_object(const struct st_tensor *a, const struct st_tensor *b)
{
    return a && b && a->data == b->data && a->nbytes == b->nbytes;
}

#endif
