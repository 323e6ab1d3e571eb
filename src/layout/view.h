/* SPDX-License-Identifier: Apache-2.0 */
/* Views of elements in memory or behind callbacks: parts of them, and copies with a cast. */
#ifndef UZ_LAYOUT_VIEW_H
#define UZ_LAYOUT_VIEW_H

#include <unzero/linkage.h>

#include "base/error.h"

/*
 * Elements [start, start + numel) of a view. The caller checked that they are in it. A view without
 * values stays one.
 */
struct uz_tensor_view uz_view_narrow(const struct uz_tensor_view *view, uint64_t start,
                                     uint64_t numel);

/*
 * Checks that uz_view_copy can copy: both have values and as many elements, `to` can be written,
 * and the dtypes are equal (else UZ_UNSUPPORTED) or both castable.
 */
int uz_view_check_copy(const struct uz_tensor_view *to, const struct uz_tensor_view *from,
                       struct uz_error *err);

/*
 * Copies the elements, cast to the dtype of `to`; equal dtypes bit for bit. Views of different
 * dtypes must not overlap. Adds the finite values that became infinite to *n_overflows.
 */
int uz_view_copy(const struct uz_tensor_view *to, const struct uz_tensor_view *from,
                 uint64_t *n_overflows, struct uz_error *err);

#endif
