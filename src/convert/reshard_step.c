/* SPDX-License-Identifier: Apache-2.0 */
/* Counts of steps that a universal checkpoint keeps beside the states. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "convert/reshard_source.h"

static int read_tensor(struct uz_torch_file *file, const struct uz_node *node,
                       struct uz_reshard_step *step, struct uz_error *err)
{
    struct uz_view view;
    UZ_TRY(uz_torch_tensor(file, node, "step", &view, err));
    size_t size = uz_dtype_size(view.dtype);
    if (view.numel != 1 || (view.storage.big_endian && size > 1))
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(file), UZ_NO_OFFSET,
                          "is not one number of a little-endian machine");
    step->dtype = view.dtype;
    return uz_torch_read(file, &view.storage, view.first * size, step->bytes, size, err);
}

static int read_step(const char *path, const struct uz_limits *limits, struct uz_reshard_step *step,
                     struct uz_error *err)
{
    struct uz_torch_file *file;
    UZ_TRY(uz_torch_open(&file, path, limits, err));
    const struct uz_node *root = uz_torch_root(file);
    int rc = UZ_OK;
    step->is_there = true;
    if (uz_torch_is_tensor(root))
        rc = read_tensor(file, root, step, err);
    else if (root->kind == UZ_NODE_INT)
        step->integer = root->u.integer;
    else
        rc = uz_fail_at(err, UZ_UNSUPPORTED, path, UZ_NO_OFFSET, "holds no number of steps");
    uz_torch_close(file);
    return rc;
}

int uz_reshard_read_steps(struct uz_reshard_source *source, const struct uz_limits *limits,
                          struct uz_error *err)
{
    UZ_TRY(uz_alloc(&source->steps, source->n_groups, sizeof *source->steps, err));
    for (size_t g = 0; g < source->n_groups; g++) {
        char *path;
        if (source->groups[g].n == 0)
            continue;
        if (asprintf(&path, "%s/zero/%s/step.pt", source->topology.dir,
                     source->params[source->groups[g].first].name) < 0)
            return uz_fail_nomem(err, 0);
        int rc = UZ_OK;
        if (access(path, F_OK) == 0)
            rc = read_step(path, limits, &source->steps[g], err);
        else if (errno != ENOENT)
            rc = uz_fail_errno(err, errno, path, "cannot be read");
        free(path);
        UZ_TRY(rc);
    }
    return UZ_OK;
}
