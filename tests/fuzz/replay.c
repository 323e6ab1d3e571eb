/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds files to a fuzz target without libFuzzer, so that a corpus is a test for any compiler. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes);

enum {
    MAX_PATH_NBYTES = 4096,
    MAX_SECONDS = 10, /* for one file */
};

static unsigned n_files;

static bool fail(const char *path)
{
    perror(path);
    return false;
}

static bool replay_file(const char *path)
{
    struct stat st;
    FILE *from = fopen(path, "rb");
    if (!from || fstat(fileno(from), &st) < 0) {
        if (from)
            (void)fclose(from);
        return fail(path);
    }
    /* Exactly as large as the file, so that a sanitizer sees what reads behind its end. */
    size_t nbytes = (size_t)st.st_size;
    uint8_t *data = malloc(nbytes > 0 ? nbytes : 1);
    bool good = data && fread(data, 1, nbytes, from) == nbytes;
    (void)fclose(from);
    if (good) {
        (void)fprintf(stderr, "%s\n", path); /* the last one named is the one that crashed */
        (void)alarm(MAX_SECONDS);
        LLVMFuzzerTestOneInput(data, nbytes);
        (void)alarm(0);
        n_files++;
    }
    free(data);
    return good || fail(path);
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static bool replay_folder(const char *path)
{
    struct dirent **entries;
    int n = scandir(path, &entries, visible, alphasort);
    bool good = n >= 0;
    for (int i = 0; i < n; i++) {
        char file[MAX_PATH_NBYTES];
        int length = snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
        struct stat st;
        bool folder = stat(file, &st) == 0 && S_ISDIR(st.st_mode); /* of swap files */
        if (!folder)
            good = length > 0 && length < MAX_PATH_NBYTES && replay_file(file) && good;
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return good || fail(path);
}

int main(int argc, char **argv)
{
    bool good = true;
    for (int i = 1; i < argc; i++) {
        struct stat st;
        bool folder = stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode);
        good = (folder ? replay_folder(argv[i]) : replay_file(argv[i])) && good;
    }
    printf("%u files\n", n_files);
    return good && n_files > 0 ? 0 : 1;
}
