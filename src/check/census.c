/* SPDX-License-Identifier: Apache-2.0 */
/* The sum over files. */
#include "check/census.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/census_walk.h"
#include "check/class_origin.h"

int uz_census_init(struct uz_census *census, struct uz_error *err)
{
    *census = (struct uz_census){.arena = uz_arena_new(UINT64_MAX), .class_names = uz_map_new()};
    if (!census->arena || !census->class_names || pthread_mutex_init(&census->lock, NULL) != 0) {
        uz_map_free(census->class_names);
        uz_arena_free(census->arena);
        *census = (struct uz_census){0};
        return uz_fail_nomem(err, sizeof *census);
    }
    return UZ_OK;
}

void uz_census_free(struct uz_census *census)
{
    if (!census->arena)
        return;
    pthread_mutex_destroy(&census->lock);
    uz_map_free(census->class_names);
    uz_arena_free(census->arena);
    free(census->classes);
    free(census->contents);
    *census = (struct uz_census){0};
}

static int same_text(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

static bool same_content(const struct uz_stored *a, const struct uz_stored *b)
{
    return a->kind == b->kind && a->dtype == b->dtype && same_text(a->state, b->state);
}

static int add_content(struct uz_census *census, const struct uz_stored *content,
                       struct uz_error *err)
{
    struct uz_stored *slot = NULL;
    for (size_t i = 0; i < census->n_contents && !slot; i++)
        if (same_content(&census->contents[i], content))
            slot = &census->contents[i];
    if (!slot) {
        UZ_TRY(UZ_APPEND(census->contents, census->n_contents, census->cap_contents, &slot, err));
        slot->kind = content->kind;
        slot->dtype = content->dtype;
        if (content->state)
            UZ_TRY(uz_arena_strndup(census->arena, content->state, strlen(content->state),
                                    &slot->state, err));
    }
    slot->n_tensors += content->n_tensors;
    slot->n_elems += content->n_elems;
    slot->nbytes += content->nbytes;
    return UZ_OK;
}

int uz_census_add_content(struct uz_census *census, const struct uz_stored *content,
                          struct uz_error *err)
{
    pthread_mutex_lock(&census->lock);
    int rc = add_content(census, content, err);
    pthread_mutex_unlock(&census->lock);
    return rc;
}

/* "module.name" of a GLOBAL as it may be shown. */
static void name_class(char *buf, size_t size, const struct uz_node *global)
{
    char module[256], name[256];
    uz_printable(module, sizeof module, global->u.global.module.data,
                 global->u.global.module.nbytes);
    uz_printable(name, sizeof name, global->u.global.name.data, global->u.global.name.nbytes);
    (void)snprintf(buf, size, "%s.%s", module, name);
}

static int add_class(struct uz_census *census, const char *name, enum uz_class_origin origin,
                     struct uz_error *err)
{
    uint64_t index;
    struct uz_named_class *class;
    if (uz_map_get(census->class_names, name, strlen(name), &index)) {
        census->classes[index].n_files++;
        return UZ_OK;
    }
    index = census->n_classes;
    UZ_TRY(UZ_APPEND(census->classes, census->n_classes, census->cap_classes, &class, err));
    class->origin = origin;
    class->n_files = 1;
    UZ_TRY(uz_arena_strndup(census->arena, name, strlen(name), &class->name, err));
    return uz_map_add(census->class_names, class->name, strlen(name), index, NULL, err);
}

/* The classes of one file, each once. */
static int add_classes(struct uz_census *census, const struct uz_seq *globals, struct uz_error *err)
{
    struct uz_map *seen = uz_map_new();
    struct uz_arena *arena = uz_arena_new(UINT64_MAX);
    int rc = seen && arena ? UZ_OK : uz_fail_nomem(err, sizeof(void *));
    for (size_t i = 0; rc == UZ_OK && i < globals->n; i++) {
        char text[520];
        const char *name;
        bool present = false;
        name_class(text, sizeof text, globals->items[i]);
        if (uz_map_get(seen, text, strlen(text), NULL))
            continue;
        rc = uz_arena_strndup(arena, text, strlen(text), &name, err);
        if (rc == UZ_OK)
            rc = uz_map_add(seen, name, strlen(name), 0, &present, err);
        if (rc == UZ_OK)
            rc = add_class(census, name, uz_class_origin(globals->items[i]), err);
    }
    uz_map_free(seen);
    uz_arena_free(arena);
    return rc;
}

int uz_census_add(struct uz_census *census, struct uz_torch_file *file, enum uz_census_role role,
                  struct uz_error *fault, struct uz_error *err)
{
    struct uz_file_census found;
    uz_error_clear(fault);
    int rc = uz_census_walk(&found, file, role, fault, err);
    pthread_mutex_lock(&census->lock);
    if (rc == UZ_OK)
        rc = add_classes(census, uz_torch_globals(file), err);
    for (size_t i = 0; rc == UZ_OK && i < found.n_contents; i++)
        rc = add_content(census, &found.contents[i], err);
    if (rc == UZ_OK)
        census->dead_nbytes += found.dead_nbytes;
    pthread_mutex_unlock(&census->lock);
    uz_file_census_free(&found);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct uz_named_class *)a)->name,
                  ((const struct uz_named_class *)b)->name);
}

static int by_kind(const void *a, const void *b)
{
    const struct uz_stored *x = a, *y = b;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    int order = strcmp(x->state ? x->state : "", y->state ? y->state : "");
    if (order)
        return order;
    return x->dtype < y->dtype ? -1 : x->dtype > y->dtype;
}

void uz_census_sort(struct uz_census *census)
{
    if (census->n_classes)
        qsort(census->classes, census->n_classes, sizeof *census->classes, by_name);
    if (census->n_contents)
        qsort(census->contents, census->n_contents, sizeof *census->contents, by_kind);
}

const char *uz_stored_kind_name(enum uz_stored_kind kind)
{
    static const char *const names[] = {
        [UZ_STORED_MASTERS] = "masters", [UZ_STORED_STATE] = "state",
        [UZ_STORED_LP] = "lp",           [UZ_STORED_FROZEN] = "frozen",
        [UZ_STORED_BUFFER] = "buffer",   [UZ_STORED_WEIGHTS] = "weights",
        [UZ_STORED_OTHER] = "other",
    };
    return (size_t)kind < sizeof names / sizeof names[0] ? names[kind] : "unknown";
}
