/* SPDX-License-Identifier: Apache-2.0 */
/* Files of Hugging Face's libraries, by the names that transformers gives them. */
#include "convert/companions.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/dir.h"
#include "base/file.h"
#include "base/mem.h"

#define CONFIG "config.json"

/* A tokenizer of 35 MB is the largest of the well-known models. */
enum { MAX_NBYTES = 256 * 1024 * 1024 };

/*
 * transformers: CONFIG_NAME, GENERATION_CONFIG_NAME, FEATURE_EXTRACTOR_NAME, PROCESSOR_NAME and
 * CHAT_TEMPLATE_FILE (utils/__init__.py), the names in tokenization_utils_base.py and the
 * vocab_files_names of its tokenizers. Not among them: code, a trainer's state, and the
 * configuration of adapters, which would make a loader look for adapters.
 */
static const char *const known[] = {
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "chat_template.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
};

enum { N_KNOWN = sizeof known / sizeof known[0] };

/* malloc'ed root of the checkpoint: itself, or what holds the tag folder. */
static char *find_root(const char *checkpoint, const char *tag)
{
    char *tagged = uz_path_join(checkpoint, tag);
    if (!tagged)
        return NULL;
    bool is_root = uz_is_dir(tagged);
    free(tagged);
    return is_root ? strdup(checkpoint) : uz_path_join(checkpoint, "..");
}

static bool is_same_folder(const char *a, const char *b)
{
    struct stat sa, sb;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

static int has_file(const char *dir, const char *name, bool *yes, struct uz_error *err)
{
    struct stat st;
    char *path = uz_path_join(dir, name);
    if (!path)
        return uz_fail_nomem(err, strlen(dir));
    *yes = stat(path, &st) == 0 && S_ISREG(st.st_mode);
    free(path);
    return UZ_OK;
}

int uz_companions_have_config(const char *dir, bool *yes, struct uz_error *err)
{
    return has_file(dir, CONFIG, yes, err);
}

int uz_companions_find(struct uz_companions *companions, const char *checkpoint, const char *tag,
                       const char *out_dir, struct uz_error *err)
{
    *companions = (struct uz_companions){.dir = find_root(checkpoint, tag)};
    if (!companions->dir)
        return uz_fail_nomem(err, strlen(checkpoint));
    UZ_TRY(uz_alloc(&companions->names, N_KNOWN, sizeof *companions->names, err));
    if (is_same_folder(companions->dir, out_dir))
        return UZ_OK;
    for (size_t i = 0; i < N_KNOWN; i++) {
        bool there;
        UZ_TRY(has_file(companions->dir, known[i], &there, err));
        if (there)
            companions->names[companions->n++] = known[i];
    }
    return UZ_OK;
}

static int copy(struct uz_out_file *file, const char *dir, const char *name, struct uz_error *err)
{
    size_t nbytes;
    char *path = uz_path_join(dir, name);
    *file = (struct uz_out_file){.name = strdup(name)};
    int rc = path && file->name ? uz_read_file(path, MAX_NBYTES, &file->head, &nbytes, err)
                                : uz_fail_nomem(err, strlen(name));
    free(path);
    UZ_TRY(rc);
    file->head_nbytes = file->nbytes = nbytes;
    return UZ_OK;
}

int uz_companions_add(const struct uz_companions *companions, struct uz_out *out,
                      struct uz_error *err)
{
    size_t n = companions->n, n_all = n + out->n_files;
    struct uz_out_file *files = reallocarray(out->files, n_all, sizeof *files);
    if (!files)
        return uz_fail_nomem(err, n_all * sizeof *files);
    memmove(files + n, files, out->n_files * sizeof *files);
    memset(files, 0, n * sizeof *files);
    out->files = files;
    out->n_files = out->cap_files = n_all;
    for (size_t i = 0; i < n; i++)
        UZ_TRY(copy(&files[i], companions->dir, companions->names[i], err));
    return UZ_OK;
}

void uz_companions_free(struct uz_companions *companions)
{
    free(companions->dir);
    free(companions->names);
    *companions = (struct uz_companions){0};
}
