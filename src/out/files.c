/* SPDX-License-Identifier: Apache-2.0 */
/* Divides items among files, names these, and writes the index over them. */
#include "out/files.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "out/json_text.h"
#include "out/shards.h"

enum { MAX_NUMBERED_SHARDS = 99999, MAX_PATTERN_NBYTES = 128 };

#define FIVE_DIGITS "[0-9][0-9][0-9][0-9][0-9]"

const struct uz_file_names uz_safetensors_names = {"model", ".safetensors"};
const struct uz_file_names uz_torch_names = {"pytorch_model", ".bin"};

bool uz_is_weights_file(const struct uz_file_names *names, const char *name)
{
    static const char *const middles[] = {"", "-" FIVE_DIGITS "-of-" FIVE_DIGITS};
    char pattern[MAX_PATTERN_NBYTES];
    for (size_t i = 0; i < sizeof middles / sizeof middles[0]; i++) {
        (void)snprintf(pattern, sizeof pattern, "%s%s%s", names->stem, middles[i], names->ending);
        if (fnmatch(pattern, name, 0) == 0)
            return true;
    }
    (void)snprintf(pattern, sizeof pattern, "%s%s.index.json", names->stem, names->ending);
    return !strcmp(pattern, name);
}

int uz_files_add_target(const struct uz_files *files, const struct uz_item *item, uint64_t offset,
                        struct uz_error *err)
{
    const struct uz_target target = {
        .tensor = item->tensor,
        .dtype = item->dtype,
        .n_elems = files->model->tensors[item->tensor].numel,
        .offset = offset,
    };
    return uz_out_add_target(files->out, &target, err);
}

static char *shard_name(const struct uz_files *files, uint32_t shard)
{
    const struct uz_file_names *names = files->names;
    char *name;
    int n;
    if (files->options->file_name)
        return strdup(files->options->file_name);
    if (files->n_shards == 1)
        n = asprintf(&name, "%s%s", names->stem, names->ending);
    else
        n = asprintf(&name, "%s-%05" PRIu32 "-of-%05" PRIu32 "%s", names->stem, shard + 1,
                     files->n_shards, names->ending);
    return n < 0 ? NULL : name;
}

/* Lays out the file of the n items from placed[0] on. */
static int lay_out_file(struct uz_files *files, const struct uz_placed *placed, size_t n,
                        struct uz_error *err)
{
    struct uz_out *out = files->out;
    struct uz_out_file *file;
    UZ_TRY(uz_out_add_file(out, shard_name(files, placed[0].shard), &file, err));
    UZ_TRY(files->fill(files, file, placed, n, err));
    file->n_tensors = n;
    uz_out_end_file(out);
    return UZ_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct uz_placed *)a)->item->name,
                  ((const struct uz_placed *)b)->item->name);
}

/* Takes the items in the order of their names. */
static int print_index(FILE *to, const struct uz_files *files, struct uz_error *err)
{
    qsort(files->placed, files->items->n, sizeof *files->placed, by_name);
    fprintf(to, "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64 "\n  },\n",
            files->out->data_nbytes);
    fputs("  \"weight_map\": {", to);
    for (size_t i = 0; i < files->items->n; i++) {
        fputs(i ? ",\n    " : "\n    ", to);
        UZ_TRY(uz_json_string(to, files->placed[i].item->name, err));
        fprintf(to, ": \"%s\"", files->out->files[files->placed[i].shard].name);
    }
    fputs("\n  }\n}\n", to);
    return UZ_OK;
}

static int add_index_file(struct uz_files *files, char *text, size_t nbytes, struct uz_error *err)
{
    struct uz_out_file *file;
    char *name;
    if (asprintf(&name, "%s%s.index.json", files->names->stem, files->names->ending) < 0)
        name = NULL;
    UZ_TRY(uz_out_add_file(files->out, name, &file, err));
    file->head = text;
    file->head_nbytes = file->nbytes = nbytes;
    return UZ_OK;
}

static int add_index(struct uz_files *files, struct uz_error *err)
{
    char *text = NULL;
    size_t nbytes = 0;
    FILE *to = open_memstream(&text, &nbytes);
    int rc = to ? print_index(to, files, err) : uz_fail_nomem(err, 0);
    if (to && fclose(to) != 0 && rc == UZ_OK)
        rc = uz_fail_nomem(err, nbytes);
    if (rc == UZ_OK)
        rc = add_index_file(files, text, nbytes, err);
    if (rc < 0)
        free(text);
    return rc;
}

static int place_items(struct uz_files *files, struct uz_error *err)
{
    const struct uz_items *items = files->items;
    UZ_TRY(uz_alloc(&files->placed, items->n, sizeof *files->placed, err));
    UZ_TRY(uz_alloc(&files->shard_of, items->n, sizeof *files->shard_of, err));
    uz_split_shards(items, files->options->max_shard_bytes, files->shard_of, &files->n_shards);
    if (files->n_shards > MAX_NUMBERED_SHARDS)
        return uz_fail(err, UZ_ARG,
                       "--max-shard-size makes %" PRIu32 " files; at most %d can be numbered",
                       files->n_shards, MAX_NUMBERED_SHARDS);
    for (size_t i = 0; i < items->n; i++)
        files->placed[i] = (struct uz_placed){files->shard_of[i], &items->items[i]};
    qsort(files->placed, items->n, sizeof *files->placed, files->by_place);
    return UZ_OK;
}

static int lay_out_all(struct uz_files *files, struct uz_error *err)
{
    size_t n_items = files->items->n;
    UZ_TRY(place_items(files, err));
    for (size_t first = 0, end; first < n_items; first = end) {
        end = first + 1;
        while (end < n_items && files->placed[end].shard == files->placed[first].shard)
            end++;
        UZ_TRY(lay_out_file(files, &files->placed[first], end - first, err));
    }
    return files->n_shards > 1 ? add_index(files, err) : UZ_OK;
}

int uz_files_lay_out(struct uz_files *files, struct uz_error *err)
{
    *files->out = (struct uz_out){0};
    int rc = lay_out_all(files, err);
    free(files->placed);
    free(files->shard_of);
    return rc;
}
