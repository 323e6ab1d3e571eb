/* SPDX-License-Identifier: Apache-2.0 */
/* Whole reads and writes at an offset, and small helpers on paths. */
#ifndef UZ_BASE_FILE_H
#define UZ_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Opens a regular file for reading, close-on-exec; *nbytes (may be NULL) is its size. */
int uz_open_read(const char *path, int *fd, uint64_t *nbytes, struct uz_error *err);

/* Reads exactly nbytes at offset; an early end of file is UZ_CORRUPT. `path` is for messages. */
int uz_pread_all(int fd, void *buf, size_t nbytes, uint64_t offset, const char *path,
                 struct uz_error *err);

/*
 * The same for bytes that go to n_rows places of row_nbytes each, `stride` bytes from one to the
 * next: the system puts them there, without a copy in between.
 */
int uz_pread_rows(int fd, void *buf, size_t row_nbytes, uint64_t n_rows, uint64_t stride,
                  uint64_t offset, const char *path, struct uz_error *err);

/* Writes exactly nbytes at offset. */
int uz_pwrite_all(int fd, const void *buf, size_t nbytes, uint64_t offset, const char *path,
                  struct uz_error *err);

/*
 * Makes a new file of that size, with room for it where the file system can promise that: UZ_IO if
 * there is none, or if the file is there.
 */
int uz_create_file(const char *path, uint64_t nbytes, struct uz_error *err);

/* A whole small file in memory, terminated with '\0'; more than max_nbytes is UZ_LIMIT. */
int uz_read_file(const char *path, uint64_t max_nbytes, char **data, size_t *nbytes,
                 struct uz_error *err);

/* malloc'ed "dir/name"; NULL without memory. */
char *uz_path_join(const char *dir, const char *name);

bool uz_ends_with(const char *text, const char *end);

/* True if the name ends so and has something before it. */
bool uz_has_suffix(const char *name, const char *suffix);

/* The part of path after its last '/'. */
const char *uz_path_name(const char *path);

#endif
