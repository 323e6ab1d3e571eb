/* SPDX-License-Identifier: Apache-2.0 */
/* Looks names up, and says what is nearest to one that is not there. */
#include "convert/find_tensor.h"

#include <stdio.h>
#include <string.h>

enum { N_NEAREST = 3 };

/* How alike two names are: letters that they share at both ends. */
static size_t likeness(const char *a, const char *b)
{
    size_t n_a = strlen(a), n_b = strlen(b), n = n_a < n_b ? n_a : n_b, head = 0, tail = 0;
    while (head < n && a[head] == b[head])
        head++;
    while (tail < n - head && a[n_a - 1 - tail] == b[n_b - 1 - tail])
        tail++;
    return head + tail;
}

struct nearest {
    const char *names[N_NEAREST];
    size_t scores[N_NEAREST];
};

static void consider(struct nearest *nearest, const char *wanted, const char *name)
{
    size_t score = likeness(wanted, name);
    for (unsigned i = 0; i < N_NEAREST; i++) {
        if (nearest->names[i] && nearest->scores[i] >= score)
            continue;
        memmove(&nearest->names[i + 1], &nearest->names[i],
                (N_NEAREST - 1 - i) * sizeof *nearest->names);
        memmove(&nearest->scores[i + 1], &nearest->scores[i],
                (N_NEAREST - 1 - i) * sizeof *nearest->scores);
        nearest->names[i] = name;
        nearest->scores[i] = score;
        return;
    }
}

static int fail_absent(const struct uz_model *model, const char *wanted, struct uz_error *err)
{
    struct nearest nearest = {{NULL}, {0}};
    char text[768] = "";
    size_t n_names = model->n_aliases;
    for (size_t i = 0; i < model->n_aliases; i++)
        consider(&nearest, wanted, model->aliases[i].name);
    for (size_t i = 0; i < model->n_tensors; i++) {
        if (model->tensors[i].role == UZ_ROLE_STATE)
            continue;
        consider(&nearest, wanted, model->tensors[i].name);
        n_names++;
    }
    for (unsigned i = 0; i < N_NEAREST && nearest.names[i]; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%.240s", i ? ", " : "",
                 nearest.names[i]);
    return uz_fail(err, UZ_ARG,
                   "there is no tensor '%s' among the %zu of the checkpoint; nearest: %s", wanted,
                   n_names, text);
}

static bool find_name(const struct uz_model *model, const char *name, uint32_t *tensor)
{
    if (uz_model_find(model, name, strlen(name), tensor))
        return true;
    for (size_t i = 0; i < model->n_aliases; i++)
        if (!strcmp(model->aliases[i].name, name)) {
            *tensor = model->aliases[i].tensor;
            return true;
        }
    return false;
}

/* The tensor that is the state of a parameter. */
static int find_state(const struct uz_model *model, const char *state, uint32_t *tensor,
                      struct uz_error *err)
{
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        const struct uz_tensor *t = &model->tensors[i];
        if (t->role == UZ_ROLE_STATE && t->param == *tensor &&
            !strcmp(model->states[t->state], state)) {
            *tensor = i;
            return UZ_OK;
        }
    }
    return uz_fail(
        err, UZ_ARG, "%s has no optimizer state %s%s", model->tensors[*tensor].name, state,
        model->tensors[*tensor].role == UZ_ROLE_PARAM ? ""
                                                      : ": it is not trained by the optimizer");
}

int uz_find_tensor(const struct uz_model *model, const char *name, const char *state,
                   uint32_t *tensor, struct uz_error *err)
{
    if (!find_name(model, name, tensor))
        return fail_absent(model, name, err);
    return state ? find_state(model, state, tensor, err) : UZ_OK;
}
