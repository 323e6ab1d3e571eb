/* SPDX-License-Identifier: Apache-2.0 */
/* Opens and checks new values. */
#include "convert/new_values.h"

#include <limits.h>
#include <stdlib.h>

#include "convert/find_tensor.h"
#include "engine/fetch.h"
#include "input/npy.h"
#include "input/open.h"
#include "kernels/census.h"
#include "layout/shape_text.h"

enum { BLOCK_NBYTES = 1 << 20, FD_SLOTS = 8 };

int uz_values_open(struct uz_values *values, const char *path, const char *name,
                   const struct uz_limits *limits, struct uz_notes *notes, struct uz_error *err)
{
    struct uz_input_options options;
    struct uz_input_info info = {0};
    *values = (struct uz_values){0};
    uz_input_options_default(&options);
    options.limits = *limits;
    if (uz_is_npy(path))
        UZ_TRY(uz_npy_read(path, name, &options.limits, &values->model, err));
    else
        UZ_TRY(uz_input_open(path, &options, NULL, &values->model, &info, notes, err));
    uz_input_info_free(&info);
    values->opened = true;
    if (values->model.n_tensors != 1) {
        int rc = uz_find_tensor(&values->model, name, NULL, &values->tensor, err);
        if (rc < 0)
            return uz_hint(err, rc, " (in the file of new values, which has several)");
    }
    return uz_fetch_check(&values->model, err);
}

static int check_shape(const struct uz_tensor *new, const char *path, const char *name,
                       const struct uz_tensor *old, struct uz_error *err)
{
    char have[256], want[256];
    if (uz_same_shape(new->ndim, new->shape, old->ndim, old->shape))
        return UZ_OK;
    return uz_fail_at(err, UZ_MISMATCH, path, UZ_NO_OFFSET, "has values of shape %s, %s is %s",
                      uz_shape_text(have, sizeof have, new->ndim, new->shape, new->numel), name,
                      uz_shape_text(want, sizeof want, old->ndim, old->shape, old->numel));
}

/* ---- NaN and infinities ---- */

static bool has_exponent(enum uz_dtype dtype, enum uz_census_kind *kind)
{
    switch (dtype) {
    case UZ_DTYPE_F16:
        *kind = UZ_CENSUS_F16;
        return true;
    case UZ_DTYPE_BF16:
        *kind = UZ_CENSUS_BF16;
        return true;
    case UZ_DTYPE_F32:
        *kind = UZ_CENSUS_F32;
        return true;
    case UZ_DTYPE_F64:
        *kind = UZ_CENSUS_F64;
        return true;
    default:
        return false;
    }
}

static int count_blocks(const struct uz_values *values, enum uz_census_kind kind,
                        struct uz_fetch *fetch, unsigned char *block, struct uz_unusual *unusual,
                        struct uz_error *err)
{
    const struct uz_tensor *tensor = &values->model.tensors[values->tensor];
    uint64_t at_once = BLOCK_NBYTES / uz_dtype_size(tensor->dtype);
    uz_census_fn census = uz_census_for(UINT_MAX);
    for (uint64_t lo = 0, n; lo < tensor->numel; lo += n) {
        n = tensor->numel - lo < at_once ? tensor->numel - lo : at_once;
        UZ_TRY(uz_fetch_elems(fetch, values->tensor, lo, n, tensor->dtype, block, err));
        census(unusual, kind, block, (size_t)n);
    }
    return UZ_OK;
}

static int count(const struct uz_values *values, struct uz_unusual *unusual, struct uz_error *err)
{
    struct uz_fetch fetch = {0};
    enum uz_census_kind kind;
    unsigned char *block;
    *unusual = (struct uz_unusual){0};
    if (!has_exponent(values->model.tensors[values->tensor].dtype, &kind))
        return UZ_OK;
    UZ_TRY(uz_alloc(&block, BLOCK_NBYTES, 1, err));
    int rc = uz_fetch_init(&fetch, &values->model, BLOCK_NBYTES, FD_SLOTS, err);
    if (rc == UZ_OK)
        rc = count_blocks(values, kind, &fetch, block, unusual, err);
    uz_fetch_free(&fetch);
    free(block);
    return rc;
}

int uz_values_check(const struct uz_values *values, const char *path, const char *name,
                    const struct uz_tensor *old, struct uz_notes *notes, struct uz_error *err)
{
    const struct uz_tensor *new = &values->model.tensors[values->tensor];
    struct uz_unusual unusual;
    UZ_TRY(check_shape(new, path, name, old, err));
    if (new->dtype != old->dtype &&
        !(uz_dtype_is_castable(new->dtype) && uz_dtype_is_castable(old->dtype)))
        return uz_fail_at(err, UZ_ARG, path, UZ_NO_OFFSET,
                          "has values of dtype %s, which do not become %s, as %s is stored",
                          uz_dtype_name(new->dtype), uz_dtype_name(old->dtype), name);
    UZ_TRY(count(values, &unusual, err));
    if (unusual.n_nan == 0 && unusual.n_inf == 0)
        return UZ_OK;
    return uz_warn_of_data(notes, err,
                           "of the new values of %s %llu are NaN and %llu infinite: training that "
                           "resumes from them will not recover",
                           name, (unsigned long long)unusual.n_nan,
                           (unsigned long long)unusual.n_inf);
}

void uz_values_free(struct uz_values *values)
{
    if (values->opened)
        uz_model_free(&values->model);
    *values = (struct uz_values){0};
}
