/* SPDX-License-Identifier: Apache-2.0 */
/* Counts of steps that a universal checkpoint keeps beside the states. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "convert/reshard_source.h"

static int read_step(const char *path, const struct uz_limits *limits, struct uz_scalar *step,
                     struct uz_error *err)
{
    struct uz_torch_file *file;
    UZ_TRY(uz_torch_open(&file, path, limits, err));
    int rc = uz_scalar_read(file, uz_torch_root(file), "the count of steps", step, err);
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
