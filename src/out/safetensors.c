/* SPDX-License-Identifier: Apache-2.0 */
/* Headers and offsets of safetensors files, and the index over several of them. */
#include "out/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "out/json_text.h"
#include "out/shards.h"

enum { HEADER_ALIGN = 8, MAX_NUMBERED_SHARDS = 99999 };

/* An item and the file it goes to. */
struct placed {
    uint32_t shard;
    const struct uz_item *item;
};

struct layout {
    struct uz_out *out;
    const struct uz_items *items;
    const struct uz_model *model;
    const struct uz_safetensors_options *options;
    struct placed *placed; /* sorted by file, and in a file as they lie there */
    uint32_t *shard_of;    /* of each item */
    uint32_t n_shards;
};

static int by_place(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    if (x->item->dtype != y->item->dtype)
        return x->item->dtype > y->item->dtype ? -1 : 1;
    return strcmp(x->item->name, y->item->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct placed *)a)->item->name, ((const struct placed *)b)->item->name);
}

static void print_shape(FILE *to, const struct uz_tensor *tensor)
{
    fputc('[', to);
    for (unsigned j = 0; j < tensor->ndim; j++)
        fprintf(to, "%s%" PRIu64, j ? "," : "", tensor->shape[j]);
    fputc(']', to);
}

static int print_entry(FILE *to, const struct layout *layout, const struct uz_item *item,
                       uint64_t begin, struct uz_error *err)
{
    const char *dtype = uz_dtype_safetensors_name(item->dtype);
    if (!dtype)
        return uz_fail(err, UZ_UNSUPPORTED, "safetensors has no name for the dtype %s of %s",
                       uz_dtype_name(item->dtype), item->name);
    if (!strcmp(item->name, "__metadata__"))
        return uz_fail(err, UZ_UNSUPPORTED,
                       "a tensor is named __metadata__, which safetensors keeps for itself");
    fputc(',', to);
    UZ_TRY(uz_json_string(to, item->name, err));
    fprintf(to, ":{\"dtype\":\"%s\",\"shape\":", dtype);
    print_shape(to, &layout->model->tensors[item->tensor]);
    fprintf(to, ",\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", begin, begin + item->nbytes);
    return UZ_OK;
}

static int print_metadata(FILE *to, const struct layout *layout, uint32_t shard,
                          struct uz_error *err)
{
    fputs("{\"__metadata__\":{\"format\":\"pt\"", to);
    for (size_t i = 0; i < layout->items->n_dropped; i++) {
        const struct uz_dropped_name *dropped = &layout->items->dropped[i];
        if (layout->shard_of[dropped->item] != shard || !strcmp(dropped->name, "format"))
            continue; /* in another file, or the key is taken */
        fputc(',', to);
        UZ_TRY(uz_json_string(to, dropped->name, err));
        fputc(':', to);
        UZ_TRY(uz_json_string(to, dropped->kept, err));
    }
    fputc('}', to);
    return UZ_OK;
}

static int print_header(FILE *to, const struct layout *layout, const struct placed *placed,
                        size_t n, struct uz_error *err)
{
    uint64_t begin = 0;
    UZ_TRY(print_metadata(to, layout, placed[0].shard, err));
    for (size_t i = 0; i < n; i++) {
        UZ_TRY(print_entry(to, layout, placed[i].item, begin, err));
        begin += placed[i].item->nbytes;
    }
    fputc('}', to);
    return UZ_OK;
}

/* Writes to `file` what `text` holds: the length, the header, and spaces up to 8 bytes. */
static int frame_header(struct uz_out_file *file, const char *text, size_t nbytes,
                        uint64_t max_header_bytes, struct uz_error *err)
{
    uint64_t padded = ((uint64_t)nbytes + HEADER_ALIGN - 1) / HEADER_ALIGN * HEADER_ALIGN;
    if (padded > max_header_bytes)
        return uz_fail(err, UZ_LIMIT,
                       "the header of %s would have %" PRIu64 " bytes, readers accept %" PRIu64
                       "; a smaller --max-shard-size makes more files of fewer tensors",
                       file->name, padded, max_header_bytes);
    UZ_TRY(uz_alloc(&file->head, 8 + padded, 1, err));
    for (unsigned i = 0; i < 8; i++)
        file->head[i] = (char)(padded >> (8 * i));
    memcpy(file->head + 8, text, nbytes);
    memset(file->head + 8 + nbytes, ' ', (size_t)padded - nbytes);
    file->head_nbytes = 8 + padded;
    return UZ_OK;
}

static int make_header(struct uz_out_file *file, const struct layout *layout,
                       const struct placed *placed, size_t n, struct uz_error *err)
{
    char *text = NULL;
    size_t nbytes = 0;
    FILE *to = open_memstream(&text, &nbytes);
    if (!to)
        return uz_fail_nomem(err, 0);
    int rc = print_header(to, layout, placed, n, err);
    if (fclose(to) != 0 && rc == UZ_OK)
        rc = uz_fail_nomem(err, nbytes);
    if (rc == UZ_OK)
        rc = frame_header(file, text, nbytes, layout->options->max_header_bytes, err);
    free(text);
    return rc;
}

static int add_target(struct uz_out *out, const struct uz_item *item, uint64_t n_elems,
                      uint64_t offset, struct uz_error *err)
{
    UZ_TRY(uz_reserve(&out->targets, &out->cap_targets, (uint64_t)out->n_targets + 1,
                      sizeof *out->targets, err));
    out->targets[out->n_targets++] = (struct uz_target){
        .tensor = item->tensor,
        .dtype = item->dtype,
        .n_elems = n_elems,
        .offset = offset,
    };
    return UZ_OK;
}

/* Adds a file without contents; *name is taken over. */
static int add_file(struct uz_out *out, char *name, struct uz_out_file **file, struct uz_error *err)
{
    int rc = name ? uz_reserve(&out->files, &out->cap_files, (uint64_t)out->n_files + 1,
                               sizeof *out->files, err)
                  : uz_fail_nomem(err, 0);
    if (rc < 0) {
        free(name);
        return rc;
    }
    *file = &out->files[out->n_files++];
    **file = (struct uz_out_file){.name = name, .first_target = out->n_targets};
    return UZ_OK;
}

static char *shard_name(const struct layout *layout, uint32_t shard)
{
    char *name;
    if (layout->options->file_name)
        return strdup(layout->options->file_name);
    if (layout->n_shards == 1)
        return strdup("model.safetensors");
    if (asprintf(&name, "model-%05" PRIu32 "-of-%05" PRIu32 ".safetensors", shard + 1,
                 layout->n_shards) < 0)
        return NULL;
    return name;
}

/* Lays out the file of the n items from placed[0] on. */
static int layout_file(struct layout *layout, const struct placed *placed, size_t n,
                       struct uz_error *err)
{
    struct uz_out *out = layout->out;
    struct uz_out_file *file;
    UZ_TRY(add_file(out, shard_name(layout, placed[0].shard), &file, err));
    UZ_TRY(make_header(file, layout, placed, n, err));
    uint64_t offset = file->head_nbytes;
    for (size_t i = 0; i < n; i++) {
        uint64_t n_elems = layout->model->tensors[placed[i].item->tensor].numel;
        if (n_elems > 0)
            UZ_TRY(add_target(out, placed[i].item, n_elems, offset, err));
        offset += placed[i].item->nbytes;
    }
    file->nbytes = offset;
    file->n_tensors = n;
    file->n_targets = out->n_targets - file->first_target;
    out->data_nbytes += offset - file->head_nbytes;
    return UZ_OK;
}

/* Takes the items in the order of their names. */
static int print_index(FILE *to, const struct layout *layout, struct uz_error *err)
{
    qsort(layout->placed, layout->items->n, sizeof *layout->placed, by_name);
    fprintf(to, "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64 "\n  },\n",
            layout->out->data_nbytes);
    fputs("  \"weight_map\": {", to);
    for (size_t i = 0; i < layout->items->n; i++) {
        fputs(i ? ",\n    " : "\n    ", to);
        UZ_TRY(uz_json_string(to, layout->placed[i].item->name, err));
        fprintf(to, ": \"%s\"", layout->out->files[layout->placed[i].shard].name);
    }
    fputs("\n  }\n}\n", to);
    return UZ_OK;
}

static int add_index(struct layout *layout, struct uz_error *err)
{
    struct uz_out_file *file;
    char *text = NULL;
    size_t nbytes = 0;
    FILE *to = open_memstream(&text, &nbytes);
    int rc = to ? print_index(to, layout, err) : uz_fail_nomem(err, 0);
    if (to && fclose(to) != 0 && rc == UZ_OK)
        rc = uz_fail_nomem(err, nbytes);
    if (rc == UZ_OK)
        rc = add_file(layout->out, strdup("model.safetensors.index.json"), &file, err);
    if (rc < 0) {
        free(text);
        return rc;
    }
    file->head = text;
    file->head_nbytes = file->nbytes = nbytes;
    return UZ_OK;
}

static int place_items(struct layout *layout, struct uz_error *err)
{
    const struct uz_items *items = layout->items;
    UZ_TRY(uz_alloc(&layout->placed, items->n, sizeof *layout->placed, err));
    UZ_TRY(uz_alloc(&layout->shard_of, items->n, sizeof *layout->shard_of, err));
    uz_split_shards(items, layout->options->max_shard_bytes, layout->shard_of, &layout->n_shards);
    if (layout->n_shards > MAX_NUMBERED_SHARDS)
        return uz_fail(err, UZ_ARG,
                       "--max-shard-size makes %" PRIu32 " files; at most %d can be numbered",
                       layout->n_shards, MAX_NUMBERED_SHARDS);
    for (size_t i = 0; i < items->n; i++)
        layout->placed[i] = (struct placed){layout->shard_of[i], &items->items[i]};
    qsort(layout->placed, items->n, sizeof *layout->placed, by_place);
    return UZ_OK;
}

static int layout_all(struct layout *layout, struct uz_error *err)
{
    size_t n_items = layout->items->n;
    UZ_TRY(place_items(layout, err));
    for (size_t first = 0, end; first < n_items; first = end) {
        end = first + 1;
        while (end < n_items && layout->placed[end].shard == layout->placed[first].shard)
            end++;
        UZ_TRY(layout_file(layout, &layout->placed[first], end - first, err));
    }
    return layout->n_shards > 1 ? add_index(layout, err) : UZ_OK;
}

int uz_safetensors_layout(struct uz_out *out, const struct uz_items *items,
                          const struct uz_model *model,
                          const struct uz_safetensors_options *options, struct uz_error *err)
{
    struct layout layout = {.out = out, .items = items, .model = model, .options = options};
    *out = (struct uz_out){0};
    int rc = layout_all(&layout, err);
    free(layout.placed);
    free(layout.shard_of);
    return rc;
}
