/* SPDX-License-Identifier: Apache-2.0 */
/* Two manifests: what was written once, and what is there now. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "check/manifest_make.h"
#include "layout/shape_text.h"

/* Findings of one kind that are told one by one. */
enum { MAX_TOLD = 64 };

struct comparer {
    struct uz_verify_run *run;
    const struct uz_manifest *want, *have;
    struct uz_map *second_names; /* of `have`: alias -> index of its aliases */
    bool *matched;               /* tensors of `have` */
    size_t n_told[UZ_FIND_COUNT];
    size_t n_cast; /* equal in another dtype */
    size_t n_states_left;
    const struct uz_manifest_tensor *first_cast, *first_cast_want;
};

static int tell(struct comparer *c, enum uz_find what, const char *file, const char *tensor,
                struct uz_error *err, const char *message)
{
    struct uz_where where = UZ_NOWHERE;
    where.file = file;
    where.tensor = tensor;
    return ++c->n_told[what] > MAX_TOLD
               ? UZ_OK
               : uz_find(&c->run->findings, what, &where, err, "%s", message);
}

static int tell_rest(struct comparer *c, struct uz_error *err)
{
    struct uz_where where = UZ_NOWHERE;
    where.file = c->run->dir;
    for (enum uz_find what = 0; what < UZ_FIND_COUNT; what++)
        if (c->n_told[what] > MAX_TOLD)
            UZ_TRY(uz_find(&c->run->findings, what, &where, err, "the same of %zu more",
                           c->n_told[what] - MAX_TOLD));
    return UZ_OK;
}

/* ---- Which tensor is which ---- */

static const struct uz_manifest_tensor *find_alias(const struct comparer *c, const char *name)
{
    uint64_t index;
    return uz_map_get(c->second_names, name, strlen(name), &index)
               ? uz_manifest_find(c->have, c->have->aliases[index].of)
               : NULL;
}

/* Files that hold weights and states call the weights "fp32/<name>". */
static const struct uz_manifest_tensor *find_prefixed(const struct comparer *c, const char *name)
{
    const struct uz_manifest_tensor *found = NULL;
    size_t n = strlen(name) + sizeof "fp32/";
    char *prefixed = malloc(n);
    if (prefixed) {
        (void)snprintf(prefixed, n, "fp32/%s", name);
        found = uz_manifest_find(c->have, prefixed);
    }
    free(prefixed);
    return found;
}

/* The tensor by its name, by a second name that either side knows. */
static const struct uz_manifest_tensor *find(const struct comparer *c,
                                             const struct uz_manifest_tensor *want)
{
    const struct uz_manifest_tensor *found = uz_manifest_find(c->have, want->name);
    if (!found)
        found = find_alias(c, want->name);
    for (size_t i = 0; !found && i < c->want->n_aliases; i++)
        if (!strcmp(c->want->aliases[i].of, want->name))
            found = uz_manifest_find(c->have, c->want->aliases[i].name);
    return found || want->is_state ? found : find_prefixed(c, want->name);
}

/* ---- One tensor ---- */

static bool same_text(const char *a, const char *b)
{
    return a && b && !strcmp(a, b);
}

/* The values must be those of the manifest, cast to the dtype that is here. */
static int compare_cast(struct comparer *c, const struct uz_manifest_tensor *want,
                        const struct uz_manifest_tensor *have, struct uz_error *err)
{
    char message[200];
    bool castable = uz_dtype_is_castable(want->dtype) && uz_dtype_is_castable(have->dtype);
    if (same_text(uz_manifest_digest(want, have->dtype), uz_manifest_digest(have, have->dtype))) {
        c->first_cast = c->n_cast ? c->first_cast : have;
        c->first_cast_want = c->n_cast ? c->first_cast_want : want;
        c->n_cast++;
        return UZ_OK;
    }
    bool rounds =
        same_text(uz_manifest_digest(want, want->dtype), uz_manifest_digest(have, want->dtype));
    (void)snprintf(message, sizeof message,
                   rounds     ? "%s here, whose values round to the manifest's %s, but are not them"
                   : castable ? "%s here, and not the manifest's %s cast to it"
                              : "%s here, which cannot be compared with the manifest's %s",
                   uz_dtype_name(have->dtype), uz_dtype_name(want->dtype));
    return tell(c, castable ? UZ_FIND_TENSOR_DIFFERS : UZ_FIND_OTHER_DTYPE, NULL, want->name, err,
                message);
}

static int compare_tensor(struct comparer *c, const struct uz_manifest_tensor *want,
                          const struct uz_manifest_tensor *have, struct uz_error *err)
{
    char message[400], here[160], there[160];
    c->matched[have - c->have->tensors] = true;
    if (have->n_digests == 0)
        return UZ_OK; /* could not be read, which was told */
    if (!uz_same_shape(want->ndim, want->shape, have->ndim, have->shape)) {
        (void)snprintf(message, sizeof message, "of shape %s, the manifest says %s",
                       uz_shape_text(here, sizeof here, have->ndim, have->shape, 0),
                       uz_shape_text(there, sizeof there, want->ndim, want->shape, 0));
        return tell(c, UZ_FIND_OTHER_SHAPE, NULL, want->name, err, message);
    }
    if (want->dtype != have->dtype)
        return compare_cast(c, want, have, err);
    if (same_text(uz_manifest_digest(want, want->dtype), uz_manifest_digest(have, have->dtype))) {
        c->run->n_same_tensors++;
        return UZ_OK;
    }
    return tell(c, UZ_FIND_TENSOR_DIFFERS, NULL, want->name, err,
                "the values are not those of the manifest");
}

static int compare_tensors(struct comparer *c, struct uz_error *err)
{
    for (size_t i = 0; i < c->want->n_tensors; i++) {
        const struct uz_manifest_tensor *want = &c->want->tensors[i], *have = find(c, want);
        if (have)
            UZ_TRY(compare_tensor(c, want, have, err));
        else if (want->is_state && !c->have->has_states)
            c->n_states_left++;
        else
            UZ_TRY(tell(c, UZ_FIND_TENSOR_MISSING, NULL, want->name, err,
                        "the manifest has this tensor, it is not here"));
    }
    return UZ_OK;
}

/* A second name in the manifest that is a tensor of its own here. */
static const struct uz_manifest_tensor *untied(const struct comparer *c, const char *name)
{
    for (size_t i = 0; i < c->want->n_aliases; i++)
        if (!strcmp(c->want->aliases[i].name, name))
            return uz_manifest_find(c->want, c->want->aliases[i].of);
    return NULL;
}

static int find_surplus(struct comparer *c, struct uz_error *err)
{
    for (size_t i = 0; i < c->have->n_tensors; i++) {
        const struct uz_manifest_tensor *have = &c->have->tensors[i];
        if (c->matched[i])
            continue;
        const struct uz_manifest_tensor *want = untied(c, have->name);
        if (want)
            UZ_TRY(compare_tensor(c, want, have, err));
        else if (have->is_state && !c->want->has_states)
            c->n_states_left++;
        else
            UZ_TRY(tell(c, UZ_FIND_TENSOR_SURPLUS, NULL, have->name, err,
                        "the manifest does not know this tensor"));
    }
    return UZ_OK;
}

/* ---- Files ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct uz_manifest_file *)a)->name,
                  ((const struct uz_manifest_file *)b)->name);
}

/* A sorted copy. */
static int sort_files(const struct uz_manifest *m, struct uz_manifest_file **files,
                      struct uz_error *err)
{
    UZ_TRY(uz_alloc(files, m->n_files, sizeof **files, err));
    memcpy(*files, m->files, m->n_files * sizeof **files);
    qsort(*files, m->n_files, sizeof **files, by_name);
    return UZ_OK;
}

static bool same_names(const struct uz_manifest_file *a, const struct uz_manifest_file *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(a[i].name, b[i].name) != 0)
            return false;
    return true;
}

static int compare_sorted(struct comparer *c, const struct uz_manifest_file *want,
                          const struct uz_manifest_file *have, struct uz_error *err)
{
    char message[160];
    size_t n = c->want->n_files;
    if (n != c->have->n_files || !same_names(want, have, n)) {
        (void)snprintf(message, sizeof message,
                       "%zu files, called otherwise than the %zu of the manifest: tensors alone "
                       "were compared",
                       c->have->n_files, n);
        return tell(c, UZ_FIND_OTHER_FILES, c->run->dir, NULL, err, message);
    }
    for (size_t i = 0; i < n; i++) {
        if (!*have[i].text)
            continue; /* could not be read, which was told */
        if (same_text(want[i].text, have[i].text)) {
            c->run->n_same_files++;
            continue;
        }
        char *path = uz_path_join(c->run->dir, have[i].name);
        int rc = path ? tell(c, UZ_FIND_FILE_DIFFERS, path, NULL, err,
                             "its bytes are not those of the manifest")
                      : uz_fail_nomem(err, 0);
        free(path);
        UZ_TRY(rc);
    }
    return UZ_OK;
}

static int compare_files(struct comparer *c, struct uz_error *err)
{
    struct uz_manifest_file *want = NULL, *have = NULL;
    int rc = sort_files(c->want, &want, err);
    if (rc == UZ_OK)
        rc = sort_files(c->have, &have, err);
    if (rc == UZ_OK)
        rc = compare_sorted(c, want, have, err);
    free(want);
    free(have);
    return rc;
}

/* ---- The whole ---- */

static int tell_summary(struct comparer *c, struct uz_error *err)
{
    char message[300];
    c->run->n_same_tensors += c->n_cast;
    if (c->n_cast > 0) {
        (void)snprintf(
            message, sizeof message,
            "%zu tensor%s of another dtype, and equal in the coarser one; %s is %s here, "
            "%s in the manifest",
            c->n_cast, c->n_cast == 1 ? " is" : "s are", c->first_cast->name,
            uz_dtype_name(c->first_cast->dtype), uz_dtype_name(c->first_cast_want->dtype));
        UZ_TRY(tell(c, UZ_FIND_ROUNDED, c->run->dir, NULL, err, message));
    }
    if (c->n_states_left > 0) {
        (void)snprintf(message, sizeof message,
                       "%zu optimizer states were not compared: %s has none", c->n_states_left,
                       c->want->has_states ? "this" : "the manifest");
        UZ_TRY(tell(c, UZ_FIND_NO_STATES, c->run->dir, NULL, err, message));
    }
    return tell_rest(c, err);
}

static int compare(struct comparer *c, struct uz_error *err)
{
    UZ_TRY(uz_alloc(&c->matched, c->have->n_tensors, sizeof *c->matched, err));
    for (size_t i = 0; i < c->have->n_aliases; i++)
        UZ_TRY(uz_map_add(c->second_names, c->have->aliases[i].name,
                          strlen(c->have->aliases[i].name), i, NULL, err));
    UZ_TRY(compare_tensors(c, err));
    UZ_TRY(find_surplus(c, err));
    UZ_TRY(compare_files(c, err));
    return tell_summary(c, err);
}

int uz_manifest_compare(struct uz_verify_run *run, const struct uz_manifest *want,
                        const struct uz_manifest *have, struct uz_error *err)
{
    struct comparer c = {.run = run, .want = want, .have = have, .second_names = uz_map_new()};
    int rc = c.second_names ? compare(&c, err) : uz_fail_nomem(err, sizeof c);
    uz_map_free(c.second_names);
    free(c.matched);
    return rc;
}
