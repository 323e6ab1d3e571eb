/* SPDX-License-Identifier: Apache-2.0 */
/* Applies rules about names: which stay, and what they become. */
#ifndef UZ_OUT_NAMES_H
#define UZ_OUT_NAMES_H

#include <unzero/names.h>

#include "base/mem.h"
#include "base/notes.h"

/*
 * What becomes of n names (UTF-8, all different): renamed[i] is the new name of names[i], or NULL
 * if it is dropped. New names live in the arena; a name that stays as it is, is borrowed. A rule
 * that fits none of the names is a warning about data. UZ_ARG for rules that are wrong, for a name
 * that becomes empty, and for two names that become one; UZ_LIMIT for matching that takes too long
 * and for a new name of more than max_nbytes.
 */
int uz_names_apply(const struct uz_name_rules *rules, const char *const *names, size_t n,
                   uint64_t max_nbytes, struct uz_arena *arena, const char **renamed,
                   struct uz_notes *notes, struct uz_error *err);

#endif
