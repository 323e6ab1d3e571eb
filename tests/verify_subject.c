/* SPDX-License-Identifier: Apache-2.0 */
/* Copies fixtures. */
#include "verify_subject.h"

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct subject_file *)a)->name, ((const struct subject_file *)b)->name);
}

static bool load_files(struct subject *s)
{
    char path[PATH_NBYTES];
    DIR *dir = opendir(path_of(path, "%s/%s", s->fixture, s->tag));
    if (!dir)
        return false;
    for (const struct dirent *entry; (entry = readdir(dir));) {
        struct subject_file *file = &s->files[s->n_files];
        if (!strstr(entry->d_name, "_states.pt") || s->n_files == SUBJECT_MAX_FILES)
            continue;
        (void)snprintf(file->name, sizeof file->name, "%.120s", entry->d_name);
        path_of(path, "%s/%s/%s", s->fixture, s->tag, entry->d_name);
        file->data = (uint8_t *)slurp(path, &file->nbytes);
        if (!file->data || !zip_map_make(&file->map, file->data, file->nbytes))
            break;
        s->n_files++;
    }
    closedir(dir);
    qsort(s->files, s->n_files, sizeof *s->files, compare_names);
    return s->n_files > 0;
}

static void tell_files_apart(struct subject *s)
{
    s->model = s->expert = s->optim0 = s->optim1 = -1;
    for (size_t i = 0; i < s->n_files; i++) {
        const char *name = s->files[i].name;
        if (!strncmp(name, "layer_", 6)) {
            s->expert = strstr(name, "_expert_") ? (int)i : s->expert;
        } else if (strstr(name, "_model_states")) {
            s->is_stage3 |= strstr(name, "zero_pp_rank") != NULL;
            s->model = s->model < 0 ? (int)i : s->model;
        } else if (strstr(name, "zero_pp_rank_0_mp_rank_00_optim")) {
            s->optim0 = (int)i;
        } else if (strstr(name, "zero_pp_rank_1_mp_rank_00_optim")) {
            s->optim1 = (int)i;
        }
    }
    s->has_copies = !s->is_stage3;
}

bool subject_open(struct subject *subject, const char *fixture, const char *root)
{
    char path[PATH_NBYTES];
    *subject = (struct subject){.fixture = fixture};
    char *tag = slurp(path_of(path, "%s/latest", fixture), NULL);
    if (!tag)
        return false;
    tag[strcspn(tag, " \r\n")] = '\0';
    (void)snprintf(subject->tag, sizeof subject->tag, "%.120s", tag);
    free(tag);
    path_of(subject->root, "%s", root);
    path_of(subject->dir, "%s/%s", root, subject->tag);
    path_of(subject->latest, "%s/latest", root);
    if (!load_files(subject))
        return false;
    tell_files_apart(subject);
    subject_restore(subject);
    return true;
}

void subject_close(struct subject *subject)
{
    for (size_t i = 0; i < subject->n_files; i++)
        free(subject->files[i].data);
    remove_tree(subject->root);
}

bool subject_put(const struct subject *subject, const char *name, const void *data, size_t nbytes)
{
    char path[PATH_NBYTES];
    path_of(path, "%s/%s", subject->dir, name);
    (void)unlink(path);
    return write_file(path, data, nbytes);
}

void subject_restore(struct subject *s)
{
    remove_tree(s->root);
    if (mkdir(s->root, 0755) < 0 || mkdir(s->dir, 0755) < 0 ||
        !write_file(s->latest, s->tag, strlen(s->tag)))
        abort();
    for (size_t i = 0; i < s->n_files; i++)
        if (!subject_put(s, s->files[i].name, s->files[i].data, s->files[i].nbytes))
            abort();
    memset(s->blamed, 0, sizeof s->blamed);
}
