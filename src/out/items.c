/* SPDX-License-Identifier: Apache-2.0 */
/* Selects tensors, names and dtypes. */
#include "out/items.h"

#include <stdlib.h>
#include <string.h>

/* Far above any model, far below where sums of offsets and headers could wrap. */
#define MAX_TOTAL_NBYTES ((uint64_t)1 << 62)

enum uz_dtype uz_output_dtype(const struct uz_tensor *tensor, enum uz_dtype_policy policy)
{
    if (tensor->role == UZ_ROLE_BUFFER || !uz_dtype_is_castable(tensor->dtype))
        return tensor->dtype;
    switch (policy) {
    case UZ_POLICY_FP32:
        return UZ_DTYPE_F32;
    case UZ_POLICY_BF16:
        return UZ_DTYPE_BF16;
    case UZ_POLICY_FP16:
        return UZ_DTYPE_F16;
    case UZ_POLICY_KEEP:
        break;
    }
    return uz_dtype_is_castable(tensor->lp_dtype) ? tensor->lp_dtype : tensor->dtype;
}

/* True if a dot-separated part of the name says that it is the input embedding. */
static bool is_embedding(const char *name)
{
    for (const char *part = name; part; part = strchr(part, '.')) {
        part += *part == '.';
        size_t n = strcspn(part, ".");
        if ((n == 3 && !strncmp(part, "wte", n)) || (n == 6 && !strncmp(part, "shared", n)) ||
            memmem(part, n, "embed", 5))
            return true;
    }
    return false;
}

/* The name that each tensor is written under: its own, or that of an alias. */
static int choose_names(const struct uz_model *model, const char ***names, struct uz_error *err)
{
    UZ_TRY(uz_alloc(names, model->n_tensors, sizeof **names, err));
    for (size_t i = 0; i < model->n_tensors; i++)
        (*names)[i] = model->tensors[i].name;
    for (size_t i = 0; i < model->n_aliases; i++) {
        const struct uz_alias *alias = &model->aliases[i];
        if (is_embedding(alias->name) && !is_embedding((*names)[alias->tensor]))
            (*names)[alias->tensor] = alias->name;
    }
    return UZ_OK;
}

/* A parameter without elements has no master even if it is trained, and takes no room: it stays. */
static bool is_excluded(const struct uz_tensor *tensor, bool exclude_frozen)
{
    return exclude_frozen && tensor->role == UZ_ROLE_FROZEN && tensor->numel > 0;
}

static void drop_name(struct uz_items *items, const char *name, size_t item)
{
    const char *kept = items->items[item].name;
    if (name != kept)
        items->dropped[items->n_dropped++] = (struct uz_dropped_name){name, kept, item};
}

/* item_of: the item of each tensor that is not excluded. */
static int list_dropped(struct uz_items *items, const struct uz_model *model, const size_t *item_of,
                        bool exclude_frozen, struct uz_error *err)
{
    UZ_TRY(uz_alloc(&items->dropped, (uint64_t)model->n_aliases + model->n_tensors,
                    sizeof *items->dropped, err));
    for (size_t i = 0; i < items->n; i++)
        drop_name(items, model->tensors[items->items[i].tensor].name, i);
    for (size_t i = 0; i < model->n_aliases; i++) {
        const struct uz_alias *alias = &model->aliases[i];
        if (!is_excluded(&model->tensors[alias->tensor], exclude_frozen))
            drop_name(items, alias->name, item_of[alias->tensor]);
    }
    return UZ_OK;
}

static int list_items(struct uz_items *items, const struct uz_model *model, const char **names,
                      enum uz_dtype_policy policy, bool exclude_frozen, size_t *item_of,
                      struct uz_error *err)
{
    uint64_t total = 0;
    UZ_TRY(uz_alloc(&items->items, model->n_tensors, sizeof *items->items, err));
    for (size_t i = 0; i < model->n_tensors; i++) {
        const struct uz_tensor *tensor = &model->tensors[i];
        if (is_excluded(tensor, exclude_frozen)) {
            items->n_excluded++;
            continue;
        }
        enum uz_dtype dtype = uz_output_dtype(tensor, policy);
        item_of[i] = items->n;
        items->n++;
        items->items[items->n - 1] = (struct uz_item){
            .name = names[i],
            .tensor = (uint32_t)i,
            .dtype = dtype,
            .nbytes = tensor->numel * uz_dtype_size(dtype),
            .holder = items->n - 1,
        };
        if (!uz_add_u64(total, tensor->numel * uz_dtype_size(dtype), &total))
            total = UINT64_MAX; /* and so it stays: no sum with it fits */
        if (tensor->role != UZ_ROLE_BUFFER && !uz_dtype_is_castable(tensor->dtype))
            items->n_as_stored++;
    }
    if (items->n == 0)
        return uz_fail(err, UZ_ARG, "no tensor is left to write");
    if (total > MAX_TOTAL_NBYTES)
        return uz_fail(err, UZ_LIMIT, "the tensors have more bytes than a file system can hold");
    return list_dropped(items, model, item_of, exclude_frozen, err);
}

int uz_items_select(struct uz_items *items, const struct uz_model *model,
                    enum uz_dtype_policy policy, bool exclude_frozen, struct uz_error *err)
{
    const char **names = NULL;
    size_t *item_of = NULL;
    *items = (struct uz_items){0};
    int rc = choose_names(model, &names, err);
    if (rc == UZ_OK)
        rc = uz_alloc(&item_of, model->n_tensors, sizeof *item_of, err);
    if (rc == UZ_OK)
        rc = list_items(items, model, names, policy, exclude_frozen, item_of, err);
    free(item_of);
    free(names);
    return rc;
}

void uz_items_free(struct uz_items *items)
{
    free(items->items);
    free(items->dropped);
    *items = (struct uz_items){0};
}
