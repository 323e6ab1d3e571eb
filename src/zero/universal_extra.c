/* SPDX-License-Identifier: Apache-2.0 */
/* A walk without recursion. */
#include "zero/universal_extra.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/file.h"
#include "base/order.h"

struct walk {
    const char *dir;
    char **todo; /* folders in it, by path from it; "" is itself */
    size_t n_todo, cap_todo;
    uint64_t n_seen, max_seen;
    char **extra;
    size_t n_extra, cap_extra;
    const struct uz_model *model;
    struct uz_map *known; /* aliases */
};

static int push(char ***items, size_t *n, size_t *cap, char *item, struct uz_error *err)
{
    int rc = item ? uz_reserve(items, cap, (uint64_t)*n + 1, sizeof **items, err)
                  : uz_fail_nomem(err, 0);
    if (rc < 0) {
        free(item);
        return rc;
    }
    (*items)[(*n)++] = item;
    return UZ_OK;
}

static char *join_names(const char *folder, const char *name)
{
    return *folder ? uz_path_join(folder, name) : strdup(name);
}

/* A folder that the walk is in. */
struct place {
    struct walk *walk;
    const char *folder; /* by path from the walk's */
    const char *path;
};

static int look_at(void *cookie, const char *name, struct uz_error *err)
{
    const struct place *place = cookie;
    struct walk *w = place->walk;
    const char *folder = place->folder, *path = place->path;
    struct stat st;
    uint32_t tensor;
    if (!strcmp(name, "fp32.pt") && *folder) {
        if (uz_model_find(w->model, folder, strlen(folder), &tensor) ||
            uz_map_get(w->known, folder, strlen(folder), NULL))
            return UZ_OK;
        return push(&w->extra, &w->n_extra, &w->cap_extra, strdup(folder), err);
    }
    char *inner = uz_path_join(path, name);
    if (!inner)
        return uz_fail_nomem(err, strlen(path));
    bool is_folder = lstat(inner, &st) == 0 && S_ISDIR(st.st_mode);
    free(inner);
    if (!is_folder)
        return UZ_OK;
    if (++w->n_seen > w->max_seen)
        return uz_fail_at(err, UZ_LIMIT, w->dir, UZ_NO_OFFSET, "holds more than %llu folders",
                          (unsigned long long)w->max_seen);
    return push(&w->todo, &w->n_todo, &w->cap_todo, join_names(folder, name), err);
}

static int list_folder(struct walk *w, const char *folder, struct uz_error *err)
{
    char *path = *folder ? uz_path_join(w->dir, folder) : strdup(w->dir);
    if (!path)
        return uz_fail_nomem(err, strlen(w->dir));
    struct place place = {w, folder, path};
    int rc = uz_each_entry(path, look_at, &place, err);
    free(path);
    return rc;
}

static int walk_all(struct walk *w, struct uz_model *model, struct uz_universal_names *names,
                    struct uz_error *err)
{
    for (size_t i = 0; i < model->n_aliases; i++)
        UZ_TRY(uz_map_add(w->known, model->aliases[i].name, strlen(model->aliases[i].name), i, NULL,
                          err));
    UZ_TRY(push(&w->todo, &w->n_todo, &w->cap_todo, strdup(""), err));
    while (w->n_todo > 0) {
        char *folder = w->todo[--w->n_todo];
        int rc = list_folder(w, folder, err);
        free(folder);
        UZ_TRY(rc);
    }
    if (w->n_extra > 1)
        qsort(w->extra, w->n_extra, sizeof *w->extra, uz_compare_texts);
    for (size_t i = 0; i < w->n_extra; i++)
        UZ_TRY(uz_universal_add_name(names, model, w->extra[i], strlen(w->extra[i]), err));
    return UZ_OK;
}

int uz_universal_list_extra(const char *dir, struct uz_model *model,
                            struct uz_universal_names *names, struct uz_error *err)
{
    struct walk w = {
        .dir = dir, .max_seen = model->max_tensors, .model = model, .known = uz_map_new()};
    int rc = w.known ? walk_all(&w, model, names, err) : uz_fail_nomem(err, sizeof w);
    for (size_t i = 0; i < w.n_todo; i++)
        free(w.todo[i]);
    for (size_t i = 0; i < w.n_extra; i++)
        free(w.extra[i]);
    free(w.todo);
    free(w.extra);
    uz_map_free(w.known);
    return rc;
}
