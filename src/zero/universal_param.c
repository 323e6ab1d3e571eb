/* SPDX-License-Identifier: Apache-2.0 */
/* Lists a folder and opens its small PyTorch files. */
#include "zero/universal_param.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/dir.h"
#include "base/file.h"

static const char suffix[] = ".pt", weight_name[] = "fp32", step_name[] = "step";

bool uz_universal_name_is_safe(const char *name, size_t nbytes)
{
    const char *end = name + nbytes;
    if (memchr(name, '\0', nbytes))
        return false;
    for (const char *part = name; part <= end;) {
        const char *slash = memchr(part, '/', (size_t)(end - part));
        size_t n = (size_t)((slash ? slash : end) - part);
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        if (!slash)
            return true;
        part = slash + 1;
    }
    return false;
}

static int by_name(const void *a, const void *b)
{
    const struct uz_universal_state *left = a, *right = b;
    return strcmp(left->name, right->name);
}

/* A parameter's folder that is being listed. */
struct listing {
    struct uz_universal_param *param;
    const char *folder;
};

static int add_state(void *cookie, const char *file_name, struct uz_error *err)
{
    const struct listing *listing = cookie;
    struct uz_universal_param *param = listing->param;
    const char *folder = listing->folder;
    struct uz_universal_state *state;
    struct stat st;
    size_t n = strlen(file_name), n_suffix = strlen(suffix);
    if (!uz_has_suffix(file_name, suffix))
        return UZ_OK;
    char *path = uz_path_join(folder, file_name);
    if (!path)
        return uz_fail_nomem(err, n);
    bool is_folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode); /* of another parameter */
    int rc = is_folder ? UZ_OK
                       : UZ_APPEND(param->states, param->n_states, param->cap_states, &state, err);
    if (is_folder || rc < 0) {
        free(path);
        return rc;
    }
    state->path = path;
    state->name = strndup(file_name, n - n_suffix);
    return state->name ? UZ_OK : uz_fail_nomem(err, n);
}

static int list_states(struct uz_universal_param *param, const char *folder, struct uz_error *err)
{
    struct listing listing = {param, folder};
    int rc = uz_each_entry(folder, add_state, &listing, err);
    if (param->n_states > 1)
        qsort(param->states, param->n_states, sizeof *param->states, by_name);
    return rc;
}

static bool is_true(const struct uz_node *node)
{
    int64_t value;
    return uz_node_int(node, &value) && value != 0;
}

int uz_universal_state_read(struct uz_universal_state *state, struct uz_torch_file *file,
                            struct uz_error *err)
{
    const struct uz_node *root = uz_torch_root(file), *tensor = root;
    if (uz_node_dict(root)) {
        tensor = uz_node_get_small(root, "param");
        state->whole = true;
        state->own_shape = is_true(uz_node_get_small(root, "vocab_tensor")) ||
                           is_true(uz_node_get_small(root, "is_expert_param"));
    }
    if (!tensor || !uz_torch_is_tensor(tensor)) {
        char kind[160];
        return uz_fail_at(err, UZ_CORRUPT, state->path, UZ_NO_OFFSET,
                          "holds neither a tensor nor a dictionary with a tensor 'param', but %s",
                          uz_node_describe(tensor ? tensor : root, kind, sizeof kind));
    }
    return uz_torch_tensor(file, tensor, "the tensor", &state->view, err);
}

static int read_state(struct uz_universal_state *state, const struct uz_limits *limits,
                      struct uz_error *err)
{
    struct uz_torch_file *file;
    UZ_TRY(uz_torch_open(&file, state->path, limits, err));
    int rc = uz_universal_state_read(state, file, err);
    uz_torch_close(file);
    return rc;
}

static int read_step(struct uz_universal_param *param, const char *path,
                     const struct uz_limits *limits, struct uz_error *err)
{
    struct uz_torch_file *file;
    UZ_TRY(uz_torch_open(&file, path, limits, err));
    int rc = uz_torch_number(file, uz_torch_root(file), "the step", &param->step, err);
    uz_torch_close(file);
    param->has_step = rc == UZ_OK;
    return rc;
}

static void free_state(struct uz_universal_state *state)
{
    free(state->name);
    free(state->path);
}

/* Reads step.pt, which is no state, and takes it from the list. */
static int take_step(struct uz_universal_param *param, const struct uz_limits *limits,
                     struct uz_error *err)
{
    for (size_t i = 0; i < param->n_states; i++) {
        struct uz_universal_state *state = &param->states[i];
        if (strcmp(state->name, step_name) != 0)
            continue;
        int rc = read_step(param, state->path, limits, err);
        free_state(state);
        param->n_states--;
        memmove(state, state + 1, (param->n_states - i) * sizeof *state);
        return rc;
    }
    return UZ_OK;
}

int uz_universal_param_read(struct uz_universal_param *param, const char *folder, const char *state,
                            const struct uz_limits *limits, struct uz_error *err)
{
    *param = (struct uz_universal_param){0};
    UZ_TRY(list_states(param, folder, err));
    UZ_TRY(take_step(param, limits, err));
    for (size_t i = 0; i < param->n_states; i++) {
        struct uz_universal_state *found = &param->states[i];
        found->wanted = !strcmp(found->name, weight_name) ||
                        (state && (!strcmp(state, "all") || !strcmp(state, found->name)));
        if (found->wanted)
            UZ_TRY(read_state(found, limits, err));
    }
    return UZ_OK;
}

void uz_universal_param_free(struct uz_universal_param *param)
{
    for (size_t i = 0; i < param->n_states; i++)
        free_state(&param->states[i]);
    free(param->states);
    *param = (struct uz_universal_param){0};
}

const struct uz_universal_state *uz_universal_weight(const struct uz_universal_param *param)
{
    for (size_t i = 0; i < param->n_states; i++)
        if (!strcmp(param->states[i].name, weight_name))
            return &param->states[i];
    return NULL;
}
