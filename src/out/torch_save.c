/* SPDX-License-Identifier: Apache-2.0 */
/* State dicts in archives: a pickle that names the tensors, and an entry for each storage. */
#include "out/torch_save.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "out/archive.h"
#include "torch/pickle_write.h"

static int by_place(const void *a, const void *b)
{
    const struct uz_placed *x = a, *y = b;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item; /* all items are in one array */
}

/* Which of the placed items shares the object of number i: an earlier one, or itself. */
static size_t same_as(const struct uz_files *files, const struct uz_placed *placed, size_t i)
{
    const struct uz_item *holder = &files->items->items[placed[i].item->holder];
    size_t low = 0, high = i; /* they are sorted by address */
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (placed[mid].item < holder)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static int make_pickle(struct uz_bytes *pickle, const struct uz_files *files,
                       const struct uz_placed *placed, size_t n, struct uz_error *err)
{
    struct uz_saved_tensor *tensors;
    UZ_TRY(uz_alloc(&tensors, n, sizeof *tensors, err));
    for (size_t i = 0; i < n; i++) {
        const struct uz_tensor *tensor = &files->model->tensors[placed[i].item->tensor];
        tensors[i] = (struct uz_saved_tensor){
            .name = placed[i].item->name,
            .dtype = placed[i].item->dtype,
            .ndim = tensor->ndim,
            .shape = tensor->shape,
            .same_as = same_as(files, placed, i),
        };
    }
    int rc = uz_pickle_state_dict(pickle, tensors, n, err);
    free(tensors);
    return rc;
}

/* The storages of the items that share no earlier one's, numbered as the pickle numbers them. */
static int add_storages(struct uz_archive *archive, const struct uz_files *files,
                        const struct uz_placed *placed, size_t n, struct uz_error *err)
{
    char name[32];
    uint64_t key = 0, offset = 0;
    for (size_t i = 0; i < n; i++) {
        const struct uz_item *item = placed[i].item;
        if (same_as(files, placed, i) != i)
            continue;
        (void)snprintf(name, sizeof name, "data/%" PRIu64, key++);
        if (item->nbytes == 0) {
            UZ_TRY(uz_archive_add(archive, name, "", 0, err));
            continue;
        }
        UZ_TRY(uz_archive_add_target(archive, name, item->nbytes, files->out->n_targets, &offset,
                                     err));
        UZ_TRY(uz_files_add_target(files, item, offset, err));
    }
    return UZ_OK;
}

static int fill_archive(struct uz_archive *archive, struct uz_bytes *pickle,
                        const struct uz_files *files, struct uz_out_file *file,
                        const struct uz_placed *placed, size_t n, struct uz_error *err)
{
    UZ_TRY(make_pickle(pickle, files, placed, n, err));
    UZ_TRY(uz_archive_add_pickle(archive, pickle, err));
    UZ_TRY(add_storages(archive, files, placed, n, err));
    UZ_TRY(uz_archive_add_version(archive, err));
    return uz_archive_finish(archive, file, err);
}

static int fill(const struct uz_files *files, struct uz_out_file *file,
                const struct uz_placed *placed, size_t n, struct uz_error *err)
{
    struct uz_archive archive;
    struct uz_bytes pickle = {0};
    char *root = uz_archive_root_for(file->name);
    if (!root)
        return uz_fail_nomem(err, strlen(file->name));
    uz_archive_start(&archive, root);
    int rc = fill_archive(&archive, &pickle, files, file, placed, n, err);
    uz_archive_free(&archive);
    uz_bytes_free(&pickle);
    free(root);
    return rc < 0 ? uz_error_in_file(err, rc, file->name) : UZ_OK;
}

int uz_torch_save_layout(struct uz_out *out, const struct uz_items *items,
                         const struct uz_model *model, const struct uz_files_options *options,
                         struct uz_error *err)
{
    struct uz_files files = {
        .out = out,
        .items = items,
        .model = model,
        .options = options,
        .names = &uz_torch_names,
        .by_place = by_place,
        .fill = fill,
    };
    return uz_files_lay_out(&files, err);
}
