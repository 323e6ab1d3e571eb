/* SPDX-License-Identifier: Apache-2.0 */
/* Is every tensor in the file that the index names, once, and nowhere else? */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "check/verify_weights.h"

/* Findings of one kind that are told one by one. */
enum { MAX_TOLD = 8 };

/* Names of all files' tensors. */
struct names {
    struct uz_verify_run *run;
    struct uz_map *record_of; /* name -> index of the first record that has it */
    size_t n_twice, n_misplaced, n_unlisted;
    uint64_t all_nbytes, unique_nbytes; /* of all names; of tensors with several names once */
    bool all_read;
};

static int tell(struct names *n, size_t *n_told, enum uz_find what, const char *file,
                const char *tensor, struct uz_error *err, const char *message)
{
    struct uz_where where = UZ_NOWHERE;
    where.file = file;
    where.tensor = tensor;
    return ++*n_told > MAX_TOLD ? UZ_OK
                                : uz_find(&n->run->findings, what, &where, err, "%s", message);
}

static int tell_rest(struct names *n, size_t n_told, enum uz_find what, const char *file,
                     struct uz_error *err)
{
    struct uz_where where = UZ_NOWHERE;
    where.file = file;
    return n_told <= MAX_TOLD ? UZ_OK
                              : uz_find(&n->run->findings, what, &where, err,
                                        "the same of %zu more tensors", n_told - MAX_TOLD);
}

static int note_name(struct names *n, size_t record, const char *name, struct uz_error *err)
{
    char message[512];
    uint64_t first;
    bool present;
    UZ_TRY(uz_map_add(n->record_of, name, strlen(name), record, &present, err));
    if (!present)
        return UZ_OK;
    uz_map_get(n->record_of, name, strlen(name), &first);
    (void)snprintf(message, sizeof message, "the tensor is in %s, too",
                   n->run->records[first].shard.name);
    return tell(n, &n->n_twice, UZ_FIND_TENSOR_TWICE, n->run->records[record].path, name, err,
                message);
}

static int note_record(struct names *n, size_t index, struct uz_error *err)
{
    const struct uz_model *model = n->run->records[index].weights;
    n->all_read &= model != NULL;
    for (size_t i = 0; model && i < model->n_tensors; i++) {
        uint64_t nbytes = model->tensors[i].numel * uz_dtype_size(model->tensors[i].dtype);
        n->all_nbytes += nbytes;
        n->unique_nbytes += nbytes;
        UZ_TRY(note_name(n, index, model->tensors[i].name, err));
    }
    /* names that a safetensors file only explains are not in it */
    for (size_t i = 0; model && !n->run->is_safetensors && i < model->n_aliases; i++) {
        const struct uz_tensor *tensor = &model->tensors[model->aliases[i].tensor];
        n->all_nbytes += tensor->numel * uz_dtype_size(tensor->dtype);
        UZ_TRY(note_name(n, index, model->aliases[i].name, err));
    }
    return UZ_OK;
}

/* ---- The index ---- */

static const struct uz_record *record_called(const struct names *n, const char *name)
{
    for (size_t i = 0; i < n->run->n_records; i++)
        if (!strcmp(n->run->records[i].shard.name, name))
            return &n->run->records[i];
    return NULL;
}

static bool explains(const struct uz_model *model, const char *name)
{
    for (size_t i = 0; i < model->n_aliases; i++)
        if (!strcmp(model->aliases[i].name, name))
            return true;
    return false;
}

/* The tensor of an entry must be in its file. */
static int check_entry(struct names *n, const struct uz_weight_entry *entry, struct uz_error *err)
{
    char message[768];
    uint64_t where;
    const struct uz_record *record = record_called(n, entry->file);
    if (!record || !record->weights)
        return UZ_OK; /* what is wrong with the file was told */
    bool found = uz_map_get(n->record_of, entry->tensor, strlen(entry->tensor), &where);
    if (found && &n->run->records[where] == record)
        return UZ_OK;
    uint32_t tensor;
    if (uz_model_find(record->weights, entry->tensor, strlen(entry->tensor), &tensor) ||
        explains(record->weights, entry->tensor))
        return UZ_OK;
    if (found)
        (void)snprintf(message, sizeof message, "the index says that it is in %s, but it is in %s",
                       entry->file, n->run->records[where].shard.name);
    else
        (void)snprintf(message, sizeof message, "the index says that it is in %s, which lacks it",
                       entry->file);
    return tell(n, &n->n_misplaced, UZ_FIND_MISPLACED, n->run->index_path, entry->tensor, err,
                message);
}

static int check_listed(struct names *n, const struct uz_record *record, struct uz_error *err)
{
    const struct uz_model *model = record->weights;
    for (size_t i = 0; model && i < model->n_tensors; i++) {
        const char *name = model->tensors[i].name;
        if (!uz_map_get(n->run->index->tensors, name, strlen(name), NULL))
            UZ_TRY(tell(n, &n->n_unlisted, UZ_FIND_UNLISTED, record->path, name, err,
                        "the index does not know it"));
    }
    return UZ_OK;
}

static int check_total(struct names *n, struct uz_error *err)
{
    const struct uz_weight_index *index = n->run->index;
    struct uz_where where = UZ_NOWHERE;
    where.file = n->run->index_path;
    if (!index->has_total || !n->all_read || index->total_nbytes == n->all_nbytes ||
        index->total_nbytes == n->unique_nbytes)
        return UZ_OK;
    return uz_find(&n->run->findings, UZ_FIND_INDEX_TOTAL, &where, err,
                   "total_size is %llu, but all tensors have %llu bytes",
                   (unsigned long long)index->total_nbytes, (unsigned long long)n->unique_nbytes);
}

static int check_index(struct names *n, struct uz_error *err)
{
    const struct uz_weight_index *index = n->run->index;
    for (size_t i = 0; i < index->n_entries; i++)
        UZ_TRY(check_entry(n, &index->entries[i], err));
    for (size_t i = 0; i < n->run->n_records; i++)
        UZ_TRY(check_listed(n, &n->run->records[i], err));
    UZ_TRY(tell_rest(n, n->n_misplaced, UZ_FIND_MISPLACED, n->run->index_path, err));
    UZ_TRY(tell_rest(n, n->n_unlisted, UZ_FIND_UNLISTED, n->run->index_path, err));
    return check_total(n, err);
}

int uz_verify_names(struct uz_verify_run *run, struct uz_error *err)
{
    struct names n = {.run = run, .record_of = uz_map_new(), .all_read = true};
    int rc = n.record_of ? UZ_OK : uz_fail_nomem(err, sizeof n);
    for (size_t i = 0; rc == UZ_OK && i < run->n_records; i++)
        rc = note_record(&n, i, err);
    if (rc == UZ_OK)
        rc = tell_rest(&n, n.n_twice, UZ_FIND_TENSOR_TWICE, run->dir, err);
    if (rc == UZ_OK && run->has_index)
        rc = check_index(&n, err);
    uz_map_free(n.record_of);
    return rc;
}
