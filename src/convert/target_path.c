/* SPDX-License-Identifier: Apache-2.0 */
/* Tells folders from files by what is there, then by the name's ending. */
#include "convert/target_path.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n > n_end && !strcmp(text + n - n_end, end);
}

bool uz_is_safetensors_model_file(const char *name)
{
    static const char *const patterns[] = {
        "model.safetensors",
        "model.safetensors.index.json",
        "model-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].safetensors",
    };
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
        if (fnmatch(patterns[i], name, 0) == 0)
            return true;
    return false;
}

static int split_file(struct uz_target_path *target, const char *out, struct uz_error *err)
{
    const char *name = uz_path_name(out);
    size_t n_dir = (size_t)(name - out);
    target->file_name = strdup(name);
    target->dir = n_dir ? strndup(out, n_dir) : strdup(".");
    if (!target->file_name || !target->dir ||
        asprintf(&target->staging, ".unzero-partial.%s", name) < 0)
        return uz_fail_nomem(err, strlen(out));
    return UZ_OK;
}

int uz_target_path_parse(struct uz_target_path *target, const char *out, struct uz_error *err)
{
    struct stat st;
    bool there = stat(out, &st) == 0;
    *target = (struct uz_target_path){0};
    if (!*out)
        return uz_fail(err, UZ_ARG, "the output has an empty name");
    if (!(there && S_ISDIR(st.st_mode)) && ends_with(out, ".safetensors"))
        return split_file(target, out, err);
    if (there && !S_ISDIR(st.st_mode))
        return uz_fail_at(err, UZ_ARG, out, UZ_NO_OFFSET,
                          "is a file; the output is a folder, or a file named *.safetensors");
    if (ends_with(out, ".bin") || ends_with(out, ".pt") || ends_with(out, ".pth"))
        return uz_fail_at(err, UZ_ARG, out, UZ_NO_OFFSET,
                          "looks like a PyTorch file, which is not written yet; give a folder, or "
                          "a file named *.safetensors");
    target->dir = strdup(out);
    target->staging = strdup(".unzero-partial");
    return target->dir && target->staging ? UZ_OK : uz_fail_nomem(err, strlen(out));
}

void uz_target_path_free(struct uz_target_path *target)
{
    free(target->dir);
    free(target->file_name);
    free(target->staging);
    *target = (struct uz_target_path){0};
}
