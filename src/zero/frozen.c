/* SPDX-License-Identifier: Apache-2.0 */
/* Reads frozen_param_shapes and frozen_param_fragments. */
#include "zero/frozen.h"

#include <stdio.h>
#include <string.h>

#include "layout/split.h"
#include "zero/source.h"

static const struct uz_dict *dict_of(const struct uz_torch_file *file, const char *key)
{
    return uz_node_dict(uz_node_get(uz_torch_root(file), key));
}

static int resolve(struct uz_torch_file *file, const struct uz_pair *pair, struct uz_view *view,
                   struct uz_error *err)
{
    char name[256];
    if (pair->key->kind != UZ_NODE_STR)
        return uz_fail_at(err, UZ_CORRUPT, uz_torch_path(file), UZ_NO_OFFSET,
                          "the frozen parameters have a key that is no name");
    uz_printable(name, sizeof name, pair->key->u.text.data, pair->key->u.text.nbytes);
    return uz_torch_tensor(file, pair->value, name, view, err);
}

static bool same_name(const struct uz_node *a, const struct uz_node *b)
{
    return a->kind == UZ_NODE_STR && b->kind == UZ_NODE_STR &&
           a->u.text.nbytes == b->u.text.nbytes &&
           !memcmp(a->u.text.data, b->u.text.data, a->u.text.nbytes);
}

/* DeepSpeed fills both dictionaries in one loop: the same names in the same order. */
static int check_same_names(const struct uz_torch_file *file, const struct uz_dict *shapes,
                            const struct uz_dict *fragments, struct uz_error *err)
{
    bool equal = shapes->n == fragments->n;
    for (size_t i = 0; equal && i < shapes->n; i++)
        equal = same_name(shapes->pairs[i].key, fragments->pairs[i].key);
    if (equal)
        return UZ_OK;
    return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(file), UZ_NO_OFFSET,
                      "frozen_param_shapes and frozen_param_fragments name different parameters");
}

static bool is_of_expert(const struct uz_experts *experts, const struct uz_node *key)
{
    struct uz_expert_name found;
    return key->kind == UZ_NODE_STR &&
           uz_expert_find(experts, key->u.text.data, key->u.text.nbytes, &found);
}

static int add_one(struct uz_torch_file *file, uint32_t file_index, int stage,
                   struct uz_model *model, const struct uz_pair *shape_pair,
                   const struct uz_pair *fragment_pair, struct uz_error *err)
{
    unsigned ndim;
    uint64_t shape[UZ_MAX_NDIM];
    struct uz_view view;
    uint32_t tensor;
    UZ_TRY(uz_torch_shape(file, shape_pair->value, "a shape in frozen_param_shapes", &ndim, shape,
                          err));
    UZ_TRY(resolve(file, fragment_pair, &view, err));
    int rc =
        uz_model_add_tensor(model, shape_pair->key->u.text.data, shape_pair->key->u.text.nbytes,
                            UZ_ROLE_FROZEN, view.dtype, ndim, shape, &tensor, err);
    if (rc < 0)
        return uz_error_in_file(err, rc, uz_torch_path(file));
    model->tensors[tensor].lp_dtype = view.dtype;
    if (stage == 3)
        return UZ_OK;
    if (!uz_same_shape(view.ndim, view.shape, ndim, shape))
        return uz_fail_at(
            err, UZ_MISMATCH, uz_torch_path(file), UZ_NO_OFFSET,
            "the frozen parameter %s has another shape than frozen_param_shapes tells",
            model->tensors[tensor].name);
    struct uz_piece piece;
    UZ_TRY(uz_source_whole(model, file_index, &view, tensor, &piece, err));
    return uz_model_add_piece(model, &piece, err);
}

int uz_frozen_add(struct uz_frozen *frozen, struct uz_torch_file *file, uint32_t file_index,
                  int stage, const struct uz_experts *experts, struct uz_model *model,
                  struct uz_error *err)
{
    const struct uz_dict *shapes = dict_of(file, "frozen_param_shapes");
    const struct uz_dict *fragments = dict_of(file, "frozen_param_fragments");
    *frozen = (struct uz_frozen){.first_tensor = (uint32_t)model->n_tensors};
    if (!shapes || !fragments)
        return UZ_OK;
    UZ_TRY(check_same_names(file, shapes, fragments, err));
    for (size_t i = 0; i < shapes->n; i++) {
        bool is_expert = is_of_expert(experts, shapes->pairs[i].key);
        if (is_expert && stage == 3)
            return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(file), UZ_NO_OFFSET,
                              "frozen experts under ZeRO 3 are not supported");
        if (is_expert)
            continue;
        UZ_TRY(
            add_one(file, file_index, stage, model, &shapes->pairs[i], &fragments->pairs[i], err));
        frozen->n++;
    }
    return UZ_OK;
}

int uz_frozen_report_absent(const struct uz_torch_file *file, const struct uz_experts *experts,
                            const struct uz_model *model, struct uz_notes *notes,
                            struct uz_error *err)
{
    const struct uz_dict *shapes = dict_of(file, "frozen_param_shapes");
    size_t n_absent = 0, n_listed = 0, used = 0;
    char names[512] = "";
    for (size_t i = 0; shapes && i < shapes->n; i++) {
        const struct uz_node *key = shapes->pairs[i].key;
        uint32_t tensor;
        if (key->kind != UZ_NODE_STR || is_of_expert(experts, key) ||
            uz_model_find(model, key->u.text.data, key->u.text.nbytes, &tensor))
            continue;
        n_absent++;
        if (used + key->u.text.nbytes + 3 > sizeof names)
            continue;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%.*s", used ? ", " : "",
                                 (int)key->u.text.nbytes, key->u.text.data);
        n_listed++;
    }
    if (n_absent == 0)
        return UZ_OK;
    return uz_warn_of_data(notes, err,
                           "%zu frozen parameters were left out when the checkpoint was saved "
                           "(exclude_frozen_parameters) and are not in the output: %s%s",
                           n_absent, names, n_listed < n_absent ? ", ..." : "");
}

int uz_frozen_read_slices(const struct uz_frozen *frozen, struct uz_torch_file *file,
                          const struct uz_model *model, uint64_t world, struct uz_flat_view *slices,
                          struct uz_error *err)
{
    const struct uz_dict *fragments = dict_of(file, "frozen_param_fragments");
    if (frozen->n > 0 && (!fragments || fragments->n != frozen->n))
        return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(file), UZ_NO_OFFSET,
                          "holds slices of %zu frozen parameters, rank 0 of %zu",
                          fragments ? fragments->n : 0, frozen->n);
    for (size_t i = 0; i < frozen->n; i++) {
        const struct uz_tensor *tensor = &model->tensors[frozen->first_tensor + i];
        const struct uz_node *key = fragments->pairs[i].key;
        struct uz_view view;
        UZ_TRY(resolve(file, &fragments->pairs[i], &view, err));
        uint64_t want = uz_ceil_div(tensor->numel, world);
        if (key->u.text.nbytes != strlen(tensor->name) ||
            memcmp(key->u.text.data, tensor->name, key->u.text.nbytes))
            return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(file), UZ_NO_OFFSET,
                              "has another frozen parameter where rank 0 has %s", tensor->name);
        if (!view.contiguous || view.numel != want || view.dtype != tensor->dtype)
            return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(file), UZ_NO_OFFSET,
                              "holds %llu elements (%s) of the frozen parameter %s, a slice has "
                              "%llu (%s)",
                              (unsigned long long)view.numel, uz_dtype_name(view.dtype),
                              tensor->name, (unsigned long long)want, uz_dtype_name(tensor->dtype));
        slices[i] = uz_flat_view_of(&view);
    }
    return UZ_OK;
}
