/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensors are meant, and what they are called. */
#ifndef UNZERO_NAMES_H
#define UNZERO_NAMES_H

#include <stddef.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Rules that are applied to the names of a checkpoint, in this order: a name stays if it matches
 * any of `includes` (all stay if there are none) and none of `excludes`; then each prefix is taken
 * off where it is present; then each rename is applied in turn. Two names that come to be one, and
 * a name that comes to nothing, are an error (UZ_ARG); a rule that fits no name is a warning, or an
 * error if the input is strict. Regular expressions have the syntax and meaning of Python's `re`
 * for text and match anywhere in a name (`re.search`); one that takes too long fails (UZ_LIMIT).
 * Strings are UTF-8 and borrowed. All zero: names stay as they are.
 */
struct uz_name_rules {
    const char *const *includes; /**< regular expressions */
    size_t n_includes;
    const char *const *excludes; /**< regular expressions */
    size_t n_excludes;
    const char *const *strip_prefixes; /**< such as "module." */
    size_t n_strip_prefixes;
    /**
     * "s/REGEX/REPLACEMENT/" with any punctuation as delimiter replaces the first match in a name,
     * with "g" behind it all of them (`re.sub`); \1 and \g<name> are groups.
     */
    const char *const *renames;
    size_t n_renames;
};

/** UZ_ARG, with what is wrong and where, for rules that can't be read; UZ_OK otherwise. */
UZ_API int uz_name_rules_check(const struct uz_name_rules *rules, struct uz_error *err);

#ifdef __cplusplus
}
#endif
#endif
