/* SPDX-License-Identifier: Apache-2.0 */
/* Weight files: which there are, and what each holds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/file.h"
#include "check/verify_weights.h"
#include "input/kind.h"
#include "input/weights.h"

/* ---- Names of shards ---- */

/* STEM-00001-of-00003.EXTENSION */
struct numbered {
    size_t n_stem;
    const char *end; /* of the name, from the dot on */
    uint32_t part, of;
};

static bool take_digits(const char **at, uint32_t *number)
{
    const char *p = *at;
    for (*number = 0; *p >= '0' && *p <= '9' && *number < 10000000; p++)
        *number = *number * 10 + (uint32_t)(*p - '0');
    bool any = p != *at;
    *at = p;
    return any;
}

static bool parse_numbered(const char *name, struct numbered *found)
{
    for (const char *of = strstr(name, "-of-"); of; of = strstr(of + 1, "-of-")) {
        const char *first = of, *after = of + strlen("-of-");
        while (first > name && first[-1] >= '0' && first[-1] <= '9')
            first--;
        const char *digits = first;
        if (first == of || first == name || first[-1] != '-' ||
            !take_digits(&digits, &found->part) || digits != of ||
            !take_digits(&after, &found->of) || *after != '.')
            continue;
        found->n_stem = (size_t)(first - 1 - name);
        found->end = after;
        return true;
    }
    return false;
}

static bool same_family(const char *a, const struct numbered *x, const char *b,
                        const struct numbered *y)
{
    return x->n_stem == y->n_stem && !memcmp(a, b, x->n_stem) && !strcmp(x->end, y->end);
}

/* ---- A folder with an index ---- */

/* Something about the index itself. */
static int tell(struct uz_verify_run *run, enum uz_find what, const char *file, const char *message,
                struct uz_error *err)
{
    struct uz_where where = UZ_NOWHERE;
    where.file = file;
    return uz_find(&run->findings, what, &where, err, "%s", message);
}

static int add_indexed(struct uz_verify_run *run, const char *name, struct uz_error *err)
{
    struct stat st;
    struct uz_record *record;
    char *path = uz_path_join(run->dir, name);
    if (!path)
        return uz_fail_nomem(err, strlen(name));
    int rc = lstat(path, &st) < 0 ? tell(run, UZ_FIND_MISSING_FILE, path,
                                         "the index names this file, which is not there", err)
                                  : uz_verify_add_loose(run, path, &record, err);
    free(path);
    return rc;
}

/* A name in the folder that readers could take for one of the index's files. */
static int find_stale(void *cookie, const char *name, struct uz_error *err)
{
    struct uz_verify_run *run = cookie;
    const struct uz_weight_index *index = run->index;
    struct numbered here, there;
    const char *index_name = uz_path_name(run->index_path);
    size_t n_single = strlen(index_name) - strlen(".index.json");
    bool shadows = strlen(name) == n_single && !memcmp(name, index_name, n_single);
    if (uz_map_get(index->file_numbers, name, strlen(name), NULL))
        return UZ_OK;
    bool stale = shadows;
    for (size_t i = 0; i < index->n_files && !stale && parse_numbered(name, &here); i++)
        stale = parse_numbered(index->files[i], &there) &&
                same_family(name, &here, index->files[i], &there);
    if (!stale)
        return UZ_OK;
    char *path = uz_path_join(run->dir, name);
    if (!path)
        return uz_fail_nomem(err, strlen(name));
    int rc = tell(run, UZ_FIND_STALE_FILE, path,
                  shadows ? "transformers reads this file in place of those that the index names"
                          : "is called like the files of the index, which does not name it",
                  err);
    free(path);
    return rc;
}

static int list_index(struct uz_verify_run *run, const char *path, struct uz_error *err)
{
    struct uz_error why = {0};
    struct uz_where where = UZ_NOWHERE;
    run->index_path = strdup(path);
    if (!run->index_path)
        return uz_fail_nomem(err, strlen(path));
    UZ_TRY(uz_alloc(&run->index, 1, sizeof *run->index, err));
    where.file = path;
    int rc = uz_weight_index_read(run->index, path, &run->options->input.limits, &why);
    if (rc == UZ_NOMEM)
        return uz_fail_nomem(err, 0);
    run->has_index = rc == UZ_OK;
    if (rc < 0)
        return uz_find(&run->findings, UZ_FIND_BAD_INDEX, &where, err, "%s", why.message);
    for (size_t i = 0; i < run->index->n_files; i++)
        UZ_TRY(add_indexed(run, run->index->files[i], err));
    return uz_each_entry(run->dir, find_stale, run, err);
}

/* ---- Folders without one ---- */

/* Names that are numbered, but not all of them are there. */
static int find_gaps(struct uz_verify_run *run, const struct uz_located *located,
                     const struct numbered *first, struct uz_error *err)
{
    const char *model = uz_path_name(located->files[0]);
    bool *there;
    int rc = UZ_OK;
    UZ_TRY(uz_alloc(&there, (uint64_t)first->of + 1, sizeof *there, err));
    for (size_t i = 0; i < located->n_files; i++) {
        const char *name = uz_path_name(located->files[i]);
        struct numbered found;
        if (parse_numbered(name, &found) && same_family(name, &found, model, first) &&
            found.part <= first->of)
            there[found.part] = true;
    }
    for (uint32_t part = 1, n = 0; rc == UZ_OK && part <= first->of && n < 8; part++) {
        char name[512];
        if (there[part])
            continue;
        n++;
        (void)snprintf(name, sizeof name, "%s/%.*s-%05u-of-%05u%s", run->dir, (int)first->n_stem,
                       model, part, first->of, first->end);
        rc = tell(run, UZ_FIND_MISSING_FILE, name,
                  "other files of its numbers are there, it is not", err);
    }
    free(there);
    return rc;
}

static int list_folder(struct uz_verify_run *run, const struct uz_located *located,
                       struct uz_error *err)
{
    struct numbered found;
    struct uz_record *record;
    for (size_t i = 0; i < located->n_files; i++)
        UZ_TRY(uz_verify_add_loose(run, located->files[i], &record, err));
    if (located->n_files == 0 || !parse_numbered(uz_path_name(located->files[0]), &found))
        return UZ_OK;
    UZ_TRY(tell(run, UZ_FIND_BAD_INDEX, run->dir,
                "there is no *.index.json, by which the numbered files are found", err));
    return find_gaps(run, located, &found, err);
}

/* ---- The whole ---- */

static int set_dir(struct uz_verify_run *run, const char *path, struct uz_error *err)
{
    size_t n = (size_t)(uz_path_name(path) - path);
    run->dir = uz_is_dir(path) ? strdup(path) : n ? strndup(path, n) : strdup(".");
    return run->dir ? UZ_OK : uz_fail_nomem(err, strlen(path));
}

int uz_verify_list_weights(struct uz_verify_run *run, const char *path, struct uz_error *err)
{
    struct uz_located located;
    struct uz_record *record;
    int rc = uz_input_locate(&located, path, run->options->input.tag, err);
    if (rc == UZ_OK)
        rc = set_dir(run, path, err);
    run->is_safetensors = located.kind == UZ_INPUT_SAFETENSORS ||
                          (located.kind == UZ_INPUT_FOLDER && !located.is_torch);
    if (rc == UZ_OK && located.kind == UZ_INPUT_FOLDER)
        rc = uz_verify_find_leftovers(run, run->dir, err);
    if (rc == UZ_OK && located.index)
        rc = list_index(run, located.index, err);
    else if (rc == UZ_OK && located.kind == UZ_INPUT_FOLDER)
        rc = list_folder(run, &located, err);
    else if (rc == UZ_OK)
        rc = uz_verify_add_loose(run, path, &record, err);
    uz_located_free(&located);
    return rc;
}

static int read_names(struct uz_verify_run *run, struct uz_record *record, struct uz_model *model,
                      struct uz_error *why)
{
    struct uz_notes notes = {0};
    struct uz_weights weights = {model, &notes, &run->options->input.limits};
    int rc = run->is_safetensors ? uz_weights_add_safetensors(&weights, record->path, why)
                                 : uz_weights_add_torch(&weights, record->path, why);
    uz_notes_free(&notes);
    return rc;
}

int uz_verify_read_weights(struct uz_verify_run *run, struct uz_record *record,
                           struct uz_error *why)
{
    struct uz_model *model;
    UZ_TRY(uz_alloc(&model, 1, sizeof *model, why));
    int rc = uz_model_init(model, &run->options->input.limits, why);
    if (rc < 0) {
        free(model);
        return rc;
    }
    rc = read_names(run, record, model, why);
    if (rc == UZ_OK) {
        record->weights = model;
        return UZ_OK;
    }
    uz_model_free(model);
    free(model);
    return rc;
}
