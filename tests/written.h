/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the files of an output back, of either format. */
#ifndef UZ_TESTS_WRITTEN_H
#define UZ_TESTS_WRITTEN_H

#include <unzero/consolidate.h>

#include "check.h"
#include "pt_reader.h"
#include "safetensors_reader.h"

enum { MAX_FILES = 64 };

struct written {
    const struct uz_consolidate_summary *summary;
    struct st_file files[MAX_FILES]; /* those of the summary but for the index */
    size_t n_files;
    size_t n_tensors;
};

static inline void written_free(struct written *written)
{
    for (size_t i = 0; i < written->n_files; i++)
        st_free(&written->files[i]);
    written->n_files = 0;
}

static inline const struct st_tensor *written_find(const struct written *written, const char *name,
                                                   const struct st_file **file)
{
    for (size_t i = 0; i < written->n_files; i++) {
        const struct st_tensor *tensor = st_find(&written->files[i], name);
        *file = &written->files[i];
        if (tensor)
            return tensor;
    }
    return NULL;
}

/* The index must name for each tensor the file that it is in. */
static inline void check_index(const struct written *written, const char *path)
{
    size_t nbytes = 0;
    uint64_t total_size = 0;
    char *text = slurp(path, &nbytes);
    cJSON *json = text ? cJSON_Parse(text) : NULL;
    const cJSON *entry, *map = cJSON_GetObjectItemCaseSensitive(json, "weight_map");
    const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(json, "metadata");
    CHECK(cJSON_IsObject(map));
    CHECK_EQ_U64(cJSON_GetArraySize(map), written->n_tensors);
    if (CHECK(st_number(cJSON_GetObjectItemCaseSensitive(metadata, "total_size"), &total_size)))
        CHECK_EQ_U64(total_size, written->summary->data_nbytes);
    cJSON_ArrayForEach(entry, map)
    {
        const struct st_file *file = NULL;
        bool good =
            written_find(written, entry->string, &file) != NULL && cJSON_IsString(entry) &&
            !strcmp(entry->valuestring, written->summary->files[file - written->files].name);
        CHECK_F(good, "%s: the index names the wrong file", entry->string);
    }
    cJSON_Delete(json);
    free(text);
}

/* True unless an earlier tensor of the file has the same bytes. */
static inline bool first_with_data(const struct st_file *file, size_t k)
{
    for (size_t i = 0; i < k; i++)
        if (file->tensors[i].nbytes > 0 && file->tensors[i].data == file->tensors[k].data)
            return false;
    return true;
}

/* Reads all files that the summary tells of; nothing else may be in the folder. */
static inline bool written_read(struct written *written,
                                const struct uz_consolidate_summary *summary)
{
    char path[PATH_NBYTES];
    uint64_t data_nbytes = 0;
    const bool pt = summary->format == UZ_FORMAT_PT;
    size_t n = summary->n_files > 1 ? summary->n_files - 1 : 1;
    *written = (struct written){.summary = summary};
    CHECK_EQ_U64(count_entries(summary->out_dir), summary->n_files);
    if (!CHECK(n <= MAX_FILES))
        return false;
    for (size_t i = 0; i < n; i++) {
        struct st_file *file = &written->files[written->n_files++];
        path_of(path, "%s/%s", summary->out_dir, summary->files[i].name);
        if (!CHECK_F((pt ? pt_read : st_read)(file, path), "%s", file->error))
            return false;
        CHECK_EQ_U64(file->nbytes, summary->files[i].nbytes);
        CHECK_EQ_U64(file->n, summary->files[i].n_tensors);
        if (!pt)
            CHECK_EQ_STR(st_metadata(file, "format"), "pt");
        written->n_tensors += file->n;
        for (size_t k = 0; k < file->n; k++)
            if (first_with_data(file, k))
                data_nbytes += file->tensors[k].nbytes;
    }
    CHECK_EQ_U64(written->n_tensors, summary->n_tensors);
    CHECK_EQ_U64(data_nbytes, summary->data_nbytes);
    if (summary->n_files > 1) {
        CHECK_EQ_STR(summary->files[n].name,
                     pt ? "pytorch_model.bin.index.json" : "model.safetensors.index.json");
        path_of(path, "%s/%s", summary->out_dir, summary->files[n].name);
        check_index(written, path);
    }
    return true;
}

#endif
