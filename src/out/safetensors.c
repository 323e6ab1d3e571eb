/* SPDX-License-Identifier: Apache-2.0 */
/* Headers and offsets of safetensors files. */
#include "out/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "out/json_text.h"

enum { HEADER_ALIGN = 8 };

static int by_place(const void *a, const void *b)
{
    const struct uz_placed *x = a, *y = b;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    if (x->item->dtype != y->item->dtype)
        return x->item->dtype > y->item->dtype ? -1 : 1;
    return strcmp(x->item->name, y->item->name);
}

static void print_shape(FILE *to, const struct uz_tensor *tensor)
{
    fputc('[', to);
    for (unsigned j = 0; j < tensor->ndim; j++)
        fprintf(to, "%s%" PRIu64, j ? "," : "", tensor->shape[j]);
    fputc(']', to);
}

static int print_entry(FILE *to, const struct uz_files *files, const struct uz_item *item,
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
    print_shape(to, &files->model->tensors[item->tensor]);
    fprintf(to, ",\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", begin, begin + item->nbytes);
    return UZ_OK;
}

static int print_metadata(FILE *to, const struct uz_files *files, uint32_t shard,
                          struct uz_error *err)
{
    fputs("{\"__metadata__\":{\"format\":\"pt\"", to);
    for (size_t i = 0; i < files->items->n_dropped; i++) {
        const struct uz_dropped_name *dropped = &files->items->dropped[i];
        if (files->shard_of[dropped->item] != shard || !strcmp(dropped->name, "format"))
            continue; /* in another file, or the key is taken */
        fputc(',', to);
        UZ_TRY(uz_json_string(to, dropped->name, err));
        fputc(':', to);
        UZ_TRY(uz_json_string(to, dropped->kept, err));
    }
    fputc('}', to);
    return UZ_OK;
}

static int print_header(FILE *to, const struct uz_files *files, const struct uz_placed *placed,
                        size_t n, struct uz_error *err)
{
    uint64_t begin = 0;
    UZ_TRY(print_metadata(to, files, placed[0].shard, err));
    for (size_t i = 0; i < n; i++) {
        UZ_TRY(print_entry(to, files, placed[i].item, begin, err));
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

static int make_header(struct uz_out_file *file, const struct uz_files *files,
                       const struct uz_placed *placed, size_t n, struct uz_error *err)
{
    char *text = NULL;
    size_t nbytes = 0;
    FILE *to = open_memstream(&text, &nbytes);
    if (!to)
        return uz_fail_nomem(err, 0);
    int rc = print_header(to, files, placed, n, err);
    if (fclose(to) != 0 && rc == UZ_OK)
        rc = uz_fail_nomem(err, nbytes);
    if (rc == UZ_OK)
        rc = frame_header(file, text, nbytes, files->options->max_header_bytes, err);
    free(text);
    return rc;
}

/* The tensors follow one another in the order of the header, without gaps. */
static int fill(const struct uz_files *files, struct uz_out_file *file,
                const struct uz_placed *placed, size_t n, struct uz_error *err)
{
    UZ_TRY(make_header(file, files, placed, n, err));
    uint64_t offset = file->head_nbytes;
    for (size_t i = 0; i < n; i++) {
        if (placed[i].item->nbytes > 0)
            UZ_TRY(uz_files_add_target(files, placed[i].item, offset, err));
        offset += placed[i].item->nbytes;
    }
    file->nbytes = offset;
    return UZ_OK;
}

int uz_safetensors_layout(struct uz_out *out, const struct uz_items *items,
                          const struct uz_model *model, const struct uz_files_options *options,
                          struct uz_error *err)
{
    struct uz_files files = {
        .out = out,
        .items = items,
        .model = model,
        .options = options,
        .names = &uz_safetensors_names,
        .by_place = by_place,
        .fill = fill,
    };
    return uz_files_lay_out(&files, err);
}
