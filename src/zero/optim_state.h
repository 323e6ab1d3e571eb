/* SPDX-License-Identifier: Apache-2.0 */
/* The states an optimizer keeps of its parameters: exp_avg, momentum_buffer, ... */
#ifndef UZ_ZERO_OPTIM_STATE_H
#define UZ_ZERO_OPTIM_STATE_H

#include "base/notes.h"
#include "torch/file.h"

/*
 * The {name: value} of parameter number `id` in an optimizer's state: {state: {id: ...}, ...}, or
 * the list that elastic checkpoints keep. NULL if there is none.
 */
const struct uz_node *uz_states_of(const struct uz_node *optimizer, int64_t id);

/*
 * The id of parameter number `index` of group `group`, from param_groups[group].params; -1 if the
 * optimizer does not tell.
 */
int64_t uz_state_id(const struct uz_node *optimizer, size_t group, size_t index);

/* True if `wanted` (a state's name, or "all") asks for the state that `key` names. */
bool uz_state_is_wanted(const char *wanted, const char *key, size_t key_nbytes);

/*
 * Looks at pair number `index` of a parameter's states; *found if it is a tensor that can have an
 * element for each of the parameter's (`step` is a count, whatever its shape), which *view then is.
 * One that cannot be read is passed over unless it is wanted. A compressed state's elements are not
 * values of the parameter's: wanted by its name it is UZ_UNSUPPORTED; among "all" it is passed
 * over, and *compressed (left alone otherwise) says what compresses it.
 */
int uz_state_read(struct uz_torch_file *file, const struct uz_dict *states, size_t index,
                  const char *wanted, struct uz_view *view, bool *found, const char **compressed,
                  struct uz_error *err);

/* True if parameter group `group` is marked as one that Muon trains. */
bool uz_states_are_muon(const struct uz_node *optimizer, size_t group);

/* Says, once, that states were left out because of what compresses them. */
int uz_warn_of_states(struct uz_notes *notes, const char *compressed, struct uz_error *err);

#endif
