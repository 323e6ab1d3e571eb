/* SPDX-License-Identifier: Apache-2.0 */
/* A strict reader of safetensors files that shares no code with the library. */
#ifndef UZ_TESTS_SAFETENSORS_READER_H
#define UZ_TESTS_SAFETENSORS_READER_H

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scratch.h"

enum { ST_MAX_NDIM = 8 };

struct st_tensor {
    const char *name;
    const char *dtype;
    size_t elem_size;
    size_t ndim;
    uint64_t shape[ST_MAX_NDIM];
    uint64_t numel;
    const unsigned char *data;
    uint64_t nbytes;
};

/* A whole file in memory. */
struct st_file {
    char *bytes;
    size_t nbytes;
    cJSON *json;
    const cJSON *metadata;
    struct st_tensor *tensors;
    size_t n;
    char error[PATH_NBYTES + 64];
};

static inline void st_free(struct st_file *file)
{
    cJSON_Delete(file->json);
    free(file->tensors);
    free(file->bytes);
    memset(file, 0, sizeof *file);
}

/* Bytes of an element, 0 for an unknown dtype. */
static inline size_t st_dtype_size(const char *dtype)
{
    static const struct {
        const char *name;
        size_t nbytes;
    } sizes[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
                 {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
                 {"U32", 4},  {"F32", 4}, {"F64", 8}, {"I64", 8},     {"U64", 8}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (!strcmp(dtype, sizes[i].name))
            return sizes[i].nbytes;
    return 0;
}

/* A whole number that a double holds exactly. */
static inline bool st_number(const cJSON *item, uint64_t *value)
{
    if (!cJSON_IsNumber(item) || item->valuedouble < 0 || item->valuedouble > 9e15)
        return false;
    *value = (uint64_t)item->valuedouble;
    return !((double)*value < item->valuedouble);
}

static inline bool st_read_tensor(struct st_file *file, const cJSON *item, uint64_t data_at,
                                  uint64_t *end)
{
    struct st_tensor *tensor = &file->tensors[file->n];
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(item, "dtype");
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(item, "shape");
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(item, "data_offsets");
    const cJSON *size;
    uint64_t first, last;
    if (cJSON_GetArraySize(item) != 3 || !cJSON_IsString(dtype) || !cJSON_IsArray(shape) ||
        cJSON_GetArraySize(offsets) != 2 || cJSON_GetArraySize(shape) > ST_MAX_NDIM)
        return false;
    *tensor = (struct st_tensor){.name = item->string, .dtype = dtype->valuestring, .numel = 1};
    cJSON_ArrayForEach(size, shape)
    {
        if (!st_number(size, &tensor->shape[tensor->ndim]))
            return false;
        tensor->numel *= tensor->shape[tensor->ndim++];
    }
    tensor->elem_size = st_dtype_size(tensor->dtype);
    tensor->nbytes = tensor->numel * tensor->elem_size;
    if (tensor->elem_size == 0 || !st_number(cJSON_GetArrayItem(offsets, 0), &first) ||
        !st_number(cJSON_GetArrayItem(offsets, 1), &last))
        return false;
    /* tensors follow one another in the header's order, without gaps, and are aligned */
    if (first != *end || last != first + tensor->nbytes || first % tensor->elem_size != 0 ||
        last > file->nbytes - data_at)
        return false;
    for (size_t i = 0; i < file->n; i++)
        if (!strcmp(file->tensors[i].name, tensor->name))
            return false;
    tensor->data = (const unsigned char *)file->bytes + data_at + first;
    *end = last;
    file->n++;
    return true;
}

static inline bool st_parse(struct st_file *file)
{
    uint64_t header = 0, end = 0;
    const char *stop = NULL;
    const cJSON *item;
    if (file->nbytes < 8)
        return false;
    for (unsigned i = 0; i < 8; i++)
        header |= (uint64_t)(unsigned char)file->bytes[i] << (8 * i);
    if (header > file->nbytes - 8 || header % 8 != 0 || file->bytes[8] != '{')
        return false;
    file->json = cJSON_ParseWithLengthOpts(file->bytes + 8, (size_t)header, &stop, 0);
    if (!cJSON_IsObject(file->json))
        return false;
    for (; stop < file->bytes + 8 + header; stop++)
        if (*stop != ' ')
            return false;
    file->tensors = calloc((size_t)cJSON_GetArraySize(file->json) + 1, sizeof *file->tensors);
    if (!file->tensors)
        abort();
    cJSON_ArrayForEach(item, file->json)
    {
        if (!strcmp(item->string, "__metadata__")) {
            file->metadata = item;
        } else if (!st_read_tensor(file, item, 8 + header, &end)) {
            (void)snprintf(file->error, sizeof file->error, "bad entry %s", item->string);
            return false;
        }
    }
    return end == file->nbytes - 8 - header;
}

/* False, with file->error, for anything that a reader could object to. Free with st_free. */
static inline bool st_read(struct st_file *file, const char *path)
{
    memset(file, 0, sizeof *file);
    file->bytes = slurp(path, &file->nbytes);
    if (!file->bytes) {
        (void)snprintf(file->error, sizeof file->error, "%s cannot be read", path);
        return false;
    }
    if (st_parse(file))
        return true;
    if (!file->error[0])
        (void)snprintf(file->error, sizeof file->error, "%s is not a safetensors file", path);
    return false;
}

static inline const struct st_tensor *st_find(const struct st_file *file, const char *name)
{
    for (size_t i = 0; i < file->n; i++)
        if (!strcmp(file->tensors[i].name, name))
            return &file->tensors[i];
    return NULL;
}

/* A text of __metadata__, NULL if it is not there. */
static inline const char *st_metadata(const struct st_file *file, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(file->metadata, key));
}

#endif
