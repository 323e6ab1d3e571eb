/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensors are meant, and what they are called. */
#ifndef UNZERO_NAMES_H
#define UNZERO_NAMES_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Rules that are applied to the names of a checkpoint, in this order: a name stays if it matches
 * any of `includes` (all stay if there are none) and none of `excludes`; then each prefix is taken
 * off where it is present; then each rename is applied in turn. Two tensors that come to the same
 * name are an error (UZ_ARG). Regular expressions have the syntax of Python's `re` (PCRE2) and
 * match anywhere in a name (`re.search`). Strings are borrowed. All zero: names stay as they are.
 */
struct uz_name_rules {
    const char *const *includes; /**< regular expressions */
    size_t n_includes;
    const char *const *excludes; /**< regular expressions */
    size_t n_excludes;
    const char *const *strip_prefixes; /**< such as "module." */
    size_t n_strip_prefixes;
    const char *const *renames; /**< "s/REGEX/REPLACEMENT/" with any delimiter; \\1 is group 1 */
    size_t n_renames;
};

#ifdef __cplusplus
}
#endif
#endif
