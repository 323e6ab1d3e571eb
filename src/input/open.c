/* SPDX-License-Identifier: Apache-2.0 */
/* Hands a path to the reader of its kind. */
#include "input/open.h"

#include "input/weights.h"

static int add_weights(const struct uz_weights *weights, const char *path, bool is_torch,
                       struct uz_error *err)
{
    return is_torch ? uz_weights_add_torch(weights, path, err)
                    : uz_weights_add_safetensors(weights, path, err);
}

static int add_located(const struct uz_weights *weights, const struct uz_located *located,
                       const char *path, struct uz_error *err)
{
    if (located->kind != UZ_INPUT_FOLDER)
        return add_weights(weights, path, located->kind == UZ_INPUT_TORCH, err);
    if (located->index)
        return uz_weights_add_index(weights, located->index, located->is_torch, err);
    for (size_t i = 0; i < located->n_files; i++)
        UZ_TRY(add_weights(weights, located->files[i], located->is_torch, err));
    return UZ_OK;
}

static int read_weights(const char *path, const struct uz_located *located,
                        const struct uz_limits *limits, struct uz_model *model,
                        struct uz_notes *notes, struct uz_error *err)
{
    struct uz_weights weights = {.model = model, .notes = notes, .limits = limits};
    UZ_TRY(uz_model_init(model, limits, err));
    int rc = add_located(&weights, located, path, err);
    if (rc == UZ_OK)
        rc = uz_model_finish(model, err);
    if (rc < 0)
        uz_model_free(model);
    return rc;
}

int uz_input_open(const char *path, const struct uz_input_options *options, const char *state,
                  struct uz_model *model, struct uz_input_info *info, struct uz_notes *notes,
                  struct uz_error *err)
{
    struct uz_located located;
    *info = (struct uz_input_info){0};
    int rc = uz_input_locate(&located, path, options->tag, err);
    info->kind = located.kind;
    if (rc == UZ_OK && (located.kind == UZ_INPUT_ZERO || located.kind == UZ_INPUT_UNIVERSAL)) {
        struct uz_zero_options zero = {.input = *options, .state = state};
        rc = uz_zero_read(path, &zero, model, &info->zero, notes, err);
    } else if (rc == UZ_OK && state) {
        rc = uz_fail_at(err, UZ_ARG, path, UZ_NO_OFFSET,
                        "holds weights alone; optimizer states (--state %s) are in checkpoints",
                        state);
    } else if (rc == UZ_OK) {
        rc = read_weights(path, &located, &options->limits, model, notes, err);
    }
    uz_located_free(&located);
    return rc;
}

void uz_input_info_free(struct uz_input_info *info)
{
    uz_zero_info_free(&info->zero);
    *info = (struct uz_input_info){0};
}
