/* SPDX-License-Identifier: Apache-2.0 */
/* Plans and runs one part, and tells how far the whole is. */
#include "convert/parts.h"

#include "plan/plan.h"

static int on_progress(void *cookie, uint64_t nbytes_done, uint64_t nbytes_total)
{
    const struct uz_parts *parts = cookie;
    (void)nbytes_total;
    return parts->progress(parts->cookie, parts->nbytes_done + nbytes_done, parts->nbytes_total);
}

enum { ANY_CHUNK = 1 << 20 };

int uz_parts_check(const struct uz_model *model, const struct uz_out *out, struct uz_error *err)
{
    struct uz_plan plan;
    int rc = uz_plan_build(&plan, model, out, ANY_CHUNK, err);
    uz_plan_free(&plan);
    return rc;
}

int uz_parts_run(struct uz_parts *parts, struct uz_tree *tree, const struct uz_model *model,
                 const struct uz_out *out, const struct uz_engine_options *engine,
                 struct uz_error *err)
{
    struct uz_engine_options options = *engine;
    struct uz_engine_result result;
    struct uz_plan plan;
    char **paths;
    options.progress = parts->progress ? on_progress : NULL;
    options.cookie = parts;
    UZ_TRY(uz_tree_make(tree, out, &paths, err));
    int rc = uz_plan_build(&plan, model, out, options.buffer_nbytes, err);
    if (rc == UZ_OK)
        rc = uz_engine_run(&plan, paths, &options, &result, err);
    uz_plan_free(&plan);
    uz_tree_paths_free(paths, out->n_files);
    parts->nbytes_done += out->data_nbytes;
    return rc;
}
