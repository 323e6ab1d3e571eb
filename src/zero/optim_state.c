/* SPDX-License-Identifier: Apache-2.0 */
/* Looks states up, and tells those that are plain values from those that are not. */
#include "zero/optim_state.h"

#include <string.h>

enum { MAX_STATES_OF_ONE = 64 };

const struct uz_node *uz_states_of(const struct uz_node *optimizer, int64_t id)
{
    const struct uz_seq *elastic = uz_node_list(optimizer);
    if (elastic)
        return id >= 0 && (uint64_t)id < elastic->n ? elastic->items[id] : NULL;
    return uz_node_get_int(uz_node_get(optimizer, "state"), id);
}

int64_t uz_state_id(const struct uz_node *optimizer, size_t group, size_t index)
{
    const struct uz_seq *groups = uz_node_list(uz_node_get(optimizer, "param_groups"));
    if (!groups || group >= groups->n)
        return -1;
    const struct uz_seq *params = uz_node_list(uz_node_get_small(groups->items[group], "params"));
    int64_t id;
    if (!params || index >= params->n || !uz_node_int(params->items[index], &id) || id < 0)
        return -1;
    return id;
}

bool uz_states_are_muon(const struct uz_node *optimizer, size_t group)
{
    const struct uz_seq *groups = uz_node_list(uz_node_get(optimizer, "param_groups"));
    int64_t use_muon = 0;
    if (groups && group < groups->n)
        uz_node_int(uz_node_get_small(groups->items[group], "use_muon"), &use_muon);
    return use_muon != 0;
}

bool uz_state_is_wanted(const char *wanted, const char *key, size_t key_nbytes)
{
    return wanted && (!strcmp(wanted, "all") ||
                      (strlen(wanted) == key_nbytes && !memcmp(wanted, key, key_nbytes)));
}

static bool has_key(const struct uz_dict *states, const char *key)
{
    for (size_t i = 0; i < states->n; i++)
        if (uz_node_is_str(states->pairs[i].key, key))
            return true;
    return false;
}

/* What compresses the states, by the keys that only it has; NULL: nothing known. */
static const char *compression(const struct uz_dict *states, enum uz_dtype dtype)
{
    static const char *const error_feedback[] = {"worker_error", "server_error", "worker_errors"};
    static const char *const blockwise[] = {"absmax1", "qmap1", "absmax", "qmap"};
    for (size_t i = 0; i < sizeof error_feedback / sizeof error_feedback[0]; i++)
        if (has_key(states, error_feedback[i]))
            return "a 1-bit optimizer (worker_error, server_error), whose states depend on the "
                   "error feedback of every rank";
    for (size_t i = 0; i < sizeof blockwise / sizeof blockwise[0]; i++)
        if (has_key(states, blockwise[i]) && !uz_dtype_is_float(dtype))
            return "an 8-bit optimizer, which stores codes of blocks instead of values";
    return NULL;
}

int uz_state_read(struct uz_torch_file *file, const struct uz_dict *states, size_t index,
                  const char *wanted, struct uz_view *view, bool *found, const char **compressed,
                  struct uz_error *err)
{
    const struct uz_node *key = states->pairs[index].key, *value = states->pairs[index].value;
    *found = false;
    if (key->kind != UZ_NODE_STR || uz_node_is_str(key, "step") || !uz_torch_is_tensor(value) ||
        states->n > MAX_STATES_OF_ONE)
        return UZ_OK;
    bool is_wanted = uz_state_is_wanted(wanted, key->u.text.data, key->u.text.nbytes);
    char name[128];
    uz_printable(name, sizeof name, key->u.text.data, key->u.text.nbytes);
    int rc = uz_torch_tensor(file, value, name, view, is_wanted ? err : NULL);
    if (rc < 0)
        return is_wanted || rc == UZ_NOMEM ? rc : UZ_OK;
    const char *why = compression(states, view->dtype);
    if (why && is_wanted && !strcmp(wanted, "all")) {
        *compressed = why;
        return UZ_OK;
    }
    if (why && is_wanted)
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(file), UZ_NO_OFFSET,
                          "the optimizer state %s is that of %s; only the weights can be converted",
                          name, why);
    *found = true;
    return UZ_OK;
}

int uz_warn_of_states(struct uz_notes *notes, const char *compressed, struct uz_error *err)
{
    struct uz_notes one = {.strict = notes->strict};
    int rc = uz_warn_of_data(&one, err, "optimizer states are left out: they are those of %s",
                             compressed);
    if (rc == UZ_OK)
        rc = uz_notes_merge(notes, &one, err);
    uz_notes_free(&one);
    return rc;
}
