/* SPDX-License-Identifier: Apache-2.0 */
/* Goes through the modules of all ranks but the first. */
#include "zero/rank_copies.h"

#include <stdio.h>
#include <string.h>

#include "zero/source.h"

/* The module of one rank. */
struct module {
    struct uz_reading *r;
    struct uz_torch_file *file;
    uint32_t file_index;
    const char *label, *first_label;
};

static int check_alike(const struct module *m, const struct uz_view *view,
                       const struct uz_tensor *tensor, enum uz_dtype dtype, struct uz_error *err)
{
    if (uz_view_is_of(view, tensor) && view->dtype == dtype)
        return UZ_OK;
    return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(m->file), UZ_NO_OFFSET,
                      "has %s in another shape or dtype than %s", tensor->name,
                      m->r->model->files[m->r->model_files[0]]);
}

static int add_copy(const struct module *m, const struct uz_pair *pair, uint32_t index,
                    struct uz_error *err)
{
    struct uz_model *model = m->r->model;
    const struct uz_tensor *tensor = &model->tensors[index];
    bool lp = tensor->role == UZ_ROLE_PARAM;
    struct uz_view view;
    struct uz_piece piece;
    uint32_t layer;
    UZ_TRY(uz_torch_tensor(m->file, pair->value, tensor->name, &view, err));
    if (view.numel == 0)
        return UZ_OK; /* a placeholder */
    UZ_TRY(check_alike(m, &view, tensor, lp ? tensor->lp_dtype : tensor->dtype, err));
    UZ_TRY(uz_source_whole(model, m->file_index, &view, index, &piece, err));
    const struct uz_layer copy = {
        .tensor = index,
        .op = lp ? UZ_LAYER_LP : UZ_LAYER_EQUAL,
        .base = UZ_NONE,
        .rank = m->label,
        .base_rank = m->first_label,
    };
    UZ_TRY(uz_model_add_layer(model, &copy, &layer, err));
    return uz_model_add_layer_piece(model, &piece, err);
}

static int add_copies(const struct module *m, struct uz_error *err)
{
    const struct uz_dict *module = uz_node_dict(uz_node_get(uz_torch_root(m->file), "module"));
    for (size_t i = 0; module && i < module->n; i++) {
        const struct uz_node *key = module->pairs[i].key;
        uint32_t tensor;
        if (key->kind == UZ_NODE_STR && uz_torch_is_tensor(module->pairs[i].value) &&
            uz_model_find(m->r->model, key->u.text.data, key->u.text.nbytes, &tensor))
            UZ_TRY(add_copy(m, &module->pairs[i], tensor, err));
    }
    return UZ_OK;
}

static int label_of(struct uz_reading *r, uint64_t rank, const char **label, struct uz_error *err)
{
    char text[64];
    int n = snprintf(text, sizeof text, "rank %llu", (unsigned long long)rank);
    return uz_arena_strndup(r->model->arena, text, (size_t)n, label, err);
}

int uz_reading_add_rank_copies(struct uz_reading *r, struct uz_error *err)
{
    struct module m = {.r = r};
    UZ_TRY(label_of(r, 0, &m.first_label, err));
    for (uint64_t rank = 1; rank < r->world; rank++) {
        m.file_index = r->model_files[rank];
        UZ_TRY(label_of(r, rank, &m.label, err));
        UZ_TRY(
            uz_torch_open(&m.file, r->model->files[m.file_index], &r->options->input.limits, err));
        int rc = add_copies(&m, err);
        uz_torch_close(m.file);
        UZ_TRY(rc);
    }
    return UZ_OK;
}
