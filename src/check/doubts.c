/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the values where the metadata leaves doubts. */
#include "check/doubts.h"

#include "check/rounding.h"

enum { PROOF_ELEMS = 4096 }; /* of each piece */

/* Experts are put together by numbers in names: values that differ do not belong together. */
static int fail_experts(const struct uz_model *model, const struct uz_rounding *rounding,
                        struct uz_error *err)
{
    uint32_t file = model->places[rounding->worst_storage].file;
    return uz_fail_at(
        err, UZ_MISMATCH, model->files[file], UZ_NO_OFFSET,
        "holds other weights than the low-precision copy of %s (the name tells the "
        "expert): %.0f%% of its rounded masters differ; in all, %llu of %llu elements "
        "compared; files of different ranks or saves are mixed",
        model->tensors[rounding->worst_tensor].name, rounding->worst_share * 100,
        (unsigned long long)rounding->n_differ, (unsigned long long)rounding->n_compared);
}

int uz_check_doubts(const struct uz_model *model, const struct uz_zero_info *info,
                    struct uz_notes *notes, struct uz_error *err)
{
    struct uz_rounding rounding;
    bool doubtful = info->round_robin || info->steps_differ;
    if (!doubtful && !info->has_experts)
        return UZ_OK;
    UZ_TRY(uz_check_rounding(model, PROOF_ELEMS, 1, &rounding, err));
    if (!doubtful && rounding.n_differ > 0)
        return fail_experts(model, &rounding, err);
    if (!doubtful)
        return UZ_OK;
    if (rounding.n_differ > 0)
        return uz_fail(err, UZ_MISMATCH,
                       "the fp32 weights do not belong to the low-precision ones: of %llu elements "
                       "compared, %llu of the rounded masters differ, most in %s (%.0f%%); %s",
                       (unsigned long long)rounding.n_compared,
                       (unsigned long long)rounding.n_differ,
                       model->tensors[rounding.worst_tensor].name, rounding.worst_share * 100,
                       info->steps_differ ? "files of different saves are mixed"
                                          : "the order of the parameters is not known");
    bool too_many = info->has_step && info->metadata.has_steps &&
                    info->step > (double)info->metadata.global_steps;
    if (rounding.n_compared == 0 && info->steps_differ && too_many)
        return uz_fail(err, UZ_MISMATCH,
                       "the optimizer made %.0f steps, more than the %lld that the model states "
                       "tell of (global_steps): files of different saves are mixed",
                       info->step, (long long)info->metadata.global_steps);
    if (rounding.n_compared == 0)
        return uz_warn_of_data(notes, err,
                               "there is no low-precision copy to prove the doubt above unfounded");
    return UZ_OK;
}
