/* SPDX-License-Identifier: Apache-2.0 */
/* A folder for a test's files, and small helpers on paths. */
#ifndef UZ_TESTS_SCRATCH_H
#define UZ_TESTS_SCRATCH_H

#include <dirent.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_NBYTES = 4096 };

/* printf into a path. Returns buf; a path that does not fit ends the program. */
__attribute__((format(printf, 2, 3))) static inline const char *path_of(char buf[PATH_NBYTES],
                                                                        const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(buf, PATH_NBYTES, format, args);
    va_end(args);
    if (n < 0 || n >= PATH_NBYTES)
        abort();
    return buf;
}

static char scratch_dir[PATH_NBYTES];

static inline int scratch_remove_one(const char *path, const struct stat *st, int type,
                                     struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

/* Removes a file or a whole folder; one that is not there is fine. */
static inline void remove_tree(const char *path)
{
    (void)nftw(path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void scratch_remove(void)
{
    if (scratch_dir[0])
        remove_tree(scratch_dir);
    scratch_dir[0] = '\0';
}

/* Makes scratch_dir under $TMPDIR, or /tmp; it is removed when the program exits. */
static inline void scratch_make(void)
{
    const char *tmp = getenv("TMPDIR");
    path_of(scratch_dir, "%s/unzero-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(scratch_dir) || atexit(scratch_remove) != 0) {
        perror(scratch_dir);
        exit(99);
    }
}

static inline bool path_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* Entries of a folder, hidden ones too; 0 if it cannot be listed. */
static inline size_t count_entries(const char *path)
{
    DIR *dir = opendir(path);
    size_t n = 0;
    if (!dir)
        return 0;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    return n;
}

static inline bool write_file(const char *path, const void *data, size_t nbytes)
{
    FILE *to = fopen(path, "wb");
    if (!to)
        return false;
    bool good = nbytes == 0 || fwrite(data, 1, nbytes, to) == nbytes;
    return fclose(to) == 0 && good;
}

/* A whole file, terminated with '\0', to be freed; NULL if it cannot be read. */
static inline char *slurp(const char *path, size_t *nbytes)
{
    FILE *from = fopen(path, "rb");
    struct stat st;
    char *data = NULL;
    if (!from)
        return NULL;
    if (fstat(fileno(from), &st) == 0 && S_ISREG(st.st_mode))
        data = malloc((size_t)st.st_size + 1);
    if (data) {
        size_t n = fread(data, 1, (size_t)st.st_size, from);
        data[n] = '\0';
        if (nbytes)
            *nbytes = n;
    }
    (void)fclose(from);
    return data;
}

#endif
