/* SPDX-License-Identifier: Apache-2.0 */
/* Reads param_shapes. */
#include "zero/params.h"

#include <stdlib.h>

static int add_group(struct uz_params *params, size_t *cap, struct uz_model *model,
                     const struct uz_torch_file *file, const struct uz_dict *shapes, size_t group,
                     struct uz_error *err)
{
    for (size_t i = 0; i < shapes->n; i++) {
        const struct uz_node *key = shapes->pairs[i].key;
        if (key->kind != UZ_NODE_STR)
            return uz_fail_at(err, UZ_CORRUPT, uz_torch_path(file), UZ_NO_OFFSET,
                              "param_shapes[%zu] has a key that is no name", group);
        char name[256];
        unsigned ndim;
        uint64_t shape[UZ_MAX_NDIM];
        uint32_t tensor;
        uz_printable(name, sizeof name, key->u.text.data, key->u.text.nbytes);
        UZ_TRY(uz_torch_shape(file, shapes->pairs[i].value, name, &ndim, shape, err));
        int rc = uz_model_add_tensor(model, key->u.text.data, key->u.text.nbytes, UZ_ROLE_PARAM,
                                     UZ_DTYPE_INVALID, ndim, shape, &tensor, err);
        if (rc < 0) {
            uz_context(err, rc, "param_shapes: %s", name);
            return uz_error_in_file(err, rc, uz_torch_path(file));
        }
        UZ_TRY(uz_reserve(&params->numels, cap, (uint64_t)tensor + 1, sizeof *params->numels, err));
        params->numels[tensor] = model->tensors[tensor].numel;
    }
    return UZ_OK;
}

int uz_params_read(struct uz_params *params, struct uz_model *model,
                   const struct uz_torch_file *file, const struct uz_node *param_shapes,
                   struct uz_error *err)
{
    *params = (struct uz_params){0};
    const struct uz_seq *groups = uz_node_list(param_shapes);
    if (!groups || groups->n == 0)
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(file), UZ_NO_OFFSET,
                          "has no 'param_shapes', the list of parameters in the order of the flat "
                          "buffers");
    size_t cap = 0;
    UZ_TRY(
        uz_alloc(&params->group_first, (uint64_t)groups->n + 1, sizeof *params->group_first, err));
    params->n_groups = groups->n;
    for (size_t group = 0; group < groups->n; group++) {
        const struct uz_dict *shapes = uz_node_dict(groups->items[group]);
        if (!shapes)
            return uz_fail_at(err, UZ_CORRUPT, uz_torch_path(file), UZ_NO_OFFSET,
                              "param_shapes[%zu] is no dictionary", group);
        params->group_first[group] = model->n_tensors;
        UZ_TRY(add_group(params, &cap, model, file, shapes, group, err));
    }
    params->group_first[groups->n] = model->n_tensors;
    return UZ_OK;
}

void uz_params_free(struct uz_params *params)
{
    free(params->group_first);
    free(params->numels);
    *params = (struct uz_params){0};
}
