/* SPDX-License-Identifier: Apache-2.0 */
/* Lists names, applies rules to them, and sorts them by weight. */
#include "out/weight_names.h"

#include <stdlib.h>
#include <string.h>

#include "out/names.h"

/* True if a dot-separated part of the name says that it is the input embedding. */
static bool says_embedding(const char *name)
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

bool uz_is_embedding(const struct uz_weight_name *name)
{
    return says_embedding(name->old_name) || says_embedding(name->name);
}

static int by_weight(const void *a, const void *b)
{
    const struct uz_weight_name *x = a, *y = b;
    if (!x->name != !y->name)
        return x->name ? -1 : 1;
    if (x->tensor != y->tensor)
        return x->tensor < y->tensor ? -1 : 1;
    if (x->is_alias != y->is_alias)
        return x->is_alias ? 1 : -1;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return strcmp(x->old_name, y->old_name);
}

static void list_names(struct uz_weight_names *names, const struct uz_model *model,
                       size_t n_weights)
{
    for (size_t i = 0; i < n_weights; i++)
        names->names[names->n++] = (struct uz_weight_name){
            .old_name = model->tensors[i].name,
            .order = model->tensors[i].order,
            .tensor = (uint32_t)i,
        };
    for (size_t i = 0; i < model->n_aliases; i++)
        names->names[names->n++] = (struct uz_weight_name){
            .old_name = model->aliases[i].name,
            .order = model->aliases[i].order,
            .is_alias = true,
            .tensor = model->aliases[i].tensor,
        };
}

static int apply_rules(struct uz_weight_names *names, const struct uz_model *model,
                       const struct uz_name_rules *rules, struct uz_arena *arena,
                       struct uz_notes *notes, struct uz_error *err)
{
    static const struct uz_name_rules no_rules;
    const char **old_names;
    UZ_TRY(uz_alloc(&old_names, 2 * (uint64_t)names->n, sizeof *old_names, err));
    const char **new_names = old_names + names->n;
    for (size_t i = 0; i < names->n; i++)
        old_names[i] = names->names[i].old_name;
    int rc = uz_names_apply(rules ? rules : &no_rules, old_names, names->n, model->max_name_bytes,
                            arena, new_names, notes, err);
    for (size_t i = 0; rc == UZ_OK && i < names->n; i++)
        names->names[i].name = new_names[i];
    free(old_names);
    return rc;
}

int uz_weight_names_make(struct uz_weight_names *names, const struct uz_model *model,
                         size_t n_weights, const struct uz_name_rules *rules,
                         struct uz_arena *arena, struct uz_notes *notes, struct uz_error *err)
{
    uint64_t n = (uint64_t)n_weights + model->n_aliases;
    *names = (struct uz_weight_names){0};
    UZ_TRY(uz_alloc(&names->names, n, sizeof *names->names, err));
    UZ_TRY(uz_alloc(&names->first, (uint64_t)n_weights + 1, sizeof *names->first, err));
    list_names(names, model, n_weights);
    UZ_TRY(apply_rules(names, model, rules, arena, notes, err));
    if (names->n > 0)
        qsort(names->names, names->n, sizeof *names->names, by_weight);
    for (size_t i = 0, at = 0; i <= n_weights; i++) {
        while (at < names->n && names->names[at].name && names->names[at].tensor < i)
            at++;
        names->first[i] = at;
    }
    return UZ_OK;
}

void uz_weight_names_free(struct uz_weight_names *names)
{
    free(names->names);
    free(names->first);
    *names = (struct uz_weight_names){0};
}
